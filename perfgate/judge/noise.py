"""Noise: launch-to-launch variation of a baseline, and the thresholds that follow from it.

All sums are on the logarithm of the values, so that +5 % and -5 % weigh alike. With K
recorded launches whose logarithms have standard deviation s, k launches now, and no
change at all, the estimate "how much worse" has the standard deviation

    s * sqrt(m + (1 - m) / k + 1 / K)

because the launches of one session share what the machine does that day: of the
variance, m does not average out. The noise bound is that times Student's t at 1 -
ALPHA. Student's t and not the normal quantile, because s is itself known from a handful
of launches: with six, the normal quantile raises a false alarm 14 times as often as it
claims. The threshold is LINE_SHARE of the target effect Delta, and never below the
noise bound. (`python -m benchmarks.gate_simulation` checks these claims; docs/gating.md
has its table.)
"""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from perfgate.judge.baseline_schema import MetricBaseline
from perfgate.judge.policy import Policy
from perfgate.results.samples import Sample, values_of

ALPHA = 0.001  # false alarms per gate that the noise bound allows
# Losses of the target size that a single launch may call clearly fine.
OVERLOOKED = 0.005
# z(0.999) / (z(0.999) + z(0.95)): a loss of Delta then lies 1.645 standard errors
# beyond the line.
LINE_SHARE = 0.65
# Of the variance between launches, the part that all launches of one session share.
# Assumed, on the careful side of the 34 to 63 % of the simulated machines; it decides
# how much two more launches are worth.
MACHINE_SHARE = 2 / 3
ESTABLISHED_LAUNCHES, ESTABLISHED_RUNS = 6, 3
DECISION_LAUNCHES = 3  # one, and two more when that one is borderline
# Weight of the assumed noise while a baseline is provisional.
PRIOR_LAUNCHES = 4
# Most degrees of freedom that pooled machines add, and the fewest that one needs with
# them: those of six launches. With fifteen, where machines vary unevenly
# (`fleet_simulation --uneven 0.5`), 0.3 % of unchanged runs would fail with one launch
# of their own, and not 0.07 %.
ESTABLISHED_DEGREES_OF_FREEDOM = 5.0


@dataclass(frozen=True)
class PooledVariation:
    """Launch-to-launch variation of several machines of one kind.

    Attributes:
        variance: of the logarithms, around each machine's own mean.
        degrees_of_freedom: with which it is known.
        machines: how many were pooled.
    """

    variance: float
    degrees_of_freedom: float
    machines: int


@dataclass(frozen=True)
class Noise:
    """Launch-to-launch variation of a baseline, and how well it is known.

    Attributes:
        center: mean of the logarithms.
        sigma: standard deviation of the logarithms; while provisional, drawn towards
            the assumed one.
        degrees_of_freedom: with which sigma is known.
        established: at least ESTABLISHED_LAUNCHES launches of ESTABLISHED_RUNS runs, or
            known as well with the help of pooled machines.
        pooled_machines: other machines whose variation is part of sigma.

    """

    center: float
    sigma: float
    degrees_of_freedom: float
    launches: int
    runs: int
    established: bool
    pooled_machines: int = 0

    @property
    def reference(self) -> float:
        """The baseline's value: the geometric mean of its launches."""
        return math.exp(self.center)

    def noise_bound(self, launches_now: int) -> float:
        """Noise bound: loss (log) that unchanged code exceeds with probability ALPHA.

        Args:
            launches_now: of one session.
        """
        shared = MACHINE_SHARE + (1 - MACHINE_SHARE) / launches_now
        error = self.sigma * math.sqrt(shared + 1 / self.launches)
        return t_quantile(self.degrees_of_freedom) * error

    def mde(
        self, higher_is_better: bool, launches_now: int = DECISION_LAUNCHES
    ) -> float:
        """Minimum detectable effect: the smallest loss, as a fraction, caught with 95 %."""
        return fraction_of(
            self.noise_bound(launches_now) / LINE_SHARE, higher_is_better
        )


def noise_of(
    points: Sequence[float],
    runs: Sequence[str],
    policy: Policy,
    elsewhere: PooledVariation | None = None,
) -> Noise:
    """The noise of a baseline's launches.

    Args:
        points: value of each launch, positive.
        runs: the run that each launch belongs to.
        elsewhere: variation of other machines' launches, where the points are of one
            machine.

    """
    logs = [math.log(value) for value in points]
    launches, sessions = len(logs), len(set(runs))
    variance = statistics.variance(logs) if launches > 1 else 0.0
    freedom = degrees_of_freedom(launches, sessions)
    is_established = (
        launches >= ESTABLISHED_LAUNCHES and sessions >= ESTABLISHED_RUNS
    )
    # Launches of one session alone do not tell how much a machine changes from one
    # session to the next.
    own_freedom = freedom if sessions > 1 else 0.0
    pooled_freedom = 0.0
    if elsewhere is not None:
        pooled_freedom = min(
            elsewhere.degrees_of_freedom, ESTABLISHED_DEGREES_OF_FREEDOM
        )
    total_freedom = own_freedom + pooled_freedom
    is_enough = (
        is_established or total_freedom >= ESTABLISHED_DEGREES_OF_FREEDOM
    )
    pooled_machines = 0
    if elsewhere is not None and is_enough:
        squares = own_freedom * variance + pooled_freedom * elsewhere.variance
        variance = squares / total_freedom
        freedom = total_freedom
        is_established = True
        pooled_machines = elsewhere.machines
    elif not is_established:
        freedom = float(launches - 1 + PRIOR_LAUNCHES)
        assumed_squares = PRIOR_LAUNCHES * policy.assumed_cv**2
        squares = (launches - 1) * variance + assumed_squares
        variance = squares / freedom
    return Noise(
        center=statistics.fmean(logs),
        sigma=math.sqrt(variance),
        degrees_of_freedom=freedom,
        launches=launches,
        runs=sessions,
        established=is_established,
        pooled_machines=pooled_machines,
    )


def noise_of_baseline(
    metric: MetricBaseline,
    policy: Policy,
    elsewhere: PooledVariation | None = None,
) -> Noise:
    """The noise of a recorded metric."""
    runs = [sample.run for sample in metric.launches]
    return noise_of(values_of(metric.launches), runs, policy, elsewhere)


def pooled_variation(
    machines: Iterable[Sequence[Sample]],
) -> PooledVariation | None:
    """Launch-to-launch variation within machines; None where none has launches of two runs.

    Args:
        machines: the launches of each.
    """
    sums: list[float] = []
    freedoms: list[float] = []
    for launches in machines:
        sessions = len({sample.run for sample in launches})
        if sessions < 2:
            continue
        freedom = degrees_of_freedom(len(launches), sessions)
        logs = [math.log(value) for value in values_of(launches)]
        sums.append(freedom * statistics.variance(logs))
        freedoms.append(freedom)
    if not freedoms:
        return None
    total = math.fsum(freedoms)
    return PooledVariation(math.fsum(sums) / total, total, len(freedoms))


def degrees_of_freedom(launches: int, sessions: int) -> float:
    """Of the variance between launches, when launches of one session share the machine's part."""
    return max(1.0, (launches + sessions) / 2 - 1)


def loss_threshold(
    target_effect: float,
    noise: Noise,
    launches_now: int,
    higher_is_better: bool,
) -> float:
    """Threshold: loss (log) beyond which it is a regression."""
    share_of_target = LINE_SHARE * log_loss(target_effect, higher_is_better)
    return max(share_of_target, noise.noise_bound(launches_now))


def fast_pass_threshold(
    target_effect: float, noise: Noise, higher_is_better: bool
) -> float:
    """Fast-pass threshold: loss (log) up to which one launch is enough.

    It lies below what three launches catch by as much as a launch varies (but for
    OVERLOOKED of the losses). It is at least half of their threshold and at most all of
    it: a launch beyond the threshold never decides alone.
    """
    three = loss_threshold(
        target_effect, noise, DECISION_LAUNCHES, higher_is_better
    )
    quantile = t_quantile(noise.degrees_of_freedom, 1 - OVERLOOKED)
    variation = quantile * noise.sigma * math.sqrt(1 + 1 / noise.launches)
    return min(three, max(three / 2, three / LINE_SHARE - variation))


def log_loss(fraction: float, higher_is_better: bool) -> float:
    """A loss (fraction) as a logarithm: throughput falls to 1 - x, latency grows to 1 + x."""
    if higher_is_better:
        return -math.log1p(-fraction)
    return math.log1p(fraction)


def fraction_of(loss: float, higher_is_better: bool) -> float:
    """The inverse of `log_loss`: by which fraction it is worse; negative if better."""
    if higher_is_better:
        return -math.expm1(-loss)
    return math.expm1(loss)


def smallest_target_effect(
    noise: Noise, policy: Policy, higher_is_better: bool
) -> float:
    """Target effect: the smallest round fraction that the launches can detect.

    Provisional launches get no credit for being quiet.
    """
    if not noise.established:
        return max(policy.until_established, policy.smallest)
    mde = noise.mde(higher_is_better)
    return max(policy.smallest, step_up(mde, higher_is_better))


def step_up(fraction: float, higher_is_better: bool = False) -> float:
    """The next round fraction; at most 95 % for a throughput.

    Steps are of 0.5 % below 10 %, of 1 % below 20 %, of 5 % above.
    """
    step = 0.05
    if fraction <= 0.1:
        step = 0.005
    elif fraction <= 0.2:
        step = 0.01
    steps = max(1, math.ceil(fraction / step - 1e-9))
    rounded = round(steps * step, 4)
    if higher_is_better:
        return min(rounded, 0.95)
    return rounded


def launches_needed(
    noise: Noise,
    target_effect: float,
    higher_is_better: bool,
    max_launches: int = 60,
) -> int | None:
    """Recorded launches, one a session, from which Delta can be detected at this noise.

    None if `max_launches` are not enough.
    """
    for count in range(
        max(ESTABLISHED_LAUNCHES, noise.launches), max_launches + 1
    ):
        grown = Noise(
            center=noise.center,
            sigma=noise.sigma,
            degrees_of_freedom=count - 1,
            launches=count,
            runs=count,
            established=True,
        )
        if grown.mde(higher_is_better) <= target_effect:
            return count
    return None


@functools.lru_cache(maxsize=1024)
def t_quantile(freedom: float, probability: float = 1 - ALPHA) -> float:
    """Student's t at `probability`.

    Args:
        freedom: degrees of freedom.
    """
    # Imported here: it takes 0.2 s, and collecting tests judges nothing.
    from scipy.special import stdtrit

    return float(stdtrit(freedom, probability))


def coefficient_of_variation(values: Iterable[float]) -> float:
    """CV as the standard deviation of the logarithms: the same for small ones.

    0 for a single value.
    """
    logs = [math.log(value) for value in values]
    if len(logs) < 2:
        return 0.0
    return statistics.stdev(logs)
