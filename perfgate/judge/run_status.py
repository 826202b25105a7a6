"""Run status: whether a run is green, red or undecided, and what its exit code says.

The only place that decides it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec

from perfgate.cases import Case
from perfgate.judge import gate
from perfgate.judge.baseline_store import Store
from perfgate.judge.groups import with_group_verdicts
from perfgate.judge.verdict import GREEN, Outcome, Verdict, is_red, unjudged
from perfgate.results.gates import Gate
from perfgate.results.group_verdict import GroupVerdict
from perfgate.results.schema import RunResults

State = Literal["Red", "Green", "Undecided"]

# The order of the table: what needs attention comes first.
_FIRST = (Outcome.REGRESSED, Outcome.INVALID, Outcome.INCONCLUSIVE)
_LAST = (Outcome.IMPROVED, Outcome.PASSED)
_MIDDLE = (Outcome.NOT_EXCLUDED, Outcome.INCOMPARABLE, Outcome.NO_BASELINE)
ORDER = (*_FIRST, *_MIDDLE, *_LAST)


@dataclass(frozen=True)
class Counts:
    """How many verdicts a run has; red and undecided ones are among the judged ones."""

    judged: int
    red: int
    undecided: int
    report_only: int


def ordered(results: RunResults) -> list[Verdict]:
    """The verdicts, what needs attention first and what is report-only last."""
    return sorted(results.verdicts, key=_rank)


def _rank(row: Verdict) -> tuple[bool, int, str]:
    is_report_only = row.gate == "report"
    return is_report_only, ORDER.index(row.outcome), row.experiment


def judged_verdicts(results: RunResults) -> list[Verdict]:
    """The verdicts that can fail the run, what needs attention first."""
    return [row for row in ordered(results) if row.gate == "hard"]


def counts(results: RunResults, gate: Gate) -> Counts:
    """How many verdicts are judged, red, undecided and report-only."""
    hard = judged_verdicts(results)
    red = undecided = 0
    for row in hard:
        if is_red(row.outcome, "hard", gate):
            red += 1
        elif row.outcome not in GREEN:
            undecided += 1
    return Counts(
        judged=len(hard),
        red=red,
        undecided=undecided,
        report_only=len(results.verdicts) - len(hard),
    )


def red_groups(results: RunResults) -> list[GroupVerdict]:
    """The group verdicts that fail the run, whatever its gate."""
    rows = results.group_verdicts
    return [row for row in rows if is_red(row.outcome, row.gate, "advisory")]


def regressed_report_only(results: RunResults) -> int:
    """How many report-only rows are worse than their threshold."""
    number = 0
    for row in results.verdicts:
        if row.gate == "report" and row.outcome is Outcome.REGRESSED:
            number += 1
    return number


def missing(results: RunResults) -> int:
    """Cases that were to be judged and have no verdict: not measured, or not possible."""
    without_verdict = unjudged(results.cases, results.verdicts)
    return len(without_verdict) + len(results.lacking)


def judged_again(results: RunResults, store: Store) -> RunResults:
    """The run with the verdicts that these baselines give it now.

    Its own launches, where they were accepted, are left out of them.
    """
    store = store.without_run(results.run_id)
    tests = {row.case: row.test for row in results.verdicts}
    cases = {case.id: case for case in results.cases}
    rows = []
    for decision in gate.judge_run(results, store):
        test = tests.get(decision.case, "(judged again)")
        rows.append(decision.row(cases[decision.case], test))
    results = msgspec.structs.replace(results, verdicts=tuple(rows))
    return with_group_verdicts(results, store)


def is_compared(results: RunResults) -> bool:
    """Whether any judged case has something to be compared with."""
    for row in results.verdicts:
        if row.gate == "hard" and row.outcome is not Outcome.NO_BASELINE:
            return True
    return False


def fails(results: RunResults, gate: Gate) -> bool:
    """Whether the run fails: by a case, a group, a failed server, or as it says nothing.

    Args:
        gate: with "required" and "strict" a part of the suite, a run that was cut off,
            a missing verdict and a run without any baseline fail, too.
    """
    if results.failed_servers or red_groups(results) or not results.verdicts:
        return True
    if counts(results, gate).red:
        return True
    if gate == "advisory":
        return False
    has_all = results.is_whole and not results.left_out
    if not has_all or missing(results):
        return True
    return not is_compared(results)


def state(results: RunResults) -> State:
    """Red as the run's own gate has it, green if every case was judged and passed."""
    if fails(results, results.gate):
        return "Red"
    totals = counts(results, "strict")
    is_whole = not unjudged(results.cases, results.verdicts)
    if totals.judged and is_whole and not totals.red:
        return "Green"
    return "Undecided"


def session_fails(
    results: RunResults | None, without_verdict: Sequence[Case], gate: Gate
) -> bool:
    """Whether a session fails, apart from its tests.

    Args:
        results: None if nothing was measured.
        without_verdict: cases that were selected and not judged.
        gate: with "advisory" only verdicts over several rows fail it.
    """
    if gate == "advisory":
        return results is not None and bool(red_groups(results))
    if results is None or without_verdict:
        return True
    return fails(results, gate)
