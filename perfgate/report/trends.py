"""How does the history become pictures?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from perfgate.history.series import Entry, HistoryError, change_points
from perfgate.judge import run_status
from perfgate.judge.observation import RunReader
from perfgate.report.figures.server import Trend, trend
from perfgate.results.schema import RunResults


def course(entries: Sequence[Entry]) -> Trend:
    """A case's entries with their change points, or with the reason why none were looked for."""
    try:
        return Trend(
            tuple(entries), tuple(change_points([entry.value for entry in entries]))
        )
    except HistoryError as error:
        return Trend(
            tuple(entries), why=f"change points were not looked for: {error.seen}"
        )


def of_run(results: RunResults, entries: Iterable[Entry]) -> dict[str, Trend]:
    """The course of each judged case of a run, failures first, on the hardware that it ran on."""
    reader = RunReader(results)
    cases = {case.id: case for case in results.cases}
    judged = [row.case for row in run_status.judged(results) if row.case in cases]
    labels = {name: reader.observe(cases[name]).hardware_label for name in judged}
    mine: dict[str, list[Entry]] = {name: [] for name in labels}
    for entry in entries:
        if labels.get(entry.case) == entry.hardware:
            mine[entry.case].append(entry)
    return {name: course(found) for name, found in mine.items() if len(found) > 1}


def by_case(entries: Iterable[Entry], hardware: str | None) -> dict[str, list[Entry]]:
    """Every case with two runs or more, by "case (hardware)"."""
    found: dict[str, list[Entry]] = {}
    for entry in entries:
        if hardware in (None, entry.hardware):
            found.setdefault(f"{entry.case} ({entry.hardware})", []).append(entry)
    return {name: mine for name, mine in found.items() if len(mine) > 1}


def page(cases: Mapping[str, Sequence[Entry]]) -> str:
    """A page of trends, one for each case; those whose level changed come first."""
    from perfgate.report.page import templates

    courses = {name: course(entries) for name, entries in cases.items()}
    ordered = sorted(courses, key=lambda name: (not courses[name].points, name))
    pictures = [trend(f"t{n}", name, courses[name]) for n, name in enumerate(ordered)]
    return str(templates().get_template("history.html.j2").render(pictures=pictures))
