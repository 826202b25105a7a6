"""Noise: launch-to-launch variation of a baseline, and the thresholds that follow from it.

All sums are on the logarithm of the values, so that +5 % and -5 % weigh alike. With K
recorded launches whose logarithms have standard deviation s, k launches now, and no
change at all, the estimate "how much worse" has the standard deviation

    s * sqrt(m + (1 - m) / k + m / S + (1 - m) / K)

because the launches of one session share what the machine does that day: of the
variance, m averages out over sessions alone, and S sessions were recorded
(`perfgate.judge.sessions`). Where the repetitions within the launches of now say
that a launch varies by more than s * sqrt(1 - m), that counts in its place
(`perfgate.judge.repetition_scatter`).

s is averaged from the launches, those of other machines, and what the whole store says
of the metric (`perfgate.judge.noise_table`), each weighted by its degrees of freedom.
Where the store says nothing, the policy assumes a variation.

The noise bound is that error times Student's t at 1 - alpha. Student's t and not the
normal quantile, because s is itself an estimate: with six launches, the normal quantile
raises a false alarm 14 times as often as it claims. The rows of a run share its false
alarms (`row_alpha`).

The ceiling is the largest loss that may pass. It limits the noise bound to MOST_CEILINGS
times the ceiling, or to MOST_ERRORS standard errors where that is more. The threshold is
THRESHOLD_SHARE of the target effect, or the noise bound where that is larger.

The margin is the error times Student's t at EXCLUSION: a loss larger than seen by more
than that is excluded. (`python -m benchmarks.gate_simulation` checks these claims;
docs/error-rates.md has its table.)
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from perfgate.judge.baseline_schema import MetricBaseline
from perfgate.judge.noise_table import Spread
from perfgate.judge.policy import Policy
from perfgate.judge.sessions import (
    MACHINE_SHARE,
    degrees_of_freedom,
    effective_sessions,
    mean_share,
    shown_share,
)
from perfgate.results.samples import Sample, counted, in_time_order, values_of

ALPHA = 0.001  # false alarms of one row, however few rows a run has
# Unchanged runs that fail by any of their rows, at most. The rows of a run share it, so
# that each of more rows has a smaller ALPHA. (`python -m benchmarks.whole_runs`)
FALSE_ALARMS_PER_RUN = 0.005
# Where the noise is hardly known, Student's t has no bound worth the name. A loss of so
# many ceilings, and of so many standard errors, is a regression all the same. (With 12
# errors 4.6 % of unchanged runs on two H200 fail against one recorded launch, with 18
# 1.8 %.)
MOST_CEILINGS, MOST_ERRORS = 4, 18
# One-sided confidence with which a loss is called excluded.
EXCLUSION = 0.95
# Losses of the target size that a single launch may call clearly fine.
OVERLOOKED = 0.005
# Of the target effect: z(0.999) / (z(0.999) + z(0.95)). A loss of the target size then
# lies 1.645 standard errors beyond the threshold.
THRESHOLD_SHARE = 0.65
ESTABLISHED_LAUNCHES, ESTABLISHED_RUNS = 6, 3
DECISION_LAUNCHES = 3  # one, and two more when that one is borderline
MOST_RECORDED_LAUNCHES = 60  # that `launches_needed` tries
# Weight of the assumed noise where the store does not know that of the metric.
PRIOR_LAUNCHES = 4
# Most degrees of freedom that pooled machines add, and the fewest that one needs with
# them: those of six launches. With fifteen, where machines vary unevenly
# (`fleet_simulation --uneven 0.5`), 0.3 % of unchanged runs would fail with one launch
# of their own, and not 0.07 %.
ESTABLISHED_DEGREES_OF_FREEDOM = 5.0
# Of a variation that the policy fixes.
FIXED_DEGREES_OF_FREEDOM = 30.0
# Successive differences count where they vary so much less than the launches do: with
# probability 5 % for launches that do not drift.
DRIFT_QUANTILE = 1.645
Source = tuple[float, float]
"""A variance of logarithms, and the degrees of freedom with which it is known."""


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
class MachinesLaunches:
    """Of machines that are compared: how launches of one of them vary.

    Attributes:
        variation: within each machine; None where none has launches of two runs.
        in_means: of that variance, what the machines' means still have, on average.
    """

    variation: PooledVariation | None
    in_means: float


@dataclass(frozen=True)
class Noise:
    """Launch-to-launch variation of a baseline, and how well it is known.

    Attributes:
        center: mean of the logarithms.
        sigma: standard deviation of the logarithms, drawn towards what the store says
            of the metric.
        degrees_of_freedom: with which sigma is known.
        effective_sessions: as many sessions of equally many launches know the mean as
            well (`perfgate.judge.sessions`).
        established: known with ESTABLISHED_DEGREES_OF_FREEDOM or more, by launches of
            its own, of other machines or of the whole store.
        pooled_machines: other machines whose variation is part of sigma.
        prior: what the store says of the metric; None where it does not know it.
        shared: of the variance, what launches of one session share; 1 where each launch
            stands for another machine.
        repetition_variance: of a launch of now (log), at least, as its repetitions tell.
        within: where each launch stands for another machine, the variance (log) of the
            launches of one machine.
        in_means: of that variance, what the machines' means still have, on average.

    """

    center: float
    sigma: float
    degrees_of_freedom: float
    launches: int
    runs: int
    effective_sessions: float
    established: bool
    pooled_machines: int = 0
    prior: Spread | None = None
    shared: float = MACHINE_SHARE
    repetition_variance: float = 0.0
    within: float = 0.0
    in_means: float = 0.0

    @property
    def reference(self) -> float:
        """The baseline's value: the geometric mean of its launches."""
        return math.exp(self.center)

    def error(self, launches_now: int) -> float:
        """Standard error (log) of the loss, by so many launches of one session."""
        variance = self.sigma**2
        of_launch = max(self._launch_variance_now, self.repetition_variance)
        of_session = (MACHINE_SHARE - self.in_means) * self.within
        added = max(0.0, of_session + of_launch / launches_now)
        now = self.shared * variance + added
        of_mean = mean_share(
            self.launches, self.effective_sessions, self.shared
        )
        return math.sqrt(now + variance * of_mean)

    def with_launches(self, launches: int) -> Noise:
        """The same with so many recorded launches, the added ones of a session each."""
        added = launches - self.launches
        squares = self.launches**2 / self.effective_sessions + added
        return dataclasses.replace(
            self,
            launches=launches,
            runs=self.runs + added,
            effective_sessions=launches**2 / squares,
        )

    @property
    def _launch_variance_now(self) -> float:
        """Of the variance of a launch of now, what its session does not share."""
        of_recorded = (1 - self.shared) * self.sigma**2
        return of_recorded + (1 - MACHINE_SHARE) * self.within

    @property
    def is_widened(self) -> bool:
        """Whether repetitions say that a launch of now varies by more than recorded ones."""
        return self.repetition_variance > self._launch_variance_now

    def noise_bound(self, launches_now: int, alpha: float = ALPHA) -> float:
        """Noise bound: loss (log) that unchanged code exceeds with probability alpha.

        Args:
            launches_now: of one session.
        """
        quantile = t_quantile(self.degrees_of_freedom, 1 - alpha)
        return quantile * self.error(launches_now)

    def margin(self, launches_now: int) -> float:
        """What a loss may be larger (log) than it looks, with confidence EXCLUSION."""
        return self.noise_bound(launches_now, 1 - EXCLUSION)

    def mde(
        self, higher_is_better: bool, launches_now: int = DECISION_LAUNCHES
    ) -> float:
        """Minimum detectable effect: the smallest loss, as a fraction, caught with 95 %."""
        return fraction_of(
            self.noise_bound(launches_now) / THRESHOLD_SHARE, higher_is_better
        )


def noise_of(
    points: Sequence[float],
    runs: Sequence[str],
    policy: Policy,
    elsewhere: PooledVariation | None = None,
    prior: Spread | None = None,
    shared: float = MACHINE_SHARE,
) -> Noise:
    """The noise of a baseline's launches.

    Their variance is averaged with that of other machines and with the prior, each
    weighted by its degrees of freedom.

    Args:
        points: value of each launch in time order, positive.
        runs: the run that each launch belongs to.
        elsewhere: variation of other machines' launches, where the points are of one
            machine.
        prior: what the store says of the metric. None: the policy's assumed CV counts
            until the launches are established.
        shared: of the variance, what launches of one session share.

    """
    logs = [math.log(value) for value in points]
    launches, sessions = len(logs), len(set(runs))
    sources = _sources(logs, runs, elsewhere, prior)
    known = _known(sources)
    has_enough_launches = (
        launches >= ESTABLISHED_LAUNCHES and sessions >= ESTABLISHED_RUNS
    )
    is_established = (
        has_enough_launches or known >= ESTABLISHED_DEGREES_OF_FREEDOM
    )
    if prior is None and not is_established:
        sources.append((policy.assumed_cv**2, float(PRIOR_LAUNCHES)))
    variance, freedom = _variance(sources, policy)
    pooled_machines = 0
    if elsewhere is not None:
        pooled_machines = elsewhere.machines
    return Noise(
        center=statistics.fmean(logs),
        sigma=math.sqrt(variance),
        degrees_of_freedom=freedom,
        launches=launches,
        runs=sessions,
        effective_sessions=effective_sessions(runs),
        established=is_established,
        pooled_machines=pooled_machines,
        prior=prior,
        shared=shared,
    )


def _sources(
    logs: Sequence[float],
    runs: Sequence[str],
    elsewhere: PooledVariation | None,
    prior: Spread | None,
) -> list[Source]:
    """What is known of the variance: by these launches, other machines and the store."""
    sources = []
    # Launches of one session alone do not tell how much a machine changes from one
    # session to the next.
    is_known_elsewhere = elsewhere is not None or prior is not None
    if len(set(runs)) > 1 or not is_known_elsewhere:
        sources.append(_own_variance(logs, runs))
    if elsewhere is not None:
        sources.append(_capped(elsewhere))
    if prior is not None:
        sources.append((prior.cv**2, prior.degrees_of_freedom))
    return sources


def _capped(elsewhere: PooledVariation) -> Source:
    """What other machines add: no more than six launches would."""
    freedom = min(elsewhere.degrees_of_freedom, ESTABLISHED_DEGREES_OF_FREEDOM)
    return elsewhere.variance, freedom


def _own_variance(logs: Sequence[float], runs: Sequence[str]) -> Source:
    """Variance of the launches, and its degrees of freedom.

    A drift must not widen its own threshold: where neighbouring launches differ far
    less than all of them vary, their differences count.
    """
    launches = len(logs)
    if launches < 2:
        return 0.0, 0.0
    variance = sample_variance(logs)
    freedom = degrees_of_freedom(launches, len(set(runs)))
    if launches >= ESTABLISHED_LAUNCHES:
        successive, successive_freedom = successive_variance(logs)
        deviation = math.sqrt((launches - 2) / (launches**2 - 1))
        if successive < variance * (1 - DRIFT_QUANTILE * deviation):
            variance, freedom = successive, min(freedom, successive_freedom)
    return variance / shown_share(runs), freedom


def sample_variance(values: Sequence[float]) -> float:
    """Variance of at least two values. `statistics.variance` computes exact fractions."""
    mean = statistics.fmean(values)
    squares = math.fsum((value - mean) ** 2 for value in values)
    return squares / (len(values) - 1)


def successive_variance(logs: Sequence[float]) -> Source:
    """Variance by differences of neighbours, and its degrees of freedom.

    Half the mean square of successive differences. A slow drift hardly enters it (von
    Neumann, "Distribution of the ratio of the mean square successive difference to the
    variance", Ann. Math. Stat. 12, 1941).

    Args:
        logs: in time order, at least two.
    """
    launches = len(logs)
    squares = [
        (later - earlier) ** 2 for earlier, later in itertools.pairwise(logs)
    ]
    variance = statistics.fmean(squares) / 2
    freedom = 2 * (launches - 1) ** 2 / (3 * launches - 4)
    return variance, freedom


def _variance(sources: Sequence[Source], policy: Policy) -> Source:
    """Variance and its degrees of freedom: what the policy fixes, else of the sources."""
    if policy.fixed_cv is not None:
        return policy.fixed_cv**2, FIXED_DEGREES_OF_FREEDOM
    return _averaged(sources)


def _known(sources: Sequence[Source]) -> float:
    """Degrees of freedom of all sources together."""
    return math.fsum(freedom for _, freedom in sources)


def _averaged(sources: Sequence[Source]) -> Source:
    """Mean of variances, weighted by their degrees of freedom, and the sum of these."""
    total = _known(sources)
    squares = math.fsum(variance * freedom for variance, freedom in sources)
    return squares / total, max(1.0, total)


def noise_of_baseline(
    metric: MetricBaseline,
    policy: Policy,
    elsewhere: PooledVariation | None = None,
    prior: Spread | None = None,
    shared: float = MACHINE_SHARE,
) -> Noise:
    """The noise of a recorded metric; arguments as of `noise_of`."""
    samples = in_time_order(counted(metric.launches))
    runs = [sample.run for sample in samples]
    return noise_of(values_of(samples), runs, policy, elsewhere, prior, shared)


def noise_of_machines(
    metric: MetricBaseline,
    policy: Policy,
    launches: MachinesLaunches,
    between: Spread | None = None,
    within: Spread | None = None,
) -> Noise:
    """The noise of machines that count once each, by the means of their launches.

    A launch of now also varies as launches of its machine do.

    Args:
        between: what the store says of machines.
        within: what it says of the launches of one machine.
    """
    noise = noise_of_baseline(metric, policy, prior=between, shared=1.0)
    if policy.fixed_cv is not None:
        return noise
    sources = []
    if launches.variation is not None:
        sources.append(_capped(launches.variation))
    if within is not None:
        sources.append((within.cv**2, within.degrees_of_freedom))
    elif _known(sources) < ESTABLISHED_DEGREES_OF_FREEDOM:
        sources.append((policy.assumed_cv**2, float(PRIOR_LAUNCHES)))
    variance, _ = _averaged(sources)
    return dataclasses.replace(
        noise, within=variance, in_means=launches.in_means
    )


def pooled_variation(
    machines: Iterable[Sequence[Sample]],
) -> PooledVariation | None:
    """Launch-to-launch variation within machines; None where none has launches of two runs.

    Args:
        machines: the launches of each.
    """
    sums: list[float] = []
    freedoms: list[float] = []
    for samples in machines:
        launches = counted(samples)
        runs = [sample.run for sample in launches]
        sessions = len(set(runs))
        if sessions < 2:
            continue
        freedom = degrees_of_freedom(len(launches), sessions)
        logs = [math.log(value) for value in values_of(launches)]
        variance = sample_variance(logs) / shown_share(runs)
        sums.append(freedom * variance)
        freedoms.append(freedom)
    if not freedoms:
        return None
    total = math.fsum(freedoms)
    return PooledVariation(math.fsum(sums) / total, total, len(freedoms))


def row_alpha(rows: int) -> float:
    """False alarms of one row, of a run with so many rows that may fail it."""
    return min(ALPHA, FALSE_ALARMS_PER_RUN / max(1, rows))


def loss_threshold(
    target_effect: float,
    noise: Noise,
    launches_now: int,
    higher_is_better: bool,
    alpha: float = ALPHA,
    ceiling: float | None = None,
) -> float:
    """Threshold: loss (log) beyond which it is a regression.

    Args:
        alpha: false alarms that the noise bound allows.
        ceiling: the largest loss, as a fraction, that may pass. The threshold is at most
            MOST_CEILINGS of it, unless the launches vary that much.
    """
    share_of_target = THRESHOLD_SHARE * log_loss(
        target_effect, higher_is_better
    )
    bound = noise.noise_bound(launches_now, alpha)
    if ceiling is not None:
        limit = MOST_CEILINGS * log_loss(ceiling, higher_is_better)
        errors = MOST_ERRORS * noise.error(launches_now)
        bound = min(bound, max(limit, errors))
    return max(share_of_target, bound)


def fast_pass_threshold(
    target_effect: float,
    noise: Noise,
    higher_is_better: bool,
    alpha: float = ALPHA,
    ceiling: float | None = None,
) -> float:
    """Fast-pass threshold: loss (log) up to which one launch is enough.

    It lies below what three launches catch by as much as a launch varies (but for
    OVERLOOKED of the losses). It is at least half of their threshold and at most all of
    it: a launch beyond the threshold never decides alone.
    """
    three = loss_threshold(
        target_effect,
        noise,
        DECISION_LAUNCHES,
        higher_is_better,
        alpha,
        ceiling,
    )
    quantile = t_quantile(noise.degrees_of_freedom, 1 - OVERLOOKED)
    variation = quantile * noise.error(1)
    return min(three, max(three / 2, three / THRESHOLD_SHARE - variation))


def log_loss(fraction: float, higher_is_better: bool) -> float:
    """A loss (fraction) as a logarithm: throughput falls to 1 - x, latency grows to 1 + x."""
    if higher_is_better:
        return -math.log1p(-fraction)
    return math.log1p(fraction)


def loss_of(value: float, reference: float, higher_is_better: bool) -> float:
    """How much worse a value is than a reference, as a logarithm; negative if better."""
    if higher_is_better:
        return math.log(reference / value)
    return math.log(value / reference)


def fraction_of(loss: float, higher_is_better: bool) -> float:
    """The inverse of `log_loss`: by which fraction it is worse; negative if better."""
    if higher_is_better:
        return -math.expm1(-loss)
    return math.expm1(loss)


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
    noise: Noise, target_effect: float, higher_is_better: bool
) -> int | None:
    """Recorded launches, one a session, that detect the target effect at this noise.

    None if MOST_RECORDED_LAUNCHES are not enough.
    """
    fewest = max(ESTABLISHED_LAUNCHES, noise.launches)
    for count in range(fewest, MOST_RECORDED_LAUNCHES + 1):
        grown = dataclasses.replace(
            noise.with_launches(count),
            degrees_of_freedom=max(count - 1, noise.degrees_of_freedom),
        )
        if grown.mde(higher_is_better) <= target_effect:
            return count
    return None


def launches_to_exclude(
    noise: Noise, ceiling: float, max_launches: int = 30
) -> tuple[int, int] | None:
    """(recorded, current) launches that exclude a loss above the ceiling.

    Where the code is unchanged and no slower than recorded. More current launches are
    tried first, then more recorded ones. None where neither is enough.

    Args:
        ceiling: the loss (log).
        max_launches: recorded ones to be tried.
    """
    for recorded in range(noise.launches, max_launches + 1):
        grown = noise.with_launches(recorded)
        for current in (1, DECISION_LAUNCHES):
            if grown.margin(current) <= ceiling / 2:
                return recorded, current
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
