"""One launch: what is said of a case that needs further launches where there are none."""

from __future__ import annotations

import msgspec

from perfgate.errors import Failure
from perfgate.judge.verdict import Decision, Outcome, Verdict

# Times the threshold: a larger loss is a regression on one launch, where no second one
# is possible. The threshold allows for the noise of one launch already.
CLEARLY_WORSE = 2.0


def in_doubt(verdict: Verdict, reason: str) -> Verdict:
    """A verdict that needs more launches where there are none; INVALID stays INVALID.

    Args:
        reason: why there are none.
    """
    if verdict.outcome is Outcome.INVALID:
        return verdict
    launches = "One launch does"
    if verdict.launches > 1:
        launches = f"{verdict.launches} launches do"
    detail = f"{launches} not decide this, and {reason}."
    return msgspec.structs.replace(
        verdict,
        outcome=Outcome.INCONCLUSIVE,
        details=(*verdict.details, detail),
    )


def after_failed_launch(decision: Decision, failure: Failure) -> Verdict:
    """The verdict where a further launch failed: INCONCLUSIVE if it needs that launch."""
    if not decision.needs_launches:
        return decision
    return in_doubt(decision, f"a further launch failed ({failure.seen})")


def is_clearly_worse(verdict: Verdict) -> bool:
    """Whether a regression is so large that one launch shows it."""
    if verdict.outcome is not Outcome.REGRESSED:
        return False
    if verdict.worse_by is None or verdict.threshold is None:
        return False
    return verdict.worse_by >= CLEARLY_WORSE * verdict.threshold


def of_one_launch(verdict: Verdict) -> Verdict:
    """A clear regression, with a note that it rests on one launch."""
    detail = (
        "The test cannot repeat its one launch. It is REGRESSED, because the loss is "
        f"at least {CLEARLY_WORSE:g} times the threshold."
    )
    return msgspec.structs.replace(verdict, details=(*verdict.details, detail))
