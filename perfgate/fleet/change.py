"""Change: what a whole fleet says about one row, machine by machine; pure.

Where machines have launches of their own in the baseline, each is compared with itself,
so that how machines differ falls out. Else the mean of the fleet's machines is compared
with that of the recorded ones. The machine is the unit: its launches share what it does
that day.

The loss is the mean over machines; its error bound is Student's, one-sided at 95 %,
with the variance that is known of such a row before as so many machines more.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from perfgate.judge.noise import THRESHOLD_SHARE, t_quantile
from perfgate.judge.verdict import Outcome

CONFIDENCE = 0.95
# One-sided, of an unchanged row of a fleet; the rows of a run share it.
FALSE_ALARMS = 0.01
PRIOR_WEIGHT = 4.0  # machines
# So many machines with a past of their own are compared with themselves.
FEWEST_OWN = 2

Logs = Sequence[float]


@dataclass(frozen=True)
class Prior:
    """What is known of a row's variation before the run, as logarithms.

    Attributes:
        launches_cv: between launches of one machine. machines_cv: between machines.
    """

    launches_cv: float
    machines_cv: float


@dataclass(frozen=True)
class Change:
    """The loss of a row over the machines of a fleet, as logarithms.

    Attributes:
        loss: positive is worse. error: half of its 90 % interval.
        alarm: beyond which an unchanged fleet hardly ever is.
        machines: that it rests on. launches: of those machines.
        is_own: whether each machine was compared with itself.
    """

    loss: float
    error: float
    alarm: float
    machines: int
    launches: int
    is_own: bool

    @property
    def excluded(self) -> float:
        """The smallest loss that is excluded with 95 % confidence."""
        return max(0.0, self.loss + self.error)

    def outcome(self, target: float) -> Outcome:
        """What follows, where a loss of that size (log) is to be caught."""
        threshold = THRESHOLD_SHARE * target
        if self.loss > threshold:
            if self.loss > self.alarm:
                return Outcome.REGRESSED
            return Outcome.INCONCLUSIVE
        if self.loss < -max(threshold, self.alarm):
            return Outcome.IMPROVED
        if self.excluded <= target:
            return Outcome.PASSED
        return Outcome.NOT_EXCLUDED


def compare(
    now: Mapping[str, Logs],
    before: Mapping[str, Logs],
    prior: Prior,
    rows: int = 1,
) -> Change:
    """Compare a fleet's machines with what was recorded.

    Args:
        now, before: machine -> logarithms of its launches, larger where slower; at
            least one machine each.
        rows: that are judged in the run, and share its false alarms.
    """
    own = [name for name in now if name in before]
    launches = sum(map(len, now.values()))
    if len(own) >= FEWEST_OWN:
        losses = [_mean(now[name]) - _mean(before[name]) for name in own]
        loss = statistics.fmean(losses)
        variances = [_variance(now[n], before[n], prior) for n in own]
        variance, freedom = _shrunk(losses, statistics.fmean(variances))
        scale = math.sqrt(variance / len(own))
        launches = sum(len(now[name]) for name in own)
        return _change(loss, scale, freedom, rows, (len(own), launches, True))
    means = [_mean(row) for row in now.values()]
    recorded = [_mean(row) for row in before.values()]
    loss = statistics.fmean(means) - statistics.fmean(recorded)
    fewest = min(map(len, now.values()))
    assumed = prior.machines_cv**2 + prior.launches_cv**2 / fewest
    pooled = [row - statistics.fmean(means) for row in means]
    pooled += [row - statistics.fmean(recorded) for row in recorded]
    variance, freedom = _shrunk(pooled, assumed, lost=2)
    scale = math.sqrt(variance * (1 / len(means) + 1 / len(recorded)))
    return _change(loss, scale, freedom, rows, (len(means), launches, False))


def _change(
    loss: float,
    scale: float,
    freedom: float,
    rows: int,
    counted: tuple[int, int, bool],
) -> Change:
    machines, launches, is_own = counted
    return Change(
        loss=loss,
        error=t_quantile(freedom, CONFIDENCE) * scale,
        alarm=t_quantile(freedom, 1 - FALSE_ALARMS / max(1, rows)) * scale,
        machines=machines,
        launches=launches,
        is_own=is_own,
    )


def _mean(row: Logs) -> float:
    return statistics.fmean(row)


def _variance(now: Logs, before: Logs, prior: Prior) -> float:
    """Of a machine's difference to itself, as it is known before."""
    return prior.launches_cv**2 * (1 / len(now) + 1 / len(before))


def _shrunk(
    rows: Sequence[float], assumed: float, lost: int = 1
) -> tuple[float, float]:
    """The variance of some rows with the assumed one, and its degrees of freedom.

    Args:
        lost: degrees of freedom that their means took.
    """
    freedom = max(0, len(rows) - lost)
    middle = statistics.fmean(rows)
    squares = sum((row - middle) ** 2 for row in rows)
    total = PRIOR_WEIGHT + freedom
    return (PRIOR_WEIGHT * assumed + squares) / total, total
