"""Sequential test: pairs of a build until it is sure which of two losses it has.

All losses are logarithms against the good build. Either a build has lost nothing, or as
much as the bad build: pairs are added until one is 99 times as likely as the other
(Wald's sequential probability ratio test). The noise is that of all pairs so far, and
what is known of the metric beforehand. How badly it is known widens it, by Student's t.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from perfgate.judge.noise import t_quantile
from perfgate.judge.noise_table import Spread

# Of builds that are called good, or bad, at most so many are not.
DOUBT = 0.01
MOST_LOG_ODDS = math.log((1 - DOUBT) / DOUBT)
# With which the noise known beforehand counts at most: this machine may be another one.
MOST_PRIOR_FREEDOM = 10.0
Side = Literal["good", "bad", "unsure"]


def spread_of_pairs(groups: Iterable[Sequence[float]], prior: Spread) -> Spread:
    """The variation of the losses within pairs.

    Args:
        groups: losses of each build; they vary around their own mean.
        prior: of single launches, known beforehand.
    """
    prior_freedom = min(prior.degrees_of_freedom, MOST_PRIOR_FREEDOM)
    squares = prior_freedom * 2 * prior.cv**2
    freedom = prior_freedom
    for losses in groups:
        if len(losses) > 1:
            squares += (len(losses) - 1) * statistics.variance(losses)
            freedom += len(losses) - 1
    return Spread(cv=math.sqrt(squares / freedom), degrees_of_freedom=freedom)


@dataclass(frozen=True)
class Estimate:
    """The loss of a build, by its pairs.

    Attributes:
        loss: the mean of the pairs.
        error: standard error of the loss.
        degrees_of_freedom: with which the error is known.
    """

    loss: float
    error: float
    degrees_of_freedom: float
    pairs: int

    def margin(self, doubt: float = DOUBT) -> float:
        """By so much the loss may be larger, or smaller, with that doubt at each side."""
        return t_quantile(self.degrees_of_freedom, 1 - doubt) * self.error

    def limits(self, doubt: float = DOUBT) -> tuple[float, float]:
        """The interval of the loss."""
        margin = self.margin(doubt)
        return self.loss - margin, self.loss + margin


def estimate(losses: Sequence[float], spread: Spread) -> Estimate:
    """The loss of a build with at least one pair."""
    return Estimate(
        loss=statistics.fmean(losses),
        error=spread.cv / math.sqrt(len(losses)),
        degrees_of_freedom=spread.degrees_of_freedom,
        pairs=len(losses),
    )


def side(build: Estimate, bad: Estimate) -> Side:
    """Whether a build has lost nothing, or as much as the bad one."""
    beyond = build.loss - bad.loss / 2
    freedom = build.degrees_of_freedom
    widened = t_quantile(freedom, 1 - DOUBT) / t_quantile(math.inf, 1 - DOUBT)
    error = widened * math.hypot(build.error, bad.error / 2)
    log_odds = bad.loss * beyond / error**2
    if log_odds > MOST_LOG_ODDS:
        return "bad"
    if log_odds < -MOST_LOG_ODDS:
        return "good"
    return "unsure"


def nearest_side(build: Estimate, bad: Estimate) -> Side:
    """The likelier side of a build that is not sure."""
    if build.loss > bad.loss / 2:
        return "bad"
    return "good"
