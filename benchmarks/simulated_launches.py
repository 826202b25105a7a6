"""Simulated launches: recorded and current ones, as losses (logarithms, positive if worse).

Noise as the store learned it, or of a machine with assumed parts: what all launches of
one session share (the machine that day), what a launch has for itself, and what a
repetition has. `benchmarks.gate_trials` has the gate judge them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from perfgate.judge.noise import DECISION_LAUNCHES
from perfgate.judge.noise_table import Spread
from perfgate.judge.sessions import MACHINE_SHARE

Array = npt.NDArray[np.float64]
# A prior with a weight of 1 has a tail without end. Launches never differ like this.
LARGEST_SIGMA = 1.0


@dataclass(frozen=True)
class Draws:
    """Launches of unchanged code, one trial a row.

    Attributes:
        recorded: losses, one launch of each run: shape (trials, launches).
        current: losses of one session: shape (trials, DECISION_LAUNCHES). NaN where a
            launch does not count.
    """

    recorded: Array
    current: Array


class Source(Protocol):
    """Noise that launches can be drawn from."""

    @property
    def name(self) -> str:
        """What varies."""

    def draw(
        self, rng: np.random.Generator, trials: int, recorded: int
    ) -> Draws:
        """So many trials, each with so many recorded launches."""


@dataclass(frozen=True)
class LearnedNoise:
    """What the noise table says of a metric under a kind of load.

    Each trial is another series: its variance is drawn from the prior. Student's t of
    the gate is right where the prior is.

    Attributes:
        spread: of the launches of one machine.
        shared: of the variance, what launches of one session share.
    """

    name: str
    spread: Spread
    shared: float = MACHINE_SHARE

    def draw(
        self, rng: np.random.Generator, trials: int, recorded: int
    ) -> Draws:
        """So many trials, each with so many recorded launches."""
        sigma = sigmas(rng, self.spread, (trials, 1))
        shape = (trials, DECISION_LAUNCHES)
        shared = rng.normal(0, np.sqrt(self.shared), (trials, 1))
        own = rng.normal(0, np.sqrt(1 - self.shared), shape)
        past = rng.normal(0, 1, (trials, recorded))
        return Draws(sigma * past, sigma * (shared + own))


def sigmas(
    rng: np.random.Generator, spread: Spread, shape: tuple[int, ...]
) -> Array:
    """Standard deviations (log) of series: a scaled inverse chi-square (Smyth 2004)."""
    freedom = spread.degrees_of_freedom
    chi_square = rng.chisquare(freedom, shape)
    sigma = spread.cv * np.sqrt(freedom / chi_square)
    return np.asarray(np.minimum(sigma, LARGEST_SIGMA))


@dataclass(frozen=True)
class Stalls:
    """Repetitions in which every stream falls silent at once.

    Attributes:
        share: of repetitions.
        cost: throughput that one loses.
        tries: repetitions of a launch at most.
        named: whether the client finds them, so that they do not count.
    """

    share: float
    cost: float
    tries: int
    named: bool


@dataclass(frozen=True)
class Machine:
    """A machine's noise, as standard deviations (log) of its three parts."""

    name: str
    machine: float
    launch: float
    repetition: float
    repetitions: int = 3
    stalls: Stalls | None = None

    def draw(
        self, rng: np.random.Generator, trials: int, recorded: int
    ) -> Draws:
        """So many trials, each with so many recorded launches."""
        sessions = [self.session(rng, trials, 1) for _ in range(recorded)]
        current = self.session(rng, trials, DECISION_LAUNCHES)
        return Draws(np.concatenate(sessions, axis=1), current)

    def session(
        self, rng: np.random.Generator, trials: int, launches: int
    ) -> Array:
        """Losses of one session: shape (trials, launches)."""
        shape = (trials, launches)
        shared = rng.normal(0, self.machine, (trials, 1))
        own = rng.normal(0, self.launch, shape)
        return np.asarray(shared + own + self.medians(rng, shape))

    def medians(
        self, rng: np.random.Generator, shape: tuple[int, ...]
    ) -> Array:
        """Loss of the median repetition of each launch; NaN where none counts."""
        stalls = self.stalls
        if stalls is not None and stalls.named:
            return self._valid_medians(rng, shape, stalls)
        losses = rng.normal(0, self.repetition, (*shape, self.repetitions))
        if stalls is not None:
            is_stalled = rng.random(losses.shape) < stalls.share
            losses -= np.log1p(-stalls.cost) * is_stalled
        return np.asarray(np.median(losses, axis=-1))

    def _valid_medians(
        self, rng: np.random.Generator, shape: tuple[int, ...], stalls: Stalls
    ) -> Array:
        losses = rng.normal(0, self.repetition, (*shape, stalls.tries))
        losses[rng.random(losses.shape) < stalls.share] = np.nan
        counted = np.cumsum(~np.isnan(losses), axis=-1)
        losses[counted > self.repetitions] = np.nan  # not measured any further
        medians = np.full(shape, np.nan)
        is_valid = counted[..., -1] > 0
        medians[is_valid] = np.nanmedian(losses[is_valid], axis=-1)
        return medians


QUIET = Machine("quiet", 0.003, 0.003, 0.005)
TYPICAL = Machine("typical", 0.007, 0.007, 0.007)
NOISY = Machine("noisy", 0.015, 0.010, 0.010)
CLASSES = (QUIET, TYPICAL, NOISY)
# Variance of the median of so many normal values, over that of one; beyond, pi / (2 n).
MEDIAN_VARIANCE = {1: 1.0, 2: 0.5, 3: 0.4487, 4: 0.2982, 5: 0.2868}


def measured_machine(
    name: str, between_launches: float, repetition: float, repetitions: int
) -> Machine:
    """A machine by the noise that was measured between and within its launches.

    What the repetitions explain of the variation between launches is theirs. Of the
    rest the machine's part cannot be told from the launches' own by one launch a
    session: it is split as the gate assumes.
    """
    count = max(repetitions, 1)
    share = MEDIAN_VARIANCE.get(repetitions, np.pi / (2 * count))
    rest = max(0.0, between_launches**2 - share * repetition**2)
    return Machine(
        name,
        machine=float(np.sqrt(MACHINE_SHARE * rest)),
        launch=float(np.sqrt((1 - MACHINE_SHARE) * rest)),
        repetition=repetition,
        repetitions=count,
    )
