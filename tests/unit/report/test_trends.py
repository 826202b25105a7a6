"""Trends: cases of the history with their change points, as figures."""

import msgspec

from perfgate.history.series import ChangePoint, Entry
from perfgate.judge.verdict import Outcome
from perfgate.report import trends
from perfgate.results.verdict import Verdict
from tests.support import builders as m

CASE, OTHER_CASE = m.THROUGHPUT.id, m.ITL.id


def entry(number, case=CASE, hardware="h200x2", value=1000.0):
    """A case in a run of that day."""
    return Entry(
        run=f"run-{number}",
        started=f"2026-06-0{number}T12:00:00+00:00",
        hardware=hardware,
        case=case,
        value=value,
        launches=(value,),
        outcome="PASSED",
        context={},
    )


def test_course_without_otava_says_so(monkeypatch):
    """The values are shown without change points, and with the reason."""
    monkeypatch.setattr("importlib.import_module", missing)

    line = trends.course([entry(1), entry(2)])

    assert 2 == len(line.entries)
    assert () == line.points
    assert line.no_points_reason.startswith("change points were not looked for")


def missing(name):
    """An extra that is not installed."""
    raise ImportError(name)


def test_run_has_the_trends_of_its_own_hardware():
    """Judged cases with two runs or more; entries of other hardware are left out."""
    values = {m.MOE_LOAD: {"output_throughput": [1000.0]}}
    results = m.run(values, [m.THROUGHPUT, m.ITL])
    rows = [passed_verdict(case) for case in (m.THROUGHPUT, m.ITL)]
    results = msgspec.structs.replace(results, verdicts=tuple(rows))
    entries = [
        entry(1),
        entry(2),
        entry(3, hardware="h100x2"),
        entry(1, OTHER_CASE),
    ]

    courses = trends.of_run(results, entries)

    assert [CASE] == list(courses)
    assert ["run-1", "run-2"] == [row.run for row in courses[CASE].entries]


def passed_verdict(case):
    """A passed verdict of a case."""
    return Verdict(
        case=case.id,
        metric=case.metric,
        outcome=Outcome.PASSED,
        gate="hard",
        summary="",
    )


def test_cases_are_grouped_by_hardware():
    """A case that ran on two kinds of hardware has two trends."""
    entries = [
        entry(number, hardware=kind)
        for kind in ("h100x2", "h200x2")
        for number in (1, 2)
    ]

    groups = trends.by_case(entries, None)

    assert [f"{CASE} (h100x2)", f"{CASE} (h200x2)"] == sorted(groups)
    assert [f"{CASE} (h200x2)"] == list(trends.by_case(entries, "h200x2"))


def test_page_shows_changed_cases_first(monkeypatch):
    """A case whose level changed stands before one that did not."""
    monkeypatch.setattr(trends, "change_points", point_where_slower)
    cases = {"a": [entry(1), entry(2)], "b": [entry(1), entry(2, value=900.0)]}

    page = trends.page(cases)

    assert page.index("Trend: b") < page.index("Trend: a")


def point_where_slower(values):
    """A change point at the second value where it is lower than the first."""
    if values[1] < values[0]:
        return [ChangePoint(index=1, change=-0.1, p_value=1e-5)]
    return []
