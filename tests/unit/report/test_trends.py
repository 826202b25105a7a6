"""Trends: cases of the history with their change points, as figures."""

import msgspec
import pytest

from perfgate.history.series import Entry
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


def cases_of(*values, **how):
    """One case over runs with these values."""
    entries = [
        entry(number, value=value, **how)
        for number, value in enumerate(values, 1)
    ]
    return {f"{entries[0].case} (h200x2)": entries}


def test_the_largest_change_is_the_first_row():
    """In either direction, of the newest run from the middle of those before it."""
    cases = cases_of(1000.0, 1000.0, 1010.0) | cases_of(
        8.0, 8.0, 6.0, case=OTHER_CASE
    )
    rows = trends.table(cases)

    assert [OTHER_CASE, CASE] == [row.case.partition(" ")[0] for row in rows]
    assert ["-25.0 %", "+1.0 %"] == [row.change_text for row in rows]
    assert ["t0", "t1"] == [row.key for row in rows]


def test_only_a_change_beyond_the_limit_is_red_or_green():
    """By the limit of the newest run, and by which way its metric is better."""
    levels = {}
    for value in (1000.0, 960.0, 900.0, 1100.0):
        (entries,) = cases_of(1000.0, value).values()
        newest = msgspec.structs.replace(
            entries[-1], allowed=0.05, baseline=1000.0
        )
        (row,) = trends.table({CASE: [entries[0], newest]})
        levels[value] = row.level

    assert {1000.0: "", 960.0: "", 900.0: "fail", 1100.0: "pass"} == levels


def test_a_small_change_does_not_fill_a_spark_line():
    """Half a per cent is a tenth of its height; the first value lies at the left edge."""
    first, last = trends.spark([1000.0, 995.0]).split()
    rise = float(last.partition(",")[2]) - float(first.partition(",")[2])

    assert "2.0" == first.partition(",")[0]
    assert 0.2 * trends.SPARK_HEIGHT > rise > 0


def test_page_begins_with_the_table():
    """Then come charts of the first cases; a pattern brings those of the others."""
    cases = cases_of(1000.0, 900.0) | cases_of(8.0, 8.0, case=OTHER_CASE)
    page = trends.page(cases)

    assert page.index("<table") < page.index('id="charts"')
    assert page.index("output throughput</a>") < page.index("ITL median</a>")
    assert 2 == page.count('class="plot"')
    assert "2 cases, none moved further than its limit" in page


def test_only_the_first_cases_have_charts(monkeypatch):
    """A page of a hundred cases stays small, and says how to see the others."""
    monkeypatch.setattr(trends, "MOST_CHARTS", 1)
    page = trends.page(
        cases_of(1000.0, 900.0) | cases_of(8.0, 8.0, case=OTHER_CASE)
    )

    assert 1 == page.count('class="plot"')
    assert "The first 1 of the table" in page


@pytest.mark.parametrize(
    ("outcome", "level"),
    [("REGRESSED", "fail"), ("PASSED", "fail"), ("IMPROVED", "pass")],
)
@pytest.mark.parametrize("value", [1.3, 0.8])
def test_a_ratio_has_no_better_way(outcome, level, value):
    """It is worse whichever way it moved, but where its sides showed a gain."""
    ratio = "vllm-a-tp1--over--vllm-b-tp1/batch-1/itl_median_ms"
    before, now = (
        msgspec.structs.replace(
            entry(number, ratio, value=size), allowed=0.2, outcome=outcome
        )
        for number, size in ((1, 1.0), (2, value))
    )
    (row,) = trends.table(trends.by_case([before, now], None))

    assert level == row.level
