"""The page in a real browser: no script errors, sorting, filters, keyboard, phone."""

import os
import shutil

import pytest

from perfgate.history.series import entries_of
from perfgate.report.figures.server import Trend
from perfgate.report.page import Report, build
from tests.support.judged_runs import judged
from tests.unit.report.figures.test_sparse import with_routing

BROWSER = (
    os.environ.get("PERFGATE_BROWSER")
    or shutil.which("chromium")
    or shutil.which("chromium-browser")
)


@pytest.fixture(scope="module")
def browser():
    """Chromium without a window."""
    if BROWSER is None:
        pytest.skip(
            "no chromium on PATH: install one, or name one by PERFGATE_BROWSER"
        )
    playwright = pytest.importorskip(
        "playwright.sync_api",
        reason="needs playwright, which drives the browser",
    )
    with playwright.sync_playwright() as driver:
        running = driver.chromium.launch(
            executable_path=BROWSER, args=["--no-sandbox"]
        )
        yield running
        running.close()


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A page of two runs with trends and maps of experts, on disk."""
    runs = [
        with_routing(
            judged(
                "REGRESSED",
                "PASSED",
                "INCONCLUSIVE",
                run_id=f"2026060{n}-120000-1",
            )
        )
        for n in (1, 2)
    ]
    entries = tuple(
        entry
        for run in runs
        for entry in entries_of(run)
        if entry.case == run.cases[0].id
    )
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(
        build(Report(runs, history={runs[0].cases[0].id: Trend(entries)})),
        encoding="utf-8",
    )
    return path


@pytest.fixture
def page(browser, file, request):
    """The page in a window; errors of its script and requests that leave the disk are collected."""
    width, scheme = getattr(request, "param", (1280, "light"))
    window = browser.new_page(
        viewport={"width": width, "height": 800}, color_scheme=scheme
    )
    window.troubles = []
    window.on("pageerror", lambda error: window.troubles.append(str(error)))
    window.on(
        "console",
        lambda said: (
            window.troubles.append(said.text) if said.type == "error" else None
        ),
    )
    window.on(
        "request",
        lambda asked: (
            None
            if asked.url.startswith("file:")
            else window.troubles.append(asked.url)
        ),
    )
    window.goto(file.as_uri())
    yield window
    assert [] == window.troubles
    window.close()


def first_cells(page, column=0):
    """Texts of a column, of the rows that are shown."""
    return [
        row.locator("td").nth(column).inner_text()
        for row in page.locator("#cases tbody tr:visible").all()
    ]


def test_rows_are_sorted_by_keyboard(page):
    """A column's button sorts it by the Enter key, says so to a screen reader, and back again."""
    button = page.get_by_role("button", name="verdict")
    head = page.locator("#cases th").first
    before = first_cells(page)
    button.focus()
    page.keyboard.press("Enter")
    assert ("ascending", before) == (
        head.get_attribute("aria-sort"),
        first_cells(page),
    )
    page.keyboard.press("Enter")
    assert ("descending", before[::-1]) == (
        head.get_attribute("aria-sort"),
        first_cells(page),
    )


def test_rows_are_filtered(page):
    """Words and a verdict leave the rows that have them, and the count is told."""
    page.get_by_label("Find").fill("batch-8")
    assert 1 == len(first_cells(page))
    assert "1 of 4 cases" == page.get_by_role("status").inner_text()
    page.get_by_label("Find").fill("")
    page.get_by_label("Verdict").select_option("@attention")
    assert ["✗ REGRESSED", "? INCONCLUSIVE"] == first_cells(page)


def test_figures_have_names_and_descriptions(page):
    """Each drawing is an image with an accessible name, and its numbers open as a table."""
    drawings = page.locator("svg.plot")
    assert drawings.count() >= 10
    assert drawings.count() == page.get_by_role("img").count()
    assert drawings.count() == page.get_by_role("figure").count()
    assert (
        2
        == page.get_by_role(
            "img", name="Expert load: vllm-mixtral-8x7b-tp2-routing, routing"
        ).count()
    )  # one for each run
    details = page.locator("figure details").first
    details.locator("summary").click()
    assert details.locator("table").is_visible()


@pytest.mark.parametrize(
    "page", [(390, "dark"), (390, "light"), (1280, "dark")], indirect=True
)
def test_nothing_is_wider_than_the_screen(page):
    """On a phone and on a desk, in dark and in light, nobody scrolls sideways."""
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width == page.viewport_size["width"]


@pytest.mark.parametrize(
    "page", [(1280, "dark"), (1280, "light")], indirect=True
)
def test_text_stands_out(page):
    """Text of the page and of the drawings has a contrast of 4.5 in dark and in light."""
    contrast = page.evaluate(
        """() => {
          const level = text => text.match(/[\\d.]+/g).slice(0, 3).map(v => v / 255)
              .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
              .reduce((sum, v, n) => sum + v * [0.2126, 0.7152, 0.0722][n], 0);
          const ground = level(getComputedStyle(document.body).backgroundColor);
          const texts = [...document.querySelectorAll("h1, .dim, .pass, .fail, .open, summary")]
              .map(e => getComputedStyle(e).color);
          const drawn = [...document.querySelectorAll("svg text")]
              .map(e => getComputedStyle(e).fill);
          return Math.min(...[...texts, ...drawn].map(level)
              .map(l => (Math.max(l, ground) + 0.05) / (Math.min(l, ground) + 0.05)));
        }"""
    )
    assert contrast >= 4.5
