"""Rules of the gate on simulated noise, vectorised.

Logarithms of launch values are drawn with three parts of noise: what all launches of
one session share (the machine that day), what a launch has for itself, and what a
repetition has. The rules are vectorised copies of those in `perfgate.judge.noise` and
`perfgate.judge.recorded`; a test holds them against `perfgate.judge.gate.judge` itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from perfgate.judge.noise import (
    DECISION_LAUNCHES,
    LINE_SHARE,
    MACHINE_SHARE,
    OVERLOOKED,
    degrees_of_freedom,
    t_quantile,
)
from perfgate.judge.policy import GPU_RATE

Array = npt.NDArray[np.float64]
GATES = 72  # hard gates of one run of the whole suite on a GPU, on 3 servers
CHUNK = 20_000


@dataclass(frozen=True)
class Machine:
    """Standard deviations (log) of the three parts of noise."""

    name: str
    machine: float
    launch: float
    repetition: float
    repetitions: int = 3


# Between and within launches as measured on one H200 (vLLM 0.26, 4 launches of 4
# repetitions); what its machine shares from day to day is not known, 0.15 % is assumed.
H200 = (
    Machine("H200 output throughput", 0.0015, 0.0, 0.0055),
    Machine(
        "H200 output throughput, 5 repetitions",
        0.0015,
        0.0,
        0.0055,
        repetitions=5,
    ),
    Machine("H200 ITL, concurrency 32", 0.0015, 0.0, 0.0017),
    Machine("H200 TPOT, concurrency 32", 0.0015, 0.0035, 0.0026),
    Machine("H200 ITL, single stream", 0.0015, 0.0045, 0.0025),
)
QUIET = Machine("quiet", 0.003, 0.003, 0.005)
TYPICAL = Machine("typical", 0.007, 0.007, 0.007)
NOISY = Machine("noisy", 0.015, 0.010, 0.010)
CLASSES = (QUIET, TYPICAL, NOISY)
# Variance of the median of so many normal values, over that of one; beyond, pi / (2 n).
MEDIAN_VARIANCE = {1: 1.0, 2: 0.5, 3: 0.4487, 4: 0.2982, 5: 0.2868}


def measured_machine(
    name: str, between_launches: float, repetition: float, repetitions: int
) -> Machine:
    """The parts of noise that was measured between the medians of launches and within launches.

    What the repetitions explain of the variation between launches is theirs. Of the rest
    the machine's part cannot be told from the launches' own by one launch a session: it
    is split as the gate assumes.
    """
    explained = repetition**2 * MEDIAN_VARIANCE.get(
        repetitions, np.pi / (2 * max(repetitions, 1))
    )
    rest = max(0.0, between_launches**2 - explained)
    shared, own = (
        np.sqrt(MACHINE_SHARE * rest),
        np.sqrt((1 - MACHINE_SHARE) * rest),
    )
    return Machine(
        name, float(shared), float(own), repetition, max(repetitions, 1)
    )


@dataclass(frozen=True)
class Stalls:
    """Repetitions in which every stream falls silent at once.

    Attributes:
        share: of repetitions. cost: throughput that one loses. tries: repetitions of a
            launch at most.
        named: whether the client finds them, so that they do not count.

    """

    share: float
    cost: float
    tries: int
    named: bool


@dataclass(frozen=True)
class Setup:
    """What is simulated.

    Attributes:
        layout: recorded launches as (sessions, launches of each).
        quantile: replaces Student's t, to show why it is there.

    """

    machine: Machine
    layout: tuple[int, int]
    stalls: Stalls | None = None
    quantile: float | None = None


def medians(
    rng: np.random.Generator,
    shape: tuple[int, ...],
    machine: Machine,
    stalls: Stalls | None,
) -> Array:
    """Median over the repetitions of each launch; NaN where none counts."""
    noise, wanted = machine.repetition, machine.repetitions
    if stalls is None or not stalls.named:
        values = rng.normal(0, noise, (*shape, wanted))
        if stalls is not None:
            values += np.log1p(-stalls.cost) * (
                rng.random(values.shape) < stalls.share
            )
        return np.asarray(np.median(values, axis=-1))
    values = rng.normal(0, noise, (*shape, stalls.tries))
    values[rng.random(values.shape) < stalls.share] = np.nan
    counted = np.cumsum(~np.isnan(values), axis=-1)
    values[counted > wanted] = np.nan  # not measured any further
    order = np.sort(values, axis=-1)  # NaN last
    count = np.minimum(counted[..., -1], wanted)
    low, high = np.maximum(count - 1, 0) // 2, count // 2
    pick = np.take_along_axis(
        order,
        np.stack([low, np.maximum(np.minimum(high, count - 1), 0)], axis=-1),
        axis=-1,
    )
    return np.asarray(pick.mean(axis=-1))


def session(
    rng: np.random.Generator,
    machine: Machine,
    runs: int,
    launches: int,
    stalls: Stalls | None = None,
) -> Array:
    """Launch values (log) of one session each: shape (runs, launches)."""
    shared = rng.normal(0, machine.machine, (runs, 1))
    own = rng.normal(0, machine.launch, (runs, launches))
    return np.asarray(
        shared + own + medians(rng, (runs, launches), machine, stalls)
    )


def baseline(rng: np.random.Generator, setup: Setup, runs: int) -> Array:
    """Recorded launches: shape (runs, launches)."""
    sessions, launches = setup.layout
    return np.concatenate(
        [
            session(rng, setup.machine, runs, launches, setup.stalls)
            for _ in range(sessions)
        ],
        axis=1,
    )


def round_up(fraction: Array) -> Array:
    """`perfgate.judge.noise.step_up`, for arrays."""
    step = np.where(
        fraction <= 0.1, 0.005, np.where(fraction <= 0.2, 0.01, 0.05)
    )
    return np.asarray(np.ceil(fraction / step - 1e-9) * step)


@dataclass(frozen=True)
class Thresholds:
    """What follows from recorded launches, as logarithms but for the target effect.

    Attributes:
        reference: mean of the recorded launches. fast_pass: loss up to which one
            launch passes. loss: threshold of three launches.
        target_effect: fraction.
    """

    reference: Array
    fast_pass: Array
    loss: Array
    target_effect: Array


def thresholds(recorded: Array, setup: Setup) -> Thresholds:
    """The gate's thresholds for a higher-is-better metric."""
    sessions, launches = setup.layout
    count = np.sum(~np.isnan(recorded), axis=1)
    sigma = np.nanstd(recorded, axis=1, ddof=1)
    freedom = degrees_of_freedom(sessions * launches, sessions)
    return thresholds_of(
        np.nanmean(recorded, axis=1), sigma, count, freedom, setup.quantile
    )


def thresholds_of(
    reference: Array,
    sigma: Array,
    count: npt.ArrayLike,
    freedom: float,
    quantile: float | None = None,
    target_effect: float | None = None,
) -> Thresholds:
    """The gate's thresholds from the noise of what was recorded.

    Args:
        count: launches. freedom: with which sigma is known. quantile: replaces
            Student's t.
        target_effect: None takes what the launches detect.
    """
    t = t_quantile(freedom) if quantile is None else quantile
    per_launch = 1 / np.asarray(count)
    noise_bound = (
        t
        * sigma
        * np.sqrt(
            MACHINE_SHARE + (1 - MACHINE_SHARE) / DECISION_LAUNCHES + per_launch
        )
    )
    detectable = np.minimum(
        np.maximum(
            GPU_RATE.smallest, round_up(-np.expm1(-noise_bound / LINE_SHARE))
        ),
        0.95,
    )
    target = detectable
    if target_effect is not None:
        target = np.full_like(detectable, target_effect)
    loss = np.maximum(LINE_SHARE * -np.log1p(-target), noise_bound)
    variation = (
        t_quantile(freedom, 1 - OVERLOOKED) * sigma * np.sqrt(1 + per_launch)
    )
    fast_pass = np.minimum(
        loss, np.maximum(loss / 2, loss / LINE_SHARE - variation)
    )
    return Thresholds(reference, fast_pass, loss, target)


def doubtful(first: Array, limits: Thresholds) -> Array:
    """Where two more launches follow: the first has no fast pass, or no value."""
    return np.asarray(~(limits.reference - first <= limits.fast_pass))


def gate_red(now: Array, limits: Thresholds) -> Array:
    """Where the gate fails: one launch, two more unless it passes fast, decided on all.

    It fails, too, if most of three launches are invalid.
    """
    valid = ~np.isnan(now)
    count = np.sum(valid, axis=1)
    mean = np.where(valid, now, 0).sum(axis=1) / np.maximum(count, 1)
    loss = limits.reference - mean
    return np.asarray(
        doubtful(now[:, 0], limits) & ((count < 2) | (loss > limits.loss))
    )


def threshold_red(now: Array, recorded: Array, limit: float) -> Array:
    """The plain threshold: one launch against the baseline's mean."""
    return np.asarray(recorded.mean(axis=1) - now[:, 0] > -np.log1p(-limit))


def retry_red(
    rng: np.random.Generator,
    machine: Machine,
    recorded: Array,
    loss: float,
    limit: float,
) -> Array:
    """The plain threshold, retried up to three times until it passes."""
    red = np.ones(len(recorded), dtype=bool)
    for _ in range(3):
        now = session(rng, machine, len(recorded), 1) + np.log1p(-loss)
        red &= threshold_red(now, recorded, limit)
    return np.asarray(red)


def mann_whitney_red(
    rng: np.random.Generator,
    machine: Machine,
    runs: int,
    loss: float,
    sessions: int,
) -> Array:
    """Mann-Whitney (p < 0.01, loss above 2 %) on repetitions, as is often done.

    It takes each repetition for independent.
    """
    from scipy.special import ndtr  # here: no other rule needs them
    from scipy.stats import rankdata

    shape = (runs, sessions, machine.repetitions)
    old = rng.normal(0, machine.machine, (*shape[:2], 1)) + rng.normal(
        0, machine.launch, (*shape[:2], 1)
    )
    before = (old + rng.normal(0, machine.repetition, shape)).reshape(runs, -1)
    new = rng.normal(0, machine.machine, (runs, 1)) + rng.normal(
        0, machine.launch, (runs, 1)
    )
    after = new + rng.normal(0, machine.repetition, (runs, 5)) + np.log1p(-loss)
    n, m = after.shape[1], before.shape[1]
    ranks = rankdata(np.concatenate([after, before], axis=1), axis=1)[
        :, :n
    ].sum(axis=1)
    z = (ranks - n * (n + m + 1) / 2 + 0.5) / np.sqrt(n * m * (n + m + 1) / 12)
    shift = np.median(before, axis=1) - np.median(after, axis=1)
    return np.asarray((2 * ndtr(z) < 0.01) & (shift > -np.log1p(-0.02)))


def rate(draw: Callable[[int], Array], runs: int, chunk: int = CHUNK) -> float:
    """Share of True over `runs` draws, in chunks that fit the caches."""
    done = hits = 0
    while done < runs:
        size = min(chunk, runs - done)
        hits += int(np.sum(draw(size)))
        done += size
    return hits / runs


def gate_rate(
    rng: np.random.Generator, setup: Setup, loss: float, runs: int
) -> float:
    """How often the gate fails at this true loss."""

    def draw(size: int) -> Array:
        limits = thresholds(baseline(rng, setup, size), setup)
        now = session(rng, setup.machine, size, DECISION_LAUNCHES, setup.stalls)
        return gate_red(now + np.log1p(-loss), limits)

    return rate(draw, runs)


def more_rate(rng: np.random.Generator, setup: Setup, runs: int) -> float:
    """How often unchanged code is measured on two more launches."""

    def draw(size: int) -> Array:
        limits = thresholds(baseline(rng, setup, size), setup)
        now = session(rng, setup.machine, size, 1, setup.stalls)
        return doubtful(now[:, 0], limits)

    return rate(draw, runs)


def run_rate(rng: np.random.Generator, setup: Setup, runs: int) -> float:
    """Share of unchanged runs of the whole suite with at least one failed gate.

    All gates of a session share the machine's part, those of one server the launch's;
    the repetitions are their own.
    """
    machine = setup.machine

    def draw(size: int) -> Array:
        servers, each = 3, GATES // 3

        def several(launches: int) -> Array:
            shared = rng.normal(0, machine.machine, (size, 1, 1, 1))
            own = rng.normal(0, machine.launch, (size, servers, 1, launches))
            return np.asarray(
                shared
                + own
                + medians(rng, (size, servers, each, launches), machine, None)
            )

        recorded = np.concatenate(
            [several(setup.layout[1]) for _ in range(setup.layout[0])], axis=-1
        )
        now = several(DECISION_LAUNCHES)
        flat = size * GATES
        limits = thresholds(recorded.reshape(flat, -1), setup)
        red = gate_red(now.reshape(flat, -1), limits)
        return np.asarray(red.reshape(size, GATES).any(axis=1))

    return rate(draw, runs, CHUNK // 20)
