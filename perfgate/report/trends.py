"""Trends of the report: cases of the history with their change points, as figures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from perfgate.history.series import Entry, HistoryError, change_points
from perfgate.judge import run_status
from perfgate.judge.observation import hardware_label
from perfgate.report.figures.figure import Picture
from perfgate.report.figures.server import Trend, trend
from perfgate.results.schema import RunResults


def course(entries: Sequence[Entry]) -> Trend:
    """A case's entries with their change points, or with the reason why none were looked for."""
    values = [entry.value for entry in entries]
    try:
        points = change_points(values)
    except HistoryError as error:
        reason = f"change points were not looked for: {error.seen}"
        return Trend(tuple(entries), no_points_reason=reason)
    return Trend(tuple(entries), tuple(points))


def of_run(results: RunResults, entries: Iterable[Entry]) -> dict[str, Trend]:
    """The course of each judged case of a run, failures first, on the hardware that it ran on."""
    cases = {case.id: case for case in results.cases}
    labels: dict[str, str] = {}
    by_case_id: dict[str, list[Entry]] = {}
    for row in run_status.judged_verdicts(results):
        case = cases.get(row.case)
        if case is not None:
            labels[case.id] = hardware_label(results.hardware, case)
            by_case_id[case.id] = []
    for entry in entries:
        if labels.get(entry.case) == entry.hardware:
            by_case_id[entry.case].append(entry)
    courses = {}
    for case_id, case_entries in by_case_id.items():
        if len(case_entries) > 1:
            courses[case_id] = course(case_entries)
    return courses


def by_case(
    entries: Iterable[Entry], hardware: str | None
) -> dict[str, list[Entry]]:
    """Every case with two runs or more, by "case (hardware)"."""
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        if hardware in (None, entry.hardware):
            name = f"{entry.case} ({entry.hardware})"
            groups.setdefault(name, []).append(entry)
    cases = {}
    for name, group in groups.items():
        if len(group) > 1:
            cases[name] = group
    return cases


def page(cases: Mapping[str, Sequence[Entry]]) -> str:
    """A page of trends, one for each case; those whose level changed come first."""
    from perfgate.report.page import templates

    changed = {}
    unchanged = {}
    for name, entries in sorted(cases.items()):
        line = course(entries)
        if line.points:
            changed[name] = line
        else:
            unchanged[name] = line
    pictures: list[Picture] = []
    for name, line in (changed | unchanged).items():
        key = f"t{len(pictures)}"
        pictures.append(trend(key, name, line))
    template = templates().get_template("history.html.j2")
    return str(template.render(pictures=pictures))
