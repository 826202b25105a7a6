"""Which outcomes fail a run, and the decision that the gate hands to the campaign."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from perfgate.cases import Case, GateMode
from perfgate.results.gates import Gate
from perfgate.results.group_verdict import GroupVerdict
from perfgate.results.verdict import Moved, Outcome, Reference, Verdict

__all__ = [
    "ALWAYS_RED",
    "GREEN",
    "Decision",
    "Gate",
    "Moved",
    "Outcome",
    "Reference",
    "Verdict",
    "is_red",
    "is_regression",
    "unjudged",
]

GREEN = frozenset({Outcome.PASSED, Outcome.IMPROVED})
ALWAYS_RED = frozenset({Outcome.REGRESSED, Outcome.INVALID})
# Nothing is wrong: nothing is recorded, or the noise hides the ceiling.
NOT_JUDGED = frozenset({Outcome.NO_BASELINE, Outcome.NOT_EXCLUDED})
RED: Mapping[Gate, frozenset[Outcome]] = {
    "advisory": ALWAYS_RED,
    "required": frozenset(Outcome) - GREEN - NOT_JUDGED,
    "strict": frozenset(Outcome) - GREEN,
}


class Decision(Verdict, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A verdict before it stands: it may ask for more launches.

    Attributes:
        needs_launches: fresh launches (pairs of base and candidate, where these are
            judged) to measure before the verdict counts; 0: it stands. Never stored.

    """

    needs_launches: int = 0


def is_red(outcome: Outcome, gate_mode: GateMode, gate: Gate) -> bool:
    """Whether the outcome fails the run.

    Args:
        gate_mode: a "report" case never fails it.
        gate: "advisory": only REGRESSED and INVALID fail it. "required": INCONCLUSIVE
            and INCOMPARABLE do, too. "strict": everything but PASSED and IMPROVED does.

    """
    if gate_mode == "report":
        return False
    return outcome in RED[gate]


def is_regression(row: Verdict | GroupVerdict) -> bool:
    """Whether it is REGRESSED and fails a run."""
    return row.gate == "hard" and row.outcome is Outcome.REGRESSED


def unjudged(cases: Iterable[Case], verdicts: Iterable[Verdict]) -> list[Case]:
    """Hard cases without a verdict; each fails a run but with --gate=advisory."""
    with_verdict = {verdict.case for verdict in verdicts}
    hard = [case for case in cases if case.gate == "hard"]
    return [case for case in hard if case.id not in with_verdict]
