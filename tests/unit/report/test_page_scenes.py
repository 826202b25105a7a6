"""Eight pages in a real browser: the first screen answers, and can be read, on desk and phone.

With PERFGATE_SCREENSHOTS=FOLDER each one is saved as a picture, in light, dark and on a
phone.
"""

import pytest

from perfgate.history.series import entries_of
from perfgate.judge.baseline_store import Store
from perfgate.judge.run_status import judged_again
from perfgate.report import trends
from perfgate.report.page import Report, build
from perfgate.results import schema
from tests.support import browser as browsers
from tests.support.goldens import ROOT

RUNS = ROOT / "docs" / "runs"
LEAST_CONTRAST = 4.5
SMALLEST_TEXT_PX = 11.0
# Scene -> its runs, the last one in question; whether it is slower; what, why, what now.
SCENES = {
    "first-run": (
        ("h200x1-20261128c",),
        "No answer yet: this machine has no baseline to compare with",
        "92 values have no baseline yet",
        "No baseline is recorded on h200x1.",
        "makes this run the baseline",
    ),
    "all-green": (
        ("h100x1-20261124b",),
        "Not slower: 7 values compared, all within limits",
        "Nothing beyond its limit",
        "The launches rule out a loss of more than",
        "Nothing: the run is green.",
    ),
    "one-regression": (
        ("h200x1-planted/delay/01",),
        "Worse: 1 of 8 judged values regressed",
        "vllm llama-3.1-8b-tp1: ITL +",
        "A cost per token of the batch",
        "Measure again without the injection",
    ),
    "broad-regression": (
        ("h200x1-planted/eager/01",),
        "Worse: 5 of 8 judged values regressed",
        "vllm llama-3.1-8b-tp1: throughput -",
        "No graphs, or fewer (a step pays for the launches of its kernels)",
        "Measure again without the injection",
    ),
    "pair": (
        ("h100x1-pairs/delay",),
        "Worse: 2 of 2 judged values regressed",
        "vllm llama-3.1-8b-tp1: ITL +",
        "No rule names the cause, lost in decoding",
        "Measure again without the injection",
    ),
    "invalid": (
        ("h200x1-planted/attention/01",),
        "No answer: 12 of 12 measurements are invalid",
        "12 values invalid",
        "The run was cut off in launch 1",
        "Resume the run",
    ),
    "two-runs": (
        ("h200x1-planted/unchanged/01", "h200x1-planted/delay/01"),
        "Worse: 1 of 8 judged values regressed",
        "smaller changes are in the table",
        "A cost per token of the batch",
        "Measure again without the injection",
    ),
}
HISTORY = "history"


@pytest.fixture(scope="module")
def browser():
    """One Chromium for all scenes."""
    yield from browsers.start()


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Scene -> the file of its page, each made once."""
    folder = tmp_path_factory.mktemp("scenes")
    store = Store(ROOT / "baselines")
    files = {}

    def page_of(scene):
        if scene not in files:
            files[scene] = folder / f"{scene}.html"
            files[scene].write_text(_page(scene, store), encoding="utf-8")
        return files[scene]

    return page_of


def _page(scene, store):
    if scene == HISTORY:
        return _history(store)
    if scene == "first-run":
        store = Store(store.root / "nothing")
    results = [
        judged_again(schema.load(RUNS / run), store) for run in SCENES[scene][0]
    ]
    last = results[-1]
    return build(
        Report(results, store.without_run(last.run_id), run_path="runs/X")
    )


def _history(store):
    """The courses of the runs of one server that was never changed."""
    entries = []
    for path in sorted(RUNS.glob("h200x1-planted/unchanged/0*")):
        entries += entries_of(judged_again(schema.load(path), store))
    cases = trends.by_case(entries, None)
    return trends.page(dict(list(cases.items())[:12]))


@pytest.mark.parametrize("view", browsers.VIEWS)
@pytest.mark.parametrize("scene", [*SCENES, HISTORY])
def test_a_page_can_be_read(browser, pages, scene, view):
    """No error, nothing sideways, no small text, enough contrast: in each view."""
    window = browsers.opened(browser, pages(scene), view)
    try:
        browsers.save(window, f"{scene}-{view}")
        found = browsers.measured(window)
    finally:
        window.close()

    assert [] == window.troubles
    assert browsers.VIEWS[view][0][0] == found["width"]
    assert found["smallest"] >= SMALLEST_TEXT_PX, found["tiniest"]
    assert found["least"] >= LEAST_CONTRAST, found["poorest"]


@pytest.mark.parametrize("scene", SCENES)
def test_the_first_screen_answers(browser, pages, scene):
    """Is it slower, what, why, what now, and what is compared: without scrolling."""
    _, *answers = SCENES[scene]
    window = browsers.opened(browser, pages(scene), "light")
    try:
        shown = browsers.first_screen(window)
    finally:
        window.close()

    text = "\n".join(shown)
    missing = [
        words
        for words in (*answers, "What changed", "Why", "What now", "this run")
        if words not in text
    ]
    assert [] == missing


def test_the_history_begins_with_its_largest_change(browser, pages):
    """The first screen has the answer, and cases with a spark line, the largest first."""
    window = browsers.opened(browser, pages(HISTORY), "light")
    try:
        shown = browsers.first_screen(window)
        sparks = window.locator("svg.spark").count()
        changes = [
            abs(float(cell.inner_text().partition(" ")[0]))
            for cell in window.locator(".history td:first-child").all()
            if "%" in cell.inner_text()
        ]
    finally:
        window.close()

    assert "12 cases" in shown[0]
    assert 12 == sparks
    assert changes == sorted(changes, reverse=True)
    assert len(changes) > 3


def test_a_table_that_scrolls_says_so(browser, pages):
    """Until its last row is seen; then the hint is gone."""
    window = browsers.opened(browser, pages("first-run"), "light")
    try:
        hint = window.locator(".more")
        before = hint.is_visible()
        window.locator(".tall").evaluate("box => box.scrollTo(0, 1e6)")
        # The page forbids to evaluate text, as a function to wait for would be.
        hint.wait_for(state="hidden", timeout=5000)
    finally:
        window.close()

    assert before


def test_each_metric_and_number_has_its_meaning(browser, pages):
    """Every label that stands for more carries it as a tooltip, and the page explains all."""
    window = browsers.opened(browser, pages("broad-regression"), "light")
    try:
        titles = [
            label.get_attribute("title")
            for label in window.locator("#cases abbr").all()
        ]
        words = window.locator("dl.words").inner_text()
    finally:
        window.close()

    assert titles
    assert all(titles)
    assert "How many tokens a second does a saturated server make" in words
    assert "itl_median_ms" in words
