"""Turns: batches that launches of two builds answer alternately, and the time of each launch.

All launches are alive at once. In a cycle each answers the same prompts twice, in an
order that is drawn and then reversed (ABBA), so that a drift of the machine within the
cycle falls on all of them alike. The time of a launch is judged by how much it differs
from the other launches of the same cycle: what a neighbour, a clock or a cache does to
a whole cycle cancels.
"""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

# Of the cycles, at each end: a neighbour disturbs some of them by far more than the rest.
TRIMMED = 0.2
FEWEST_CYCLES = 6
# A scheduler may count a wait that began before the batch.
LEAST_SHARE = 0.01
# Half of a 90 % interval, in standard errors.
INTERVAL_ERRORS = 1.645


@dataclass(frozen=True)
class Turn:
    """One batch answered by one launch.

    Attributes:
        launch: position among the launches that are compared.
        cpu_ms: on a core, of all threads of its process.
        elapsed_ms: by the clock.
        waited_ms: of it, ready to run and without a core; 0 where the kernel does not
            tell.
    """

    cycle: int
    launch: int
    cpu_ms: float
    elapsed_ms: float
    waited_ms: float

    @property
    def active_ms(self) -> float:
        """Elapsed time less the wait for a core: a sleep and a lock count, a neighbour does not."""
        return max(
            self.elapsed_ms - self.waited_ms, LEAST_SHARE * self.elapsed_ms
        )


# Metric -> which time of a turn it is.
BATCH_TIMES: Mapping[str, Callable[[Turn], float]] = {
    "batch_cpu_ms": lambda turn: turn.cpu_ms,
    "batch_active_ms": lambda turn: turn.active_ms,
}


def judged_times(device: str) -> tuple[str, ...]:
    """The metrics that are judged on a device.

    A thread that waits for a GPU does not work: its CPU time says nothing.
    """
    if device == "cpu":
        return tuple(BATCH_TIMES)
    return ("batch_active_ms",)


# Of a repetition that stands for turns: when the launches that were alive with it were
# started.
GROUP = "group_unix_s"


@dataclass(frozen=True)
class LaunchTime:
    """The time of a batch on one launch, in units of its cycles.

    Attributes:
        value_ms: at the cycles' common level.
        error: standard error of its logarithm, by the variation within cycles.
        group: the same for launches that were alive at once.
    """

    value_ms: float
    error: float
    group: float = 0.0

    @property
    def interval_ms(self) -> tuple[float, float]:
        """90 % interval of the value."""
        factor = math.exp(INTERVAL_ERRORS * self.error)
        return self.value_ms / factor, self.value_ms * factor

    @classmethod
    def of_interval(
        cls,
        value_ms: float,
        interval_ms: tuple[float, float],
        group: float = 0.0,
    ) -> LaunchTime:
        """The time by its value and `interval_ms`."""
        _, high_ms = interval_ms
        error = math.log(high_ms / value_ms) / INTERVAL_ERRORS
        return cls(value_ms, error, group)


def orders(
    sides: Sequence[str], lanes: int, rng: random.Random
) -> list[tuple[int, ...]]:
    """The launches of a cycle in the order in which they are asked, ABBA.

    Args:
        sides: of each launch its build, "base" or "candidate".
        lanes: how many are asked at once, one on each of so many cores: 1 or 2. Those
            asked at once are of different builds, and change places.

    Returns:
        groups of launches that are asked at once; the place in a group is the lane.
    """
    if lanes == 1:
        order = list(range(len(sides)))
        rng.shuffle(order)
        return [(launch,) for launch in (*order, *reversed(order))]
    first = [place for place, side in enumerate(sides) if side == sides[0]]
    second = [place for place, side in enumerate(sides) if side != sides[0]]
    rng.shuffle(first)
    rng.shuffle(second)
    groups: list[tuple[int, ...]] = []
    for pair in zip(first, second, strict=True):
        group = rng.sample(pair, 2)
        groups += [tuple(group), tuple(reversed(group))]
    return groups


def launch_times(
    turns: Sequence[Turn], time_of: Callable[[Turn], float]
) -> list[LaunchTime]:
    """The time of each launch, in their order.

    Args:
        turns: of at least FEWEST_CYCLES whole cycles.
        time_of: which time counts, in ms.
    """
    import numpy as np  # here: collecting tests must not wait for it

    logs = _logs(turns, time_of)
    level = _trimmed_mean(logs.mean(axis=0))
    relative = logs - logs.mean(axis=0)
    # The other launches of a cycle are no fixed level: their own scatter is taken out.
    launches = len(logs)
    own_share = math.sqrt(launches / (launches - 1))
    times = []
    for row in relative:
        value_ms = float(np.exp(level + _trimmed_mean(row)))
        times.append(LaunchTime(value_ms, own_share * _trimmed_error(row)))
    return times


def largest_error(
    turns: Sequence[Turn], time_of: Callable[[Turn], float]
) -> float:
    """The largest standard error (log) of a launch; infinite where cycles are too few."""
    cycles = {turn.cycle for turn in turns}
    if len(cycles) < FEWEST_CYCLES:
        return math.inf
    return max(time.error for time in launch_times(turns, time_of))


def waiting_share(turns: Sequence[Turn]) -> float:
    """Of the elapsed time of all turns, the part without a core."""
    elapsed_ms = sum(turn.elapsed_ms for turn in turns)
    return sum(turn.waited_ms for turn in turns) / elapsed_ms


def _logs(turns: Sequence[Turn], time_of: Callable[[Turn], float]) -> Floats:
    """Mean logarithm of each launch (row) in each cycle (column)."""
    import numpy as np

    cells: dict[tuple[int, int], list[float]] = defaultdict(list)
    for turn in turns:
        cells[turn.launch, turn.cycle].append(math.log(time_of(turn)))
    launches = sorted({launch for launch, _ in cells})
    cycles = sorted({cycle for _, cycle in cells})
    rows = []
    for launch in launches:
        rows.append([np.mean(cells[launch, cycle]) for cycle in cycles])
    return np.array(rows)


def _trimmed_mean(values: Floats) -> float:
    import numpy as np

    ordered = np.sort(values)
    cut = int(TRIMMED * len(ordered))
    return float(ordered[cut : len(ordered) - cut].mean())


def _trimmed_error(values: Floats) -> float:
    """Standard error of the trimmed mean, by the winsorised variance."""
    import numpy as np

    ordered = np.sort(values)
    count = len(ordered)
    cut = int(TRIMMED * count)
    inner = np.clip(values, ordered[cut], ordered[count - cut - 1])
    kept = 1 - 2 * cut / count
    return float(inner.std(ddof=1) / kept / math.sqrt(count))
