"""Mixed launches: some launches match the baseline, the others are slower.

The cause is drawn at the start: which kernel is chosen, which expert placement, which
clock. Their mean says little, so each launch is compared alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from perfgate import formatting
from perfgate.judge import wording
from perfgate.judge.noise import fraction_of, loss_of


@dataclass(frozen=True)
class Mixture:
    """Launches of two kinds.

    Attributes:
        slow: losses of the slow launches (log).
        matching: how many match the baseline.
    """

    slow: tuple[float, ...]
    matching: int

    def sentence(self, higher_is_better: bool) -> str:
        """Which share is how much worse than the baseline."""
        loss = sum(self.slow) / len(self.slow)
        launches = formatting.count(len(self.slow) + self.matching, "launch")
        verb = "are"
        if len(self.slow) == 1:
            verb = "is"
        others = "the others match"
        if self.matching == 1:
            others = "the other one matches"
        return wording.MIXED_LAUNCHES.format(
            slow=len(self.slow),
            launches=launches,
            verb=verb,
            loss=formatting.percent(fraction_of(loss, higher_is_better)),
            others=others,
        )


def mixture(
    values: Sequence[float],
    reference: float,
    threshold: float,
    higher_is_better: bool,
) -> Mixture | None:
    """The two kinds of launches; None where all are alike, or one is of neither kind.

    Args:
        reference: the baseline.
        threshold: the loss (log) beyond which a single launch is slow.
    """
    slow = []
    matching = 0
    for value in values:
        loss = loss_of(value, reference, higher_is_better)
        if loss > threshold:
            slow.append(loss)
        elif loss >= -threshold:
            matching += 1
        else:
            return None
    if not slow or not matching:
        return None
    return Mixture(tuple(slow), matching)
