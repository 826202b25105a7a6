"""Noise learning: the noise table of a whole store, fitted to its recorded launches.

The variances of series are taken as scaled F: s_i^2 ~ s_0^2 F(d_i, d_0), as in Smyth,
"Linear models and empirical Bayes methods", Stat. Appl. Genet. Mol. Biol. 3 (2004). s_0
and d_0 are fitted by maximum likelihood. Series that vary unevenly give a small d_0: the
table then promises little.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from perfgate.judge.noise_table import (
    WIDER,
    ContrastName,
    GroupNoise,
    NoiseTable,
    Platform,
    Spread,
    contrast_names,
    names_of,
)
from perfgate.judge.policy import RATE_FAMILIES
from perfgate.judge.sessions import shown_share
from perfgate.load.metrics import METRICS, family_of
from perfgate.load.workload import Arrivals
from perfgate.results.samples import (
    Sample,
    counted,
    in_time_order,
    launches_by_machine,
    values_of,
)

# Of these families the variation is learned. The others are exact, or have a policy of
# their own.
LEARNED_FAMILIES = RATE_FAMILIES | {"energy"}
FEWEST_SERIES = 2
FEWEST_DEGREES_OF_FREEDOM = 5
# Stored values have six digits; launches that agree to the last one have no logarithm.
SMALLEST_CV = 1e-4
# Between these the weight of the prior is fitted. With 2 or less the variance that it
# stands for has no mean, and a few uneven series would promise nothing.
WEIGHT_LIMITS = (3.0, 60.0)
# With which one GPU and several must differ to count separately.
SPLIT_CONFIDENCE = 0.95


@dataclass(frozen=True)
class MachineLaunches:
    """The launches of one machine.

    Attributes:
        logs: the logarithm of each launch's value, in time order.
        runs: the run of each.
    """

    logs: Sequence[float]
    runs: Sequence[str]


@dataclass(frozen=True)
class Series:
    """The recorded launches of one metric in one baseline.

    Attributes:
        metric: of a shift the kind of its rows.
        arrivals: how requests arrive; None where the file does not say.
        machines: the launches of each machine.
        contrast: which one of several rows it is; None for a metric.
    """

    platform: Platform
    metric: str
    arrivals: Arrivals | None
    is_ratio: bool
    machines: Mapping[str | None, MachineLaunches]
    contrast: ContrastName | None = None

    @property
    def names(self) -> list[str]:
        """Groups that it is learned for; none for a metric that is not learned."""
        if self.contrast is not None:
            return contrast_names(
                self.platform, self.contrast, self.metric, self.arrivals
            )
        if family_of(self.metric) not in LEARNED_FAMILIES:
            return []
        return names_of(
            self.platform, self.metric, self.arrivals, self.is_ratio
        )

    @property
    def launches(self) -> int:
        """Recorded values; a contrast has none of its own."""
        if self.contrast is not None:
            return 0
        return sum(len(found.logs) for found in self.machines.values())


def machine_launches(
    samples: Iterable[Sample], machines: Mapping[str, str]
) -> dict[str | None, MachineLaunches]:
    """Machine -> its launches, in time order.

    Args:
        machines: run -> machine.
    """
    valid = in_time_order(counted(samples))
    found = {}
    for machine, launches in launches_by_machine(valid, machines).items():
        found[machine] = MachineLaunches(
            logs=[math.log(value) for value in values_of(launches)],
            runs=[sample.run for sample in launches],
        )
    return found


def learn(series: Iterable[Series], day: str) -> NoiseTable:
    """The table of all series.

    Args:
        day: ISO date that is stored with it.
    """
    groups: dict[str, list[Series]] = defaultdict(list)
    launches = 0
    for row in series:
        names = row.names
        if names:
            launches += row.launches
        for name in names:
            groups[name].append(row)
    learned = {}
    for name in sorted(groups):
        noise = _noise_of(name, groups)
        if noise is not None:
            learned[name] = noise
    return NoiseTable(learned=day, launches=launches, groups=learned)


def _noise_of(
    name: str, groups: Mapping[str, Sequence[Series]]
) -> GroupNoise | None:
    """The noise of a group; None where too little was recorded, or a wider one has it.

    One GPU and several have their own variation of launches, or of machines, only where
    the two differ: else all GPUs tell more together. Machines also have it where they
    differ in the family, of which more were recorded.
    """
    own = _learned(name, groups)
    platform, _, rest = name.partition("/")
    if own is None or platform not in WIDER:
        return own
    narrow = _narrow(rest, groups)
    wider = groups[f"gpu/{rest}"]
    launches_differ = _launches_differ(narrow, wider)
    machines_differ = _machines_differ(narrow) or _machines_differ(
        _narrow(_family_of_group(rest), groups)
    )
    if not launches_differ and not machines_differ:
        return None
    # The wider group has all series of this one, so that it has a noise, too.
    together = _learned(f"gpu/{rest}", groups) or own
    machines = together.machines
    if machines_differ and own.machines is not None:
        machines = own.machines
    launches = own if launches_differ else together
    return msgspec.structs.replace(launches, machines=machines)


def _learned(
    name: str, groups: Mapping[str, Sequence[Series]]
) -> GroupNoise | None:
    """The noise of a group's own series; None where too little was recorded.

    Where few of its machines are known, their variation is that of its family: the
    variance of three machines is known so badly that it would excuse everything.
    """
    noise = _group_noise(groups[name])
    if noise is None or noise.machines is None:
        return noise
    own = noise.machines.degrees_of_freedom
    if own >= FEWEST_DEGREES_OF_FREEDOM:
        return noise
    platform, _, rest = name.partition("/")
    family = f"{platform}/{_family_of_group(rest)}"
    machines = _between_machines(groups.get(family, ()))
    if machines is None or machines.degrees_of_freedom <= own:
        return noise
    return msgspec.structs.replace(noise, machines=machines)


def _narrow(
    rest: str, groups: Mapping[str, Sequence[Series]]
) -> list[Sequence[Series]]:
    """The series of one GPU, and those of several."""
    return [groups.get(f"{count}/{rest}", ()) for count in WIDER]


def _family_of_group(rest: str) -> str:
    """The family's part of a group's name: it has more machines than one kind of load."""
    metric, *others = rest.split("/")
    if metric not in METRICS:
        return rest
    if others[-1:] == ["ratio"]:
        return f"{family_of(metric)}/ratio"
    return family_of(metric)


def _group_noise(members: Sequence[Series]) -> GroupNoise | None:
    """None where too few launches were recorded to learn from."""
    variances, freedoms = _variances(members)
    if not _is_enough(variances, freedoms):
        return None
    typical = fit(variances, freedoms).spread
    cv = typical.cv / math.sqrt(_shown(members))
    return GroupNoise(
        launches=_rounded(cv, typical.degrees_of_freedom),
        machines=_between_machines(members),
        series=len(variances),
    )


def _is_enough(variances: Sequence[float], freedoms: Sequence[int]) -> bool:
    """Whether something can be learned from these."""
    is_known = sum(freedoms) >= FEWEST_DEGREES_OF_FREEDOM
    return len(variances) >= FEWEST_SERIES and is_known


def _shown(members: Iterable[Series]) -> float:
    """Of the variance between launches, what these series show on average.

    It counts on the whole: of single series it would make those of one session look
    unlike the others, and the table would promise less.
    """
    total_shown, total_freedom = 0.0, 0
    for launches in _with_variance(members):
        freedom = len(launches.logs) - 1
        total_shown += freedom * shown_share(launches.runs)
        total_freedom += freedom
    return total_shown / total_freedom


def _between_machines(members: Sequence[Series]) -> Spread | None:
    """Variation of machines' means, pooled over baselines with three machines or more."""
    squares, freedom = 0.0, 0
    for row in members:
        means = []
        for machine, launches in row.machines.items():
            if machine is not None and launches.logs:
                means.append(statistics.fmean(launches.logs))
        if len(means) >= 3:
            squares += statistics.variance(means) * (len(means) - 1)
            freedom += len(means) - 1
    if not freedom:
        return None
    cv = math.sqrt(squares / freedom)
    return _rounded(max(cv, SMALLEST_CV), float(freedom))


def _launches_differ(
    narrow: Sequence[Sequence[Series]], wider: Sequence[Series]
) -> bool:
    """Whether launches on one GPU and on several vary differently.

    They do by a likelihood ratio. They also do where one of them varies so evenly that it
    promises more alone: uneven series of the other would only dilute it.
    """
    # Imported here: it takes a second, and judging does not need it.
    from scipy.stats import chi2

    together = fit(*_variances(wider))
    likelihood = 0.0
    for members in narrow:
        variances, freedoms = _variances(members)
        if not variances:
            return False
        alone = fit(variances, freedoms)
        is_enough = _is_enough(variances, freedoms)
        if is_enough and alone.weight > together.weight:
            return True
        likelihood += alone.log_likelihood
    gain = likelihood - together.log_likelihood
    return bool(2 * gain > chi2.ppf(SPLIT_CONFIDENCE, 2))


def _machines_differ(narrow: Sequence[Sequence[Series]]) -> bool:
    """Whether machines vary differently with one GPU and with several, by an F-test."""
    # Imported here, as above.
    from scipy.stats import f

    spreads = []
    for members in narrow:
        spread = _between_machines(members)
        if spread is None:
            return False
        spreads.append(spread)
    spreads.sort(key=lambda spread: spread.cv)
    smaller, larger = spreads
    ratio = (larger.cv / smaller.cv) ** 2
    freedoms = (larger.degrees_of_freedom, smaller.degrees_of_freedom)
    return bool(2 * f.sf(ratio, *freedoms) < 1 - SPLIT_CONFIDENCE)


def _variances(members: Iterable[Series]) -> tuple[list[float], list[int]]:
    """Variance and degrees of freedom of each machine's launches, where it has several."""
    variances: list[float] = []
    freedoms: list[int] = []
    for launches in _with_variance(members):
        variances.append(statistics.variance(launches.logs))
        freedoms.append(len(launches.logs) - 1)
    return variances, freedoms


def _with_variance(members: Iterable[Series]) -> Iterator[MachineLaunches]:
    """The launches of each machine that has several."""
    for row in members:
        for launches in row.machines.values():
            if len(launches.logs) > 1:
                yield launches


@dataclass(frozen=True)
class Fit:
    """A fitted prior, and how well it explains the variances."""

    spread: Spread
    log_likelihood: float

    @property
    def weight(self) -> float:
        """Degrees of freedom with which it counts."""
        return self.spread.degrees_of_freedom


def fit(variances: Sequence[float], freedoms: Sequence[int]) -> Fit:
    """Typical variance and weight of the prior, by maximum likelihood of scaled F.

    Args:
        variances: of the logarithms, one for each series.
        freedoms: degrees of freedom of each.
    """
    # Imported here: they take a second, and judging needs neither.
    import numpy as np
    from scipy import optimize, stats

    observed = np.maximum(np.asarray(variances), SMALLEST_CV**2)
    own = np.asarray(freedoms, dtype=float)

    def loss(parameters: Sequence[float]) -> float:
        scale, weight = np.exp(parameters)
        density = stats.f.logpdf(observed / scale, own, weight)
        return float(-np.sum(density - np.log(scale)))

    pooled = float(np.sum(observed * own) / np.sum(own))
    low, high = WEIGHT_LIMITS
    result = optimize.minimize(
        loss,
        x0=[math.log(pooled), math.log(math.sqrt(low * high))],
        bounds=[(None, None), (math.log(low), math.log(high))],
        method="L-BFGS-B",
    )
    scale, weight = np.exp(result.x)
    known = min(float(weight), float(np.sum(own)))
    return Fit(
        spread=_rounded(math.sqrt(float(scale)), known),
        log_likelihood=-float(result.fun),
    )


def _rounded(cv: float, degrees_of_freedom: float) -> Spread:
    """As it is stored: three digits of the CV, one decimal of the weight."""
    return Spread(
        cv=float(f"{cv:.3g}"), degrees_of_freedom=round(degrees_of_freedom, 1)
    )
