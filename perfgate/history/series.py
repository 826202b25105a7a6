"""How has a metric moved over the runs?

Losses too small for the gate add up over weeks: change points find them (Apache Otava's
E-divisive split, each confirmed by Student's t). After 20 runs, a step of twice the
noise is found in 36 % of cases three runs later, in 60 % five and in 80 % ten runs
later; 1 % of series of 30 runs without a step show one. A thing to look at every week,
and no gate.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from perfgate import formatting as wording
from perfgate.errors import Failure
from perfgate.judge.observation import RunReader
from perfgate.results.schema import RunResults

FEWEST = 6  # runs, below which a change point means nothing
MAX_P = 0.001
SMALLEST_STEP = 0.005


class HistoryError(Failure):
    """A history that cannot be read, or a question that it cannot answer."""


class Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One case in one run; `value` is the geometric mean of its launches."""

    run: str
    started: str
    hardware: str
    case: str
    value: float
    launches: tuple[float, ...]
    outcome: str | None
    context: dict[str, str]


class ChangePoint(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """From entry `index` on, the values lie `change` (fraction) above those before."""

    index: int
    change: float
    p_value: float


def entries_of(results: RunResults) -> list[Entry]:
    """What a run adds: one entry for each case with a value. A run that was slowed down on purpose adds nothing."""
    if results.against or any(launch.injected for launch in results.launches):
        return []
    reader = RunReader(results)
    outcomes = {row.case: row.outcome for row in results.verdicts}
    found = []
    for case in results.cases:
        seen = reader.observe(case)
        if seen.values:
            entry = Entry(
                run=results.run_id,
                started=results.started,
                hardware=seen.hardware_label,
                case=case.id,
                value=seen.value,
                launches=tuple(seen.values),
                outcome=outcomes.get(case.id),
                context=dict(seen.context),
            )
            found.append(entry)
    return found


def series(
    entries: Iterable[Entry], case_id: str, hardware: str | None = None
) -> list[Entry]:
    """The entries of one case on one kind of hardware, in order of time.

    Raises:
        HistoryError: there are none, or the case was run on several kinds of hardware
            and none was named.

    """
    every = list(entries)
    mine = [
        entry
        for entry in every
        if entry.case == case_id and hardware in (None, entry.hardware)
    ]
    kinds = sorted({entry.hardware for entry in mine})
    if not mine:
        raise HistoryError(
            tried=f"looking for {case_id} on {hardware or 'any hardware'}",
            seen=f"{len({entry.case for entry in every})} other cases in the history",
            remedy="`perfgate history` without a case lists them",
        )
    if len(kinds) > 1:
        raise HistoryError(
            tried=f"showing {case_id}",
            seen=f"it ran on {', '.join(kinds)}",
            remedy="name one by --hardware",
        )
    return sorted(mine, key=lambda entry: (entry.started, entry.run))


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
                "`pip install -e '.[history]'` in the project; without it the values "
                "are shown alone"
            ),
        ) from error
    if len(values) < FEWEST:
        return []
    # Lists, not arrays: Otava 0.8 raises ValueError for arrays of some lengths.
    found, _ = otava.compute_change_points(
        list(values), max_pvalue=MAX_P, min_magnitude=SMALLEST_STEP
    )
    return [
        ChangePoint(
            index=int(point.index),
            change=float(point.stats.forward_rel_change()),
            p_value=float(point.stats.pvalue),
        )
        for point in found
    ]


def told(entries: Sequence[Entry], points: Sequence[ChangePoint]) -> str:
    """One line for each run, with a rule where the level changed; before it the context that changed with it."""
    low, high = (
        min(entry.value for entry in entries),
        max(entry.value for entry in entries),
    )
    changes = {point.index: point for point in points}
    lines = []
    for index, entry in enumerate(entries):
        drift = _drift(entries[index - 1], entry) if index else ""
        if index in changes:
            lines.append(_rule(changes[index], drift))
        elif drift:
            lines.append(f"     {drift}")
        bar = (
            "#" * (1 + round(29 * (entry.value - low) / (high - low)))
            if high > low
            else "#"
        )
        lines.append(
            f"{entry.started[:16]}  {entry.value:>12.6g}  {bar:<30}  "
            f"{entry.outcome or '-':<12}  {entry.run}"
        )
    return "\n".join(lines)


def _drift(before: Entry, after: Entry) -> str:
    return wording.listed(
        [
            f"{name}: {before.context.get(name, '-')} before, {after.context.get(name, '-')} after"
            for name in wording.differing(before.context, after.context)
        ]
    )


def _rule(point: ChangePoint, drift: str) -> str:
    why = f"; {drift}" if drift else ""
    return f"---- {wording.change(point.change)} from here on (p = {point.p_value:.1g}){why}"
