"""How small a loss can be promised to be caught?

All sums are on the logarithm of the values, so that +5 % and -5 % weigh alike. With K
recorded launches whose logarithms have standard deviation s, k launches now, and no
change at all, the estimate "how much worse" scatters with

    s * sqrt(m + (1 - m) / k + 1 / K)

because the launches of one session share what the machine does that day: of the
variance, m does not average out. The noise guard is that times Student's t at 1 -
ALPHA. Student's t and not the normal quantile, because s is itself known from a handful
of launches: with six, the normal quantile raises a false alarm 14 times as often as it
claims. The alarm line is LINE_SHARE of the promised loss Delta, and never below the
guard. (`python -m benchmarks.gate_simulation` checks these claims; docs/gating.md has
its table.)
"""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from perfgate.cases import GateMode
from perfgate.judge.baseline_schema import LaunchPoint, MetricBaseline
from perfgate.load.metrics import Family, family_of

ALPHA = 0.001  # false alarms per gate that the guard allows
OVERLOOKED = (
    0.005  # losses of the promised size that a single launch may call clearly fine
)
# z(0.999) / (z(0.999) + z(0.95)): a loss of Delta then lies 1.645 standard errors
# beyond the line.
LINE_SHARE = 0.65
# Of the variance between launches, the part that all launches of one session share.
# Assumed, on the careful side of the 34 to 63 % of the simulated machines; it decides
# how much two more launches are worth.
MACHINE_SHARE = 2 / 3
FIRM_LAUNCHES, FIRM_RUNS = 6, 3
DECISION_LAUNCHES = 3  # one, and two more when that one is not clearly fine
PRIOR_LAUNCHES = 4  # weight of the assumed noise while a baseline is provisional
# Most degrees of freedom that other machines lend, and the fewest that one needs with
# them: those of six launches. With fifteen, where machines scatter unevenly
# (`fleet_simulation --uneven 0.5`), 0.3 % of unchanged runs would be red with one
# launch of their own, and not 0.07 %.
FIRM_FREEDOM = 5.0


@dataclass(frozen=True)
class Policy:
    """What is promised about one kind of metric on one kind of machine.

    Attributes:
        smallest: Delta never is less, however quiet the launches were: context (driver,
            clocks) moves by that much.
        until_firm: Delta while fewer than 6 launches of 3 runs are recorded.
        widest: a larger Delta needs a reason; without one nothing but a loss beyond the
            alarm line is judged.
        floor: a loss below this, in the metric's unit, never is a regression.
        assumed_cv: launch noise taken for granted until enough launches show it.
        paired: Delta of three pairs of base and candidate, which do not tell how quiet
            the machine is.
        gate: "report" where the metric is never judged there.

    """

    smallest: float
    until_firm: float
    widest: float
    floor: float
    assumed_cv: float
    paired: float
    gate: GateMode = "hard"

    @property
    def without_reason(self) -> float:
        """The largest Delta that is promised without a reason."""
        return max(self.widest, self.until_firm)


GPU_RATE = Policy(
    smallest=0.02,
    until_firm=0.05,
    widest=0.20,
    floor=0.0,
    assumed_cv=0.011,
    paired=0.05,
)
# Single-stream TTFT is the server's own Python: launches of one H200 scatter by 6 %, of
# one H100 by 15 %.
GPU_TTFT = Policy(
    smallest=0.10, until_firm=0.10, widest=0.30, floor=3.0, assumed_cv=0.10, paired=0.10
)
# Energy for a token: of eight H200 four take 6 to 15 % more than the others, whatever
# they serve; launches of one of them agree within 1 to 2 %.
GPU_ENERGY = Policy(
    smallest=0.05, until_firm=0.20, widest=0.30, floor=0.0, assumed_cv=0.05, paired=0.05
)
GPU_TAIL = Policy(
    smallest=0.15,
    until_firm=0.20,
    widest=0.30,
    floor=3.0,
    assumed_cv=0.06,
    paired=0.20,
    gate="report",
)
CPU_RATIO = Policy(
    smallest=0.15, until_firm=0.20, widest=0.30, floor=0.0, assumed_cv=0.07, paired=0.15
)
CPU_ABSOLUTE = Policy(
    smallest=0.15,
    until_firm=0.25,
    widest=0.50,
    floor=0.0,
    assumed_cv=0.06,
    paired=0.15,
    gate="report",
)
START_UP = Policy(
    smallest=0.25,
    until_firm=0.50,
    widest=0.50,
    floor=0.0,
    assumed_cv=0.15,
    paired=0.25,
    gate="report",
)
EXACT = Policy(
    smallest=0.02,
    until_firm=0.02,
    widest=0.05,
    floor=0.0,
    assumed_cv=0.001,
    paired=0.02,
)
PEAK = Policy(
    smallest=0.05,
    until_firm=0.05,
    widest=0.10,
    floor=0.0,
    assumed_cv=0.003,
    paired=0.05,
)
# The same prompts take the same ways, but for the few tokens that another sum rounds to
# another expert.
ROUTING = Policy(
    smallest=0.10,
    until_firm=0.10,
    widest=0.20,
    floor=0.0,
    assumed_cv=0.005,
    paired=0.10,
)
_ON_EVERY_MACHINE: Mapping[Family, Policy] = {
    "start_up": START_UP,
    "routing": ROUTING,
    "memory_peak": PEAK,
    "memory": EXACT,
    "constant": EXACT,
}
# Every other family is a rate.
_ON_GPUS: Mapping[Family, Policy] = {
    "tail": GPU_TAIL,
    "energy": GPU_ENERGY,
    "ttft": GPU_TTFT,
}


def policy_for(hardware_label: str, metric: str, ratio: bool) -> Policy:
    """The policy by kind of machine, family of the metric, and absolute value or ratio.

    Args:
        hardware_label: "cpu..." or that of GPUs, "h200x2".
        metric: a name in `perfgate.load.metrics.METRICS`; any other counts as "custom".
        ratio: whether the ratio of two values is judged.
    """
    family = family_of(metric)
    policy = _ON_EVERY_MACHINE.get(family)
    if policy is not None:
        return policy
    if not hardware_label.startswith("cpu"):
        return _ON_GPUS.get(family, GPU_RATE)
    if ratio and family != "tail":
        return CPU_RATIO
    return CPU_ABSOLUTE


@dataclass(frozen=True)
class Scatter:
    """How much launches of one machine differ, as others of its kind tell.

    Attributes:
        variance: of the logarithms, around each machine's own mean.
        freedom: degrees of freedom with which it is known.
        machines: how many told.
    """

    variance: float
    freedom: float
    machines: int


@dataclass(frozen=True)
class Noise:
    """How much the launches of a baseline scatter, as far as they can tell.

    Attributes:
        center: mean of the logarithms.
        sigma: standard deviation of the logarithms; while provisional, drawn towards
            the assumed one.
        freedom: degrees of freedom with which sigma is known.
        firm: at least FIRM_LAUNCHES launches of FIRM_RUNS runs, or known as well with
            the help of other machines.
        lenders: other machines that helped.

    """

    center: float
    sigma: float
    freedom: float
    launches: int
    runs: int
    firm: bool
    lenders: int = 0

    @property
    def reference(self) -> float:
        """The baseline's value: the geometric mean of its launches."""
        return math.exp(self.center)

    def guard(self, launches_now: int) -> float:
        """Loss (log) that unchanged code exceeds with probability ALPHA on `launches_now` launches of one session."""
        shared = MACHINE_SHARE + (1 - MACHINE_SHARE) / launches_now
        return (
            t_quantile(self.freedom)
            * self.sigma
            * math.sqrt(shared + 1 / self.launches)
        )

    def detectable(
        self, higher_is_better: bool, launches_now: int = DECISION_LAUNCHES
    ) -> float:
        """Smallest loss, as a fraction, that is caught with 95 % on that many launches."""
        return fraction_of(self.guard(launches_now) / LINE_SHARE, higher_is_better)


def noise_of(
    points: Sequence[float],
    runs: Sequence[str],
    policy: Policy,
    elsewhere: Scatter | None = None,
) -> Noise:
    """The noise of a baseline's launches.

    Args:
        points: value of each launch, positive.
        runs: the run that each launch belongs to.
        elsewhere: how much launches of other machines scatter, where the points are of
            one.

    """
    logs = [math.log(value) for value in points]
    count, sessions = len(logs), len(set(runs))
    firm = count >= FIRM_LAUNCHES and sessions >= FIRM_RUNS
    variance = statistics.variance(logs) if count > 1 else 0.0
    freedom, lenders = freedom_of(count, sessions), 0
    # Launches of one session alone do not tell how much a machine moves from one to the
    # next.
    own, lent = (
        freedom if sessions > 1 else 0.0,
        min(elsewhere.freedom, FIRM_FREEDOM) if elsewhere else 0.0,
    )
    if elsewhere is not None and (firm or own + lent >= FIRM_FREEDOM):
        variance = (own * variance + lent * elsewhere.variance) / (own + lent)
        freedom, firm, lenders = own + lent, True, elsewhere.machines
    elif not firm:
        weight = count - 1 + PRIOR_LAUNCHES
        variance = (
            (count - 1) * variance + PRIOR_LAUNCHES * policy.assumed_cv**2
        ) / weight
        freedom = float(weight)
    return Noise(
        statistics.fmean(logs),
        math.sqrt(variance),
        freedom,
        count,
        sessions,
        firm,
        lenders,
    )


def noise_of_baseline(
    metric: MetricBaseline, policy: Policy, elsewhere: Scatter | None = None
) -> Noise:
    """The noise of a recorded metric."""
    return noise_of(
        [p.value for p in metric.launches],
        [p.run for p in metric.launches],
        policy,
        elsewhere,
    )


def scatter_of(machines: Iterable[Sequence[LaunchPoint]]) -> Scatter | None:
    """How much launches of one machine differ, by several machines; None where none has launches of two runs.

    Args:
        machines: the launches of each.
    """
    sessions = [
        (launches, len({point.run for point in launches})) for launches in machines
    ]
    told = [(launches, runs) for launches, runs in sessions if runs > 1]
    if not told:
        return None
    freedoms = [freedom_of(len(launches), runs) for launches, runs in told]
    variances = [
        statistics.variance(math.log(point.value) for point in launches)
        for launches, _ in told
    ]
    pooled = math.fsum(
        f * v for f, v in zip(freedoms, variances, strict=True)
    ) / math.fsum(freedoms)
    return Scatter(pooled, math.fsum(freedoms), len(told))


def freedom_of(launches: int, sessions: int) -> float:
    """Degrees of freedom of the spread between launches, when launches of one session share the machine's part."""
    return max(1.0, (launches + sessions) / 2 - 1)


def alarm_line(
    delta: float, noise: Noise, launches_now: int, higher_is_better: bool
) -> float:
    """Loss (log) beyond which it is a regression."""
    return max(
        LINE_SHARE * log_loss(delta, higher_is_better), noise.guard(launches_now)
    )


def clear_line(delta: float, noise: Noise, higher_is_better: bool) -> float:
    """Loss (log) up to which a single launch is clearly fine, and no more are needed.

    As far below what three launches catch as a launch scatters (but for OVERLOOKED of
    the losses), at least half of their alarm line and at most all of it: a launch
    beyond the line never decides alone.
    """
    three = alarm_line(delta, noise, DECISION_LAUNCHES, higher_is_better)
    scatter = (
        t_quantile(noise.freedom, 1 - OVERLOOKED)
        * noise.sigma
        * math.sqrt(1 + 1 / noise.launches)
    )
    return min(three, max(three / 2, three / LINE_SHARE - scatter))


def log_loss(fraction: float, higher_is_better: bool) -> float:
    """A loss as a fraction, on the logarithm: a throughput falls to 1 - x, a latency grows to 1 + x."""
    return -math.log1p(-fraction) if higher_is_better else math.log1p(fraction)


def fraction_of(loss: float, higher_is_better: bool) -> float:
    """The inverse of `log_loss`: by which fraction it is worse; negative if better."""
    return -math.expm1(-loss) if higher_is_better else math.expm1(loss)


def promised_delta(noise: Noise, policy: Policy, higher_is_better: bool) -> float:
    """The smallest round figure that the launches can detect; provisional ones get no credit for being quiet."""
    if not noise.firm:
        return max(policy.until_firm, policy.smallest)
    return max(
        policy.smallest, step_up(noise.detectable(higher_is_better), higher_is_better)
    )


def step_up(fraction: float, higher_is_better: bool = False) -> float:
    """The next round figure: steps of 0.5 % below 10 %, of 1 % below 20 %, of 5 % above; a throughput keeps 5 %."""
    step = 0.005 if fraction <= 0.1 else 0.01 if fraction <= 0.2 else 0.05
    found = round(max(1, math.ceil(fraction / step - 1e-9)) * step, 4)
    return min(found, 0.95) if higher_is_better else found


def launches_needed(
    noise: Noise, delta: float, higher_is_better: bool, most: int = 60
) -> int | None:
    """Recorded launches (one a session) from which Delta can be detected at this noise; None if `most` do not do."""
    for count in range(max(FIRM_LAUNCHES, noise.launches), most + 1):
        if (
            Noise(noise.center, noise.sigma, count - 1, count, count, True).detectable(
                higher_is_better
            )
            <= delta
        ):
            return count
    return None


@functools.lru_cache(maxsize=1024)
def t_quantile(freedom: float, probability: float = 1 - ALPHA) -> float:
    """Student's t at `probability`."""
    from scipy.special import (
        stdtrit,
    )  # here: it takes 0.2 s, and collecting tests judges nothing

    return float(stdtrit(freedom, probability))


def spread(values: Iterable[float]) -> float:
    """Standard deviation of the logarithms, 0 for a single value: the coefficient of variation, for small ones."""
    logs = [math.log(value) for value in values]
    return statistics.stdev(logs) if len(logs) > 1 else 0.0
