"""Contrast: several metrics of a server as one number a launch: their mean, or one beside the rest.

Single rows hide what all of them share. A contrast is computed for each recorded launch
too, so that its noise is measured like that of any metric, and nothing is assumed of
how rows move together. Values are log losses: logarithms, so turned that more is worse.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import (
    Callable,
    Collection,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from dataclasses import dataclass, field
from typing import Literal

from perfgate.judge.noise_learning import (
    MachineLaunches,
    Series,
    machine_launches,
)
from perfgate.judge.noise_table import Platform
from perfgate.load.metrics import Family, family_of
from perfgate.load.workload import Arrivals
from perfgate.results.samples import Sample, in_time_order

Kind = Literal["decode_speed", "throughput"]
# TTFT, tails and energy vary by much more, and would hide what the others tell.
_KINDS: Mapping[Family, Kind] = {
    "itl": "decode_speed",
    "tpot": "decode_speed",
    "throughput": "throughput",
    "e2el": "throughput",
}
FEWEST_LOADS = 2
# Besides the row that is compared with the others.
FEWEST_OTHER_LOADS = 2


def kind_of(metric: str, arrivals: Arrivals | None) -> Kind | None:
    """The kind of contrast that a metric belongs to; None where to none.

    In an open loop the throughput is the rate of the requests.
    """
    family = family_of(metric)
    if family == "throughput" and arrivals == "open":
        return None
    return _KINDS.get(family)


@dataclass(frozen=True)
class Row:
    """The recorded launches of one metric of one load.

    Attributes:
        load: name of its workload.
        sessions: run -> log losses of its launches, in order.
    """

    load: str
    metric: str
    arrivals: Arrivals | None
    sessions: Mapping[str, Sequence[float]]


def recorded_row(
    load: str,
    metric: str,
    arrivals: Arrivals | None,
    launches: Iterable[Sample],
    higher_is_better: bool,
) -> Row:
    """The row of a recorded metric."""
    sessions: dict[str, list[float]] = defaultdict(list)
    for sample in in_time_order(launches):
        if sample.value is not None:
            loss = turned(sample.value, higher_is_better)
            sessions[sample.run].append(loss)
    return Row(load, metric, arrivals, dict(sessions))


def turned(value: float, higher_is_better: bool) -> float:
    """The logarithm of a value, so turned that more is worse."""
    if higher_is_better:
        return -math.log(value)
    return math.log(value)


def mean(values: Sequence[float], loads: Sequence[str]) -> float:
    """Mean over the loads: rows of one load say nearly the same, and count once."""
    by_load: dict[str, list[float]] = defaultdict(list)
    for value, load in zip(values, loads, strict=True):
        by_load[load].append(value)
    means = []
    for members in by_load.values():
        means.append(math.fsum(members) / len(members))
    return math.fsum(means) / len(means)


def distance(
    values: Sequence[float], loads: Sequence[str], position: int
) -> float:
    """How much one row differs from the mean of the other loads."""
    other_values, other_loads = [], []
    for value, load in zip(values, loads, strict=True):
        if load != loads[position]:
            other_values.append(value)
            other_loads.append(load)
    return values[position] - mean(other_values, other_loads)


@dataclass(frozen=True)
class Selection:
    """Rows that were recorded together.

    Attributes:
        positions: of the rows.
        sessions: runs that have all of them.
    """

    positions: tuple[int, ...]
    sessions: frozenset[str]


Score = Callable[[int, int], float]


def clearest(loads: int, sessions: int) -> float:
    """Score of a selection to judge by: many loads, and a mean that is known.

    The loss by so many recorded sessions has a variance in proportion to 1 + 1 / n.
    """
    return loads / (1 + 1 / sessions)


def most_repeated(loads: int, sessions: int) -> float:
    """Score of a selection to learn noise from: many sessions, then many loads."""
    return sessions + loads / 1000


def select(
    rows: Sequence[Row],
    sessions: Collection[str],
    score: Score,
    fewest_loads: float = FEWEST_LOADS,
) -> Selection | None:
    """The rows of so many loads with the best score; None where there are none.

    Args:
        sessions: those that count.
    """
    recorded = {}
    for session in sessions:
        recorded[session] = _recorded_in(session, rows)
    best, best_score = None, 0.0
    for members in sorted(set(recorded.values()), key=sorted):
        loads = {rows[position].load for position in members}
        if len(loads) < fewest_loads:
            continue
        complete = sessions_with(members, recorded)
        reached = score(len(loads), len(complete))
        if reached > best_score:
            best_score = reached
            best = Selection(tuple(sorted(members)), complete)
    return best


def _recorded_in(session: str, rows: Sequence[Row]) -> frozenset[int]:
    """Positions of the rows that a session has."""
    members = []
    for position, row in enumerate(rows):
        if session in row.sessions:
            members.append(position)
    return frozenset(members)


def sessions_with(
    members: Collection[int], recorded: Mapping[str, Collection[int]]
) -> frozenset[str]:
    """The sessions that have all of these rows.

    Args:
        recorded: session -> positions of its rows.
    """
    complete = []
    for session, positions in recorded.items():
        if set(members).issubset(positions):
            complete.append(session)
    return frozenset(complete)


@dataclass(frozen=True)
class Contrast:
    """One number of the rows' log losses: their mean, or one beside the others.

    Attributes:
        loads: of each row.
        position: of the row that is compared with the other loads; None for the mean.
    """

    loads: tuple[str, ...]
    position: int | None = None

    def value(self, losses: Sequence[float]) -> float:
        """The contrast of the log losses of the rows."""
        if self.position is None:
            return mean(losses, self.loads)
        return distance(losses, self.loads, self.position)

    def samples(
        self, rows: Sequence[Row], sessions: Iterable[str]
    ) -> list[Sample]:
        """The contrast of each recorded launch, as a factor.

        Launch by launch; where rows have more launches than others, of the first ones.

        Args:
            rows: each has every session.
        """
        samples = []
        for run in sorted(sessions):
            launches = zip(*(row.sessions[run] for row in rows), strict=False)
            for launch, losses in enumerate(launches):
                factor = math.exp(self.value(losses))
                samples.append(Sample(run=run, launch=launch, value=factor))
        return samples


@dataclass
class ServerRows:
    """What a store has of one server on one kind of hardware, to learn from.

    Attributes:
        machines: run -> machine, as far as it is known.
    """

    platform: Platform
    rows: dict[Kind, list[Row]] = field(
        default_factory=lambda: defaultdict(list)
    )
    machines: dict[str, str] = field(default_factory=dict)

    def add(self, row: Row) -> None:
        """Add a row, where it belongs to a contrast."""
        kind = kind_of(row.metric, row.arrivals)
        if kind is not None:
            self.rows[kind].append(row)

    def series(self) -> Iterator[Series]:
        """The contrasts of the recorded launches; each session counts once for each."""
        for kind, rows in self.rows.items():
            for chosen, sessions in _selections(rows, FEWEST_LOADS):
                yield self._shift(kind, chosen, sessions)
            for chosen, sessions in _selections(rows, FEWEST_OTHER_LOADS + 1):
                for position in range(len(chosen)):
                    yield self._outlier(chosen, position, sessions)

    def _shift(
        self, kind: Kind, rows: Sequence[Row], sessions: Iterable[str]
    ) -> Series:
        contrast = Contrast(tuple(row.load for row in rows))
        return Series(
            platform=self.platform,
            metric=kind,
            arrivals=None,
            is_ratio=False,
            machines=self._launches(contrast, rows, sessions),
            contrast="shift",
        )

    def _outlier(
        self, rows: Sequence[Row], position: int, sessions: Iterable[str]
    ) -> Series:
        contrast = Contrast(tuple(row.load for row in rows), position)
        return Series(
            platform=self.platform,
            metric=rows[position].metric,
            arrivals=rows[position].arrivals,
            is_ratio=False,
            machines=self._launches(contrast, rows, sessions),
            contrast="outlier",
        )

    def _launches(
        self, contrast: Contrast, rows: Sequence[Row], sessions: Iterable[str]
    ) -> dict[str | None, MachineLaunches]:
        """Machine -> the contrast of its launches, in time order."""
        samples = contrast.samples(rows, sessions)
        return machine_launches(samples, self.machines)


def _selections(
    rows: Sequence[Row], fewest_loads: int
) -> Iterator[tuple[list[Row], frozenset[str]]]:
    """Rows that were recorded together, with their sessions, each session once."""
    sessions: set[str] = set()
    for row in rows:
        sessions.update(row.sessions)
    while True:
        selection = select(rows, sessions, most_repeated, fewest_loads)
        if selection is None:
            return
        chosen = [rows[position] for position in selection.positions]
        yield chosen, selection.sessions
        sessions -= selection.sessions
