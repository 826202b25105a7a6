"""Text of a fleet: headline, outliers, rows and machines; the check of hosts and the plan."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from perfgate import formatting
from perfgate.cases import title
from perfgate.fleet.forecast import Forecast
from perfgate.fleet.scheduler import Durations, Place, need_of
from perfgate.fleet.state import State
from perfgate.fleet.verdict import Judged, Row, is_green
from perfgate.judge import run_status
from perfgate.judge.verdict import Outcome
from perfgate.report.headline import SIGNS
from perfgate.results.gates import Gate
from perfgate.run.units import Unit

MOST_ROWS = 30
MOST_REASON = 160  # characters


def headline(state: State, judged: Judged, gate: Gate) -> str:
    """The fleet and its verdict in one sentence, and how many machines are outliers."""
    kinds = Counter(row.kind for row in judged.machines)
    fleet = ", ".join(f"{count}x {kind}" for kind, count in kinds.items())
    measured = f"{len(state.measured)} of {len(state.tasks)} launches"
    machines = formatting.count(len(judged.machines), "machine")
    text = (
        f"{verdict_of(state, judged, gate)} on {machines} ({fleet}), {measured}"
    )
    if judged.outlying:
        count = len(judged.outlying)
        verb = "is an outlier" if count == 1 else "are outliers"
        text += f"; {count} of them {verb}, which no row of the fleet counts"
    return text


def verdict_of(state: State, judged: Judged, gate: Gate) -> str:
    """The verdict over all machines."""
    hard = [row for row in judged.rows if row.gate == "hard"]
    red = judged.red(gate)
    if not judged.rows:
        return "No verdict: nothing was measured"
    if red:
        return f"Red: {len(red)} of {len(hard)} rows fail"
    if state.given_up:
        count = formatting.count(len(state.given_up), "launch")
        return f"Red: {count} could not be measured"
    green = sum(map(is_green, hard))
    if state.open or green < len(hard) or not hard:
        return f"Undecided: {green} of {len(hard)} rows passed"
    return f"Green: {formatting.count(len(hard), 'row')} passed"


def fails(state: State, judged: Judged, gate: Gate) -> bool:
    """Whether the fleet's run fails; an outlier alone does not fail it."""
    if judged.red(gate) or state.given_up or not judged.rows:
        return True
    if gate == "advisory":
        return False
    compared = [
        row for row in judged.rows if row.outcome != Outcome.NO_BASELINE
    ]
    return bool(state.open) or not compared


def lines(state: State, judged: Judged, gate: Gate) -> Iterator[str]:
    """All that a person must know of a run."""
    yield headline(state, judged, gate)
    yield from outlier_lines(judged)
    yield from missing_lines(state)
    yield ""
    yield "By fleet (machines as one, outliers left out):"
    yield from row_lines(judged.rows)
    yield ""
    yield "By machine (each judged by its own launches):"
    yield from machine_lines(judged)


def outlier_lines(judged: Judged) -> Iterator[str]:
    """Each outlier with the number that decided, and what to do."""
    hosts = {row.name: row.host for row in judged.machines}
    for kind, found in judged.outliers.items():
        for row in found:
            word, size = "slower", row.slower_by
            if size < 0:
                word, size = "faster", -size
            yield (
                f"{row.machine} on {hosts[row.machine]} is {size:.1%} {word} than "
                f"the median of {row.others} other {kind}, over "
                f"{formatting.count(row.rows, 'row')} (threshold {row.threshold:.1%}): "
                "look at this machine (clocks, power cap, temperature, other processes)"
            )


def missing_lines(state: State) -> Iterator[str]:
    """What was not measured, and what was measured twice."""
    for task in state.given_up:
        last = task.attempts[-1]
        hosts = ", ".join(row.host for row in task.attempts)
        reason = last.reason.replace("\n", " ")[:MOST_REASON]
        yield f"{task.id} ({task.unit.title}) was not measured on {hosts}: {reason}"
    if state.open:
        count = formatting.count(len(state.open), "launch")
        yield f"{count} still to be measured: the same command with --resume"
    for row in state.twice:
        task = state.tasks[row.task]
        if task.is_measured and task.host == row.host:
            continue  # a later driver went on there, and has it
        found = "was measured twice"
        if not task.is_measured:
            found = "was measured after all"
        yield (
            f"{row.task} {found}: {row.host} was lost, and has it in "
            f"{row.folder}; that one does not count"
        )


def row_lines(rows: Sequence[Row]) -> Iterator[str]:
    """What can fail the run, the worst first; the rest is counted."""
    order = {outcome: place for place, outcome in enumerate(run_status.ORDER)}
    hard = [row for row in rows if row.gate == "hard"]
    hard.sort(key=lambda row: (order[row.outcome], -(row.worse_by or 0.0)))
    for row in hard[:MOST_ROWS]:
        yield f"  {SIGNS[row.outcome]} {_row(row)}"
    rest = len(hard) - MOST_ROWS
    if rest > 0:
        yield f"    and {formatting.count(rest, 'row')} more"
    others = len(rows) - len(hard)
    if others:
        yield f"    and {formatting.count(others, 'row')} report-only"


def _row(row: Row) -> str:
    metric = row.case.rpartition("/")[2]
    text = f"{row.outcome} {title(row.case)}, {metric} ({row.group}): "
    machines = formatting.count(row.machines, "machine")
    if row.worse_by is None or row.excluded is None or row.target is None:
        return f"{text}{machines}"
    word, size = "slower", row.worse_by
    if size < 0:
        word, size = "better", -size
    text += f"{size:.1%} {word}, no loss above {row.excluded:.1%}, "
    text += f"target {row.target:.1%}, {machines}"
    if row.change is not None and row.change.is_own:
        text += " compared with themselves"
    return text


def machine_lines(judged: Judged) -> Iterator[str]:
    """Each machine with the sentence of its own run; what needs attention first."""
    rows = sorted(
        judged.machines,
        key=lambda row: (row.name not in judged.outlying, row.kind, row.name),
    )
    for row in rows:
        mark = "  "
        if row.name in judged.outlying:
            mark = "! "
        launches = formatting.count(row.launches, "launch")
        yield (
            f"{mark}{row.name} on {row.host} ({row.kind}, {launches}): "
            f"{row.sentence}"
        )


def check_lines(
    places: Sequence[Place], unusable: Sequence[str], units: Sequence[Unit]
) -> Iterator[str]:
    """What each host can measure, and what it lacks for the rest."""
    for place in places:
        able = [unit for unit in units if place.can_ever(unit)]
        yield f"{place.host.name} ({place.kind}): {len(able)} of {len(units)} units"
        reasons: dict[str, list[str]] = {}
        for unit in units:
            for reason in place.lacks.get(unit.name, ()):
                reasons.setdefault(reason, []).append(unit.title)
        for reason, titles in reasons.items():
            yield f"  lacks for {formatting.listed(titles)}: {reason}"
    for line in unusable:
        yield f"{line}"


def plan_lines(
    state: State, places: Sequence[Place], cast: Forecast, known: Durations
) -> Iterator[str]:
    """How long the fleet takes, what waits for which kind, the longest unit first."""
    units = {task.unit.name: task.unit for task in state.open}
    launches = Counter(task.unit.name for task in state.open)
    kinds = sorted({place.kind for place in places})
    rows = []
    for name, unit in units.items():
        seconds = max((known.of(unit, kind) for kind in kinds), default=0.0)
        rows.append((seconds, unit, launches[name]))
    for seconds, unit, count in sorted(rows, key=lambda row: -row[0]):
        guess = "" if known.is_known(unit) else " (a guess: no earlier run)"
        yield (
            f"  {formatting.count(count, 'launch')} of {unit.title} on "
            f"{need_of(unit)}, {_minutes(seconds)} each{guess}"
        )
    hosts = formatting.count(len(places), "host")
    yield f"All of it takes {_minutes(cast.end_s)} on {hosts}."
    for need, waits_s in sorted(cast.waits_s.items()):
        if waits_s:
            yield f"The last launch that needs {need} begins after {_minutes(waits_s)}."
    if cast.never:
        never = formatting.count(len(cast.never), "launch")
        yield f"{never} can be measured by no host that is here."


def impossible_lines(missing: dict[str, dict[str, list[str]]]) -> Iterator[str]:
    """Units that no host can measure, with what is missing where."""
    for unit, reasons in missing.items():
        yield f"no host can measure {unit}:"
        for reason, hosts in reasons.items():
            yield f"  {formatting.listed(hosts)}: {reason}"


def _minutes(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
