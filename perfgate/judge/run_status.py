"""Run status: which verdicts decide a run, and whether it is green, red or undecided."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from perfgate.cases import Case
from perfgate.judge import gate
from perfgate.judge.baseline_store import Store
from perfgate.judge.verdict import ALWAYS_RED, Outcome, is_red, unjudged
from perfgate.results.schema import RunResults, VerdictRow

# The order of the table: what needs a person's attention comes first.
_RANK = {outcome: rank for rank, outcome in enumerate(Outcome)} | {
    Outcome.REGRESSED: -4,
    Outcome.INVALID: -3,
    Outcome.INCONCLUSIVE: -2,
    Outcome.PASSED: 98,
    Outcome.IMPROVED: 97,
}


def ordered(results: RunResults) -> list[VerdictRow]:
    """The verdicts, what needs attention first and what is only reported last."""
    return sorted(results.verdicts, key=_rank)


def _rank(row: VerdictRow) -> tuple[bool, int, str]:
    return row.gate == "report", _RANK[Outcome(row.outcome)], row.experiment


def judged(results: RunResults) -> list[VerdictRow]:
    """The verdicts that can turn the run red, what needs attention first."""
    return [row for row in ordered(results) if row.gate == "hard"]


def missing(results: RunResults) -> int:
    """How many cases that were to be judged have no verdict: not measured, or not possible on that machine."""
    return len(unjudged(results.cases, results.verdicts)) + len(results.lacking)


def judged_again(results: RunResults, store: Store) -> RunResults:
    """The run with the verdicts that these baselines give it now."""
    tests = {row.case: row.test for row in results.verdicts}
    cases = {case.id: case for case in results.cases}
    rows = (
        v.row(cases[v.case], tests.get(v.case, "(judged again)"))
        for v in gate.judge_run(results, store)
    )
    return msgspec.structs.replace(results, verdicts=tuple(rows))


def is_green(results: RunResults) -> bool:
    """Whether --gate=required has nothing against the run: all of the suite was asked, and each case passed."""
    whole = (
        results.complete
        and not results.left_out
        and not results.failures
        and not missing(results)
    )
    outcomes = [Outcome(row.outcome) for row in judged(results)]
    return (
        whole
        and bool(outcomes)
        and not any(is_red(outcome, "hard", required=True) for outcome in outcomes)
    )


def fails(results: RunResults, required: bool) -> bool:
    """Whether the run is red: by a case, by a server that could not be had, or because it says nothing."""
    if required:
        return not is_green(results)
    bad = any(Outcome(row.outcome) in ALWAYS_RED for row in judged(results))
    return bad or bool(results.failures) or not results.verdicts


def is_green_session(
    results: RunResults | None, without_verdict: Sequence[Case]
) -> bool:
    """Whether --gate=required has nothing against a session.

    Args:
        results: None if nothing was measured.
        without_verdict: cases that were selected and not judged.
    """
    return results is not None and not without_verdict and is_green(results)
