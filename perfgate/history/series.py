"""History of a case over the runs, and the change points in it.

Losses too small for the gate add up over weeks: change points find them (Apache Otava's
E-divisive split, each confirmed by Student's t). After 20 runs, a step of twice the
noise is found in 36 % of cases three runs later, in 60 % five and in 80 % ten runs
later; 1 % of series of 30 runs without a step show one. Look at it every week; it is no
gate.
"""

from __future__ import annotations

import fnmatch
import importlib
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from perfgate import formatting
from perfgate.cases import parse_id
from perfgate.errors import Failure
from perfgate.judge import answers
from perfgate.judge.observation import RunReader
from perfgate.results.schema import RunResults
from perfgate.results.verdict import unit_of

MIN_RUNS = 6  # with fewer a change point means nothing
MAX_P = 0.001
SMALLEST_STEP = 0.005
BAR = 30  # columns


class HistoryError(Failure):
    """A history that cannot be read, or that has no entries for a case."""


class Entry(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """One case in one run.

    Attributes:
        value: geometric mean of the launches.
        launches: value of each launch that counts.
        baseline: what it was compared with; None where nothing was, or of older runs.
        allowed: the loss, as a fraction, that was allowed.
    """

    run: str
    started: str
    hardware: str
    case: str
    value: float
    launches: tuple[float, ...]
    outcome: str | None
    context: dict[str, str]
    baseline: float | None = None
    allowed: float | None = None

    @property
    def metric(self) -> str:
        """The name of the metric."""
        return parse_id(self.case).metric

    @property
    def unit(self) -> str:
        """Of the value: "x" for a ratio, "" for a metric that is not registered."""
        return unit_of(self.case, self.metric)


class ChangePoint(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """From entry `index` on, the values lie `change` (fraction) above those before."""

    index: int
    change: float
    p_value: float


def entries_of(results: RunResults) -> list[Entry]:
    """What a run adds: one entry for each case with a launch that counts.

    A run in which something was changed on purpose adds nothing.
    """
    is_injected = any(launch.injected for launch in results.launches)
    if results.is_paired or is_injected:
        return []
    reader = RunReader(results)
    verdicts = {row.case: row for row in results.verdicts}
    entries = []
    for case in results.cases:
        observation = reader.observe(case)
        if not observation.values:
            continue
        verdict = verdicts.get(case.id)
        judged: dict[str, Any] = {"outcome": None}
        if verdict is not None:
            judged = {
                "outcome": verdict.outcome,
                "baseline": verdict.baseline,
                "allowed": verdict.limit,
            }
        entry = Entry(
            run=results.run_id,
            started=results.started,
            hardware=observation.hardware_label,
            case=case.id,
            value=observation.value,
            launches=tuple(observation.values),
            context=dict(observation.context),
            **judged,
        )
        entries.append(entry)
    return entries


def series(
    entries: Iterable[Entry], case_id: str, hardware: str | None = None
) -> list[Entry]:
    """The entries of one case on one kind of hardware, in order of time.

    Raises:
        HistoryError: there are none, or the case was run on several kinds of hardware
            and none was named.

    """
    cases = set()
    matches = []
    for entry in entries:
        cases.add(entry.case)
        if entry.case == case_id and hardware in (None, entry.hardware):
            matches.append(entry)
    if not matches:
        raise HistoryError(
            tried=f"looking for {case_id} on {hardware or 'any hardware'}",
            seen=f"the history has {len(cases)} cases, not this one",
            remedy="list them with `perfgate history`",
        )
    kinds = sorted({entry.hardware for entry in matches})
    if len(kinds) > 1:
        raise HistoryError(
            tried=f"showing {case_id}",
            seen=f"it ran on {', '.join(kinds)}",
            remedy=f"choose one: --hardware {kinds[0]}",
        )
    return sorted(matches, key=lambda entry: (entry.started, entry.run))


def matching(entries: Iterable[Entry], pattern: str) -> list[str]:
    """Cases whose id is the pattern, fits its wildcards, or contains it; in order."""
    cases = sorted({entry.case for entry in entries})
    if pattern in cases:
        return [pattern]
    if any(sign in pattern for sign in "*?["):
        return fnmatch.filter(cases, pattern)
    return [case for case in cases if pattern in case]


def change_points(values: Sequence[float]) -> list[ChangePoint]:
    """Where the level of a series changed, by Apache Otava.

    Raises:
        HistoryError: Otava is not installed (it is an extra: it brings 30 packages
            along).

    """
    try:
        otava: Any = importlib.import_module("otava.analysis")
    except ImportError as error:
        raise HistoryError(
            tried="looking for change points",
            seen=f"Apache Otava cannot be imported ({error})",
            remedy=(
                "`pip install 'perfgate[history]'`; without it only the values are "
                "shown"
            ),
        ) from error
    if len(values) < MIN_RUNS:
        return []
    # Lists, not arrays: Otava 0.8 raises ValueError for arrays of some lengths.
    changes, _ = otava.compute_change_points(
        list(values), max_pvalue=MAX_P, min_magnitude=SMALLEST_STEP
    )
    points = []
    for change in changes:
        point = ChangePoint(
            index=int(change.index),
            change=float(change.stats.forward_rel_change()),
            p_value=float(change.stats.pvalue),
        )
        points.append(point)
    return points


def format_series(
    entries: Sequence[Entry], points: Sequence[ChangePoint]
) -> str:
    """One line for each run, with a rule where the level changed.

    The context that changed stands before the run.
    """
    values = [entry.value for entry in entries]
    low, high = min(values), max(values)
    changes = {point.index: point for point in points}
    lines = []
    for index, entry in enumerate(entries):
        changed_context = ""
        if index:
            changed_context = _context_changes(entries[index - 1], entry)
        if index in changes:
            lines.append(_rule(changes[index], changed_context))
        elif changed_context:
            lines.append(f"     {changed_context}")
        bar = "#" * _bar_length(entry.value, low, high)
        value = formatting.number(entry.value, entry.unit)
        lines.append(
            f"{entry.started[:16]}  {value:>14}  {bar:<{BAR}}  "
            f"{entry.outcome or '-':<12}  {entry.run}"
        )
    return "\n".join(lines)


def _bar_length(value: float, low: float, high: float) -> int:
    if high <= low:
        return 1
    return 1 + round((BAR - 1) * (value - low) / (high - low))


def _context_changes(before: Entry, after: Entry) -> str:
    changes = []
    current, earlier = answers.with_counts(after.context, before.context)
    for name in formatting.differing(current, earlier):
        old = earlier.get(name, "-")
        new = current.get(name, "-")
        changes.append(f"{name}: {old} before, {new} after")
    return formatting.listed(changes)


def _rule(point: ChangePoint, changed_context: str) -> str:
    change = formatting.change(point.change)
    rule = f"---- {change} from here on (p = {point.p_value:.1g})"
    if changed_context:
        rule += f"; {changed_context}"
    return rule
