"""Trends: the history of each judged case, on the hardware of the run."""

import msgspec

from perfgate.history.series import FEWEST, Entry
from perfgate.judge.observation import hardware_label
from perfgate.report import trends
from tests.support.judged_runs import judged


def entry(case, hardware, number=1, value=1000.0):
    """A case in the run of that day."""
    return Entry(
        run=f"202606{number:02}-120000-1",
        started=f"2026-06-{number:02}T12:00:00",
        hardware=hardware,
        case=case,
        value=value,
        launches=(value,),
        outcome=None,
        context={},
    )


def test_few_runs_have_no_change_points():
    """The figure says so."""
    few = [entry("a/b/c", "h200x2", number) for number in (1, 2)]

    trend = trends.course(few)

    assert tuple(few) == trend.entries
    assert () == trend.points
    assert trend.why.startswith("change points were not looked for: ")


def test_a_run_has_the_courses_of_its_judged_cases():
    """On its own hardware; a case with one entry, or report-only, has none."""
    results = judged("PASSED", "REGRESSED", "PASSED")
    first, second, third = results.verdicts
    report_only = msgspec.structs.replace(third, gate="report")
    results = msgspec.structs.replace(
        results, verdicts=(first, second, report_only)
    )
    here = hardware_label(results.hardware, results.cases[0])
    entries = [
        entry(first.case, here, 1),
        entry(second.case, here, 1),
        entry(second.case, "elsewhere", 2),
        entry(second.case, here, 3),
        entry(third.case, here, 1),
        entry(third.case, here, 2),
    ]

    courses = trends.of_run(results, entries)

    assert [second.case] == list(courses)
    assert (entries[1], entries[3]) == courses[second.case].entries


def test_cases_are_grouped_by_hardware():
    """Only those with two runs or more; another kind of hardware is left out."""
    entries = [
        entry("a/b/c", "h200", 1),
        entry("a/b/c", "h200", 2),
        entry("a/b/c", "h100", 1),
        entry("a/b/c", "h100", 2),
        entry("d/e/f", "h200", 1),
    ]

    assert {"a/b/c (h200)": entries[:2]} == trends.by_case(entries, "h200")
    assert ["a/b/c (h200)", "a/b/c (h100)"] == list(
        trends.by_case(entries, None)
    )


def test_the_page_has_a_figure_for_each_case(monkeypatch):
    """Those whose level changed come first."""
    drawn = []

    def trend(key, name, course):
        drawn.append((key, name))
        return trends_picture(key, name)

    def trends_picture(key, name):
        from perfgate.report.figures.figure import left_out

        return left_out(key, name, "not drawn here")

    def course(entries):
        points = [1] * (entries[0].value > 1000.0)
        return trends.Trend(tuple(entries), tuple(points))

    monkeypatch.setattr(trends, "trend", trend)
    monkeypatch.setattr(trends, "course", course)
    flat = [entry("a/b/c", "h200", n) for n in range(1, FEWEST + 1)]
    step = [entry("z/b/c", "h200", n, 2000.0) for n in range(1, FEWEST + 1)]

    text = trends.page({"a <flat>": flat, "z step": step})

    assert [("t0", "z step"), ("t1", "a <flat>")] == drawn
    assert "a &lt;flat&gt;" in text
