"""The page in a real browser: no script errors, sorting, filters, keyboard, figures."""

import msgspec
import pytest

from perfgate.history.series import entries_of
from perfgate.report.figures.trend import Trend
from perfgate.report.page import Report, build
from tests.support import browser as browsers
from tests.support.judged_runs import judged
from tests.unit.report.figures.test_sparse import with_routing


@pytest.fixture(scope="module")
def browser():
    """Chromium without a window."""
    yield from browsers.start()


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
    window = browsers.opened(browser, file, getattr(request, "param", "light"))
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
    page.locator("#find").fill("batch-8")
    assert 1 == len(first_cells(page))
    assert "1 of 4 cases" == page.get_by_role("status").inner_text()
    page.locator("#find").fill("")
    page.locator("#which").select_option("@attention")
    assert ["✗ REGRESSED", "? INCONCLUSIVE"] == first_cells(page)


def test_what_another_run_alone_has_is_marked_as_its(browser, tmp_path):
    """It needs no attention in this run, whose verdict it is not."""
    before = judged("PASSED", "REGRESSED", run_id="20260601-120000-1")
    now = judged("PASSED", run_id="20260602-120000-1")
    path = tmp_path / "report.html"
    path.write_text(build(Report([before, now])), encoding="utf-8")
    page = browsers.opened(browser, path, "light")

    assert ["✓ PASSED", "✗ REGRESSED, run A"] == first_cells(page)
    page.locator("#which").select_option("@attention")
    assert [] == first_cells(page)
    page.close()


def test_columns_are_sorted_by_what_they_show(browser, tmp_path):
    """By the ceiling where it is the smaller limit; E4 stands before E19."""
    results = judged("PASSED", "PASSED")
    wide, narrow = results.verdicts
    rows = (
        msgspec.structs.replace(
            wide, experiment="E19", threshold=0.3, allowed=0.05
        ),
        msgspec.structs.replace(
            narrow, experiment="E4", threshold=0.1, allowed=0.1
        ),
    )
    results = msgspec.structs.replace(results, verdicts=rows)
    path = tmp_path / "report.html"
    path.write_text(build(Report([results])), encoding="utf-8")
    page = browsers.opened(browser, path, "light")

    page.get_by_role("button", name="allowed").click()
    assert ["-5.0 %", "-10.0 %"] == first_cells(page, 7)
    page.get_by_role("button", name="test").click()
    assert ["E4", "E19"] == first_cells(page, 1)
    page.close()


def test_figures_have_names_and_descriptions(page):
    """Each drawing is an image with an accessible name, and its numbers open as a table."""
    drawings = page.locator("svg.plot")
    assert drawings.count() >= 10
    page.evaluate(
        "document.querySelectorAll('details.alone').forEach(d => { d.open = true; })"
    )
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
