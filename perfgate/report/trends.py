"""Trends: the history of cases as figures with their change points."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from perfgate.history.series import Entry, HistoryError, change_points
from perfgate.judge import run_status
from perfgate.judge.observation import RunReader
from perfgate.report.figures.server import Trend, trend
from perfgate.results.schema import RunResults


def course(entries: Sequence[Entry]) -> Trend:
    """A case's entries with their change points, or why none were looked for."""
    values = [entry.value for entry in entries]
    try:
        points = change_points(values)
    except HistoryError as error:
        why = f"no change points were looked for: {error.seen}"
        return Trend(tuple(entries), why=why)
    return Trend(tuple(entries), tuple(points))


def of_run(
    results: RunResults,
    entries: Iterable[Entry],
) -> dict[str, Trend]:
    """The course of each judged case of a run, failures first, on its hardware."""
    reader = RunReader(results)
    cases = {case.id: case for case in results.cases}
    by_case: dict[str, list[Entry]] = {}
    labels: dict[str, str] = {}
    for row in run_status.judged(results):
        if row.case in cases:
            by_case[row.case] = []
            labels[row.case] = reader.observe(cases[row.case]).hardware_label
    for entry in entries:
        if labels.get(entry.case) == entry.hardware:
            by_case[entry.case].append(entry)
    return {name: course(own) for name, own in by_case.items() if len(own) > 1}


def by_case(
    entries: Iterable[Entry],
    hardware: str | None,
) -> dict[str, list[Entry]]:
    """Every case with two runs or more, by "case (hardware)"."""
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        if hardware in (None, entry.hardware):
            name = f"{entry.case} ({entry.hardware})"
            groups.setdefault(name, []).append(entry)
    return {name: own for name, own in groups.items() if len(own) > 1}


def page(cases: Mapping[str, Sequence[Entry]]) -> str:
    """A page of trends, one for each case; those whose level changed come first."""
    from perfgate.report.page import templates

    courses = {name: course(entries) for name, entries in cases.items()}

    def changed_first(name: str) -> tuple[bool, str]:
        return not courses[name].points, name

    pictures = []
    for number, name in enumerate(sorted(courses, key=changed_first)):
        pictures.append(
            trend(
                f"t{number}",
                name,
                courses[name],
            )
        )
    template = templates().get_template("history.html.j2")
    return str(template.render(pictures=pictures))
