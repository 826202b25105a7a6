"""What was decided?

The outcomes, the verdict that holds one, and which outcomes turn a run red.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable

import msgspec

from perfgate.cases import Case, GateMode
from perfgate.results.schema import VerdictRow


class Outcome(enum.StrEnum):
    """What a judgement can end in; there is no outcome for "not judged", because that is never green."""

    PASSED = "PASSED"
    IMPROVED = "IMPROVED"
    REGRESSED = "REGRESSED"
    NO_BASELINE = "NO_BASELINE"
    INCOMPARABLE = "INCOMPARABLE"
    INVALID = "INVALID"
    INCONCLUSIVE = "INCONCLUSIVE"


DEMOTED = "reported only:"  # of a case that the suite would judge
GREEN = frozenset({Outcome.PASSED, Outcome.IMPROVED})
ALWAYS_RED = frozenset({Outcome.REGRESSED, Outcome.INVALID})


class Verdict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One case judged.

    Attributes:
        value: geometric mean of the valid launches, in the metric's unit.
        change: fraction by which the value is larger than the baseline.
        worse_by: fraction by which it is worse, negative if better.
        alarm_line: fraction of loss beyond which it is a regression.
        delta: the loss that is promised to be caught. detectable: the smallest that
            these launches can catch.
        noise: how much the recorded launches scatter, as a fraction.
        launches: valid launches that the verdict rests on.
        demoted: why a case that the suite would judge is only reported; empty where it
            is judged.
        needs_launches: fresh launches (of base and candidate each, where they are
            judged in pairs) that should be measured before this verdict counts; 0: it
            stands.

    """

    case: str
    metric: str
    outcome: Outcome
    gate: GateMode
    message: str
    value: float | None = None
    baseline: float | None = None
    change: float | None = None
    worse_by: float | None = None
    alarm_line: float | None = None
    delta: float | None = None
    detectable: float | None = None
    noise: float | None = None
    launches: int = 0
    demoted: str = ""
    needs_launches: int = 0

    def row(self, case: Case, test: str) -> VerdictRow:
        """As it is stored in results.json."""
        same = {
            name: value
            for name, value in msgspec.structs.asdict(self).items()
            if name != "needs_launches"
        }
        return VerdictRow(
            test=test,
            experiment=case.experiment,
            **same | {"outcome": self.outcome.value},
        )


def is_red(outcome: Outcome, gate_mode: GateMode, required: bool) -> bool:
    """Whether the outcome fails the run.

    Args:
        gate_mode: a "report" case never does.
        required: everything but PASSED and IMPROVED does; otherwise what could not be
            judged is shown as skipped.

    """
    if gate_mode == "report":
        return False
    return outcome not in GREEN if required else outcome in ALWAYS_RED


def unjudged(
    cases: Iterable[Case], verdicts: Iterable[Verdict | VerdictRow]
) -> list[Case]:
    """Hard cases without a verdict: in required mode each of them is red."""
    seen = {verdict.case for verdict in verdicts}
    return [case for case in cases if case.gate == "hard" and case.id not in seen]
