"""Which points does each figure show?

Everything is found in the run's data by what it is (fixed concurrency, a rate, a sparse
model), never by its name, so that workloads, models and engines that come later are
shown as well.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import msgspec
import numpy as np

from perfgate.cases import Load
from perfgate.engines.base import ServerConfig
from perfgate.load.repetition import Repetition
from perfgate.load.workload import Workload
from perfgate.models.catalogue import CATALOGUE, Architecture
from perfgate.results.schema import Measurement, RunResults


@dataclass(frozen=True)
class Point:
    """A metric of one load: median of its launches, and the range of its valid repetitions.

    Attributes:
        x: concurrency or rate. values: one for each repetition, of all launches.
    """

    x: float
    middle: float
    values: tuple[float, ...]

    @property
    def low(self) -> float:
        """The least of the repetitions."""
        return min(self.values)

    @property
    def high(self) -> float:
        """The greatest of the repetitions."""
        return max(self.values)


@dataclass(frozen=True)
class Series:
    """Points of one server, in order of x."""

    server: str
    points: tuple[Point, ...]


class Readings:
    """Reads points out of one run; sorts its measurements once."""

    def __init__(self, results: RunResults) -> None:
        self.results = results
        self._measured: dict[tuple[str, str], list[Measurement]] = defaultdict(list)
        for row in results.measurements:
            self._measured[row.server, row.workload].append(row)

    @property
    def servers(self) -> dict[str, ServerConfig]:
        """The servers of the run, by key."""
        return {key: server.config for key, server in self.results.servers.items()}

    def measured(self, server: str, workload: str) -> list[Measurement]:
        """A load's measurements, one for each launch."""
        return self._measured.get((server, workload), [])

    def asks_routing(self, server: str, workload: str) -> bool:
        """Whether a load asks where the tokens go, and is not timed."""
        return Load(
            server=self.servers[server], workload=self.results.workloads.get(workload)
        ).asks_routing

    def valid(self, server: str, workload: str) -> list[Repetition]:
        """A load's repetitions that count."""
        return [
            r
            for m in self.measured(server, workload)
            if m.error is None
            for r in m.repetitions
            if not r.invalid
        ]

    def point(
        self, server: str, workload: str, metric: str, x: float = 0.0
    ) -> Point | None:
        """A metric of one load, None where no valid repetition has it."""
        launches = [
            [
                r.values[metric]
                for r in row.repetitions
                if not r.invalid and metric in r.values
            ]
            for row in self.measured(server, workload)
            if row.error is None
        ]
        medians = [statistics.median(values) for values in launches if values]
        if not medians:
            return None
        return Point(
            x,
            statistics.median(medians),
            tuple(value for values in launches for value in values),
        )

    def batches(self) -> list[Workload]:
        """Closed loops over which the batch grows: those with the same prompts, of the largest such group."""
        groups: dict[bytes, dict[int, Workload]] = defaultdict(dict)
        timed = {
            name
            for server, name in self._measured
            if not self.asks_routing(server, name)
        }
        untimed = {name for _, name in self._measured} - timed
        for workload in self.results.workloads.values():
            if (
                workload.max_concurrency is not None
                and workload.request_rate is None
                and workload.name not in untimed
            ):
                groups[msgspec.json.encode(workload.prompts)].setdefault(
                    workload.max_concurrency, workload
                )
        largest = max(groups.values(), key=len, default={})
        return [largest[batch] for batch in sorted(largest)]

    def rates(self) -> list[Workload]:
        """Open loops, the lowest rate first."""
        open_loops = [
            w for w in self.results.workloads.values() if w.request_rate is not None
        ]
        return sorted(open_loops, key=lambda w: w.request_rate or 0.0)

    def over(
        self, workloads: Sequence[Workload], x: Callable[[Workload], float], metric: str
    ) -> list[Series]:
        """The metric of each server over several workloads; servers without any are left out."""
        found = []
        for server in self.results.servers:
            points = [self.point(server, w.name, metric, x(w)) for w in workloads]
            kept = tuple(point for point in points if point is not None)
            if kept:
                found.append(Series(server, kept))
        return found

    def tensor_parallel_pairs(self) -> list[tuple[str, str]]:
        """(smaller, larger) of servers that differ in nothing but the number of ranks."""
        groups: dict[ServerConfig, list[tuple[int, str]]] = defaultdict(list)
        for key, config in self.servers.items():
            alike = msgspec.structs.replace(config, tensor_parallel_size=0)
            groups[alike].append((config.tensor_parallel_size, key))
        return [
            (a, b)
            for group in groups.values()
            for (_, a), (_, b) in pairwise(sorted(group))
        ]

    def sparse_and_dense(self) -> list[tuple[str, str]]:
        """(sparse, dense) of servers of one engine with as many ranks."""
        shapes = {key: architecture_of(config) for key, config in self.servers.items()}
        return [
            (a, b)
            for a, sparse in self.servers.items()
            for b, dense in self.servers.items()
            if (shape := shapes[a]) is not None
            and shape.is_moe
            and (other := shapes[b]) is not None
            and not other.is_moe
            and (
                sparse.engine,
                sparse.build,
                sparse.tensor_parallel_size,
                sparse.dtype,
                sparse.device,
            )
            == (
                dense.engine,
                dense.build,
                dense.tensor_parallel_size,
                dense.dtype,
                dense.device,
            )
        ]

    def busiest(self) -> Workload | None:
        """The closed loop that most servers were sent, of these the one with most requests: whose gaps are shown."""
        closed = [w for w in self.results.workloads.values() if w.request_rate is None]
        count = {
            w.name: sum(bool(self.valid(key, w.name)) for key in self.results.servers)
            for w in closed
        }
        chosen = max(closed, key=lambda w: (count[w.name], w.num_prompts), default=None)
        return chosen if chosen is not None and count[chosen.name] else None


def architecture_of(config: ServerConfig) -> Architecture | None:
    """The shape of the server's model, None for a model that the catalogue lacks."""
    model = CATALOGUE.get(config.model)
    return None if model is None else model.architecture


def gaps_ms(repetitions: Sequence[Repetition]) -> np.ndarray:
    """Every inter-token gap of the completed requests, in ms, sorted; shape (gaps,)."""
    rows = [
        row.itl_ms
        for repetition in repetitions
        for row in repetition.requests
        if row.error is None
    ]
    return (
        np.sort(np.concatenate([np.asarray(row, dtype=float) for row in rows]))
        if rows
        else np.empty(0)
    )


@dataclass(frozen=True)
class Timeline:
    """A repetition in equal slices of time.

    Attributes:
        at_s: middle of each slice, since the start; shape (slices,).
        median_ms, longest_ms: gaps that ended in the slice, NaN where none did.
        streams: requests in flight at the slice's middle.
    """

    at_s: np.ndarray
    median_ms: np.ndarray
    longest_ms: np.ndarray
    streams: np.ndarray


def timeline(repetition: Repetition, slices: int = 60) -> Timeline | None:
    """How a repetition went, None where no request has two tokens."""
    ends, gaps, spans = [], [], []
    for row in repetition.requests:
        if row.sent_ms is None or row.ttft_ms is None or not row.itl_ms:
            continue
        each = np.asarray(row.itl_ms, dtype=float)
        ends.append(row.sent_ms + row.ttft_ms + np.cumsum(each))
        gaps.append(each)
        spans.append((row.sent_ms, float(ends[-1][-1])))
    if not ends:
        return None
    at, gap = np.concatenate(ends), np.concatenate(gaps)
    edges = np.linspace(
        0.0, max(float(at.max()), repetition.duration_s * 1000), slices + 1
    )
    slot = np.clip(np.searchsorted(edges, at, side="right") - 1, 0, slices - 1)
    median, longest = np.full(slices, np.nan), np.full(slices, np.nan)
    for number in np.unique(slot):
        inside = gap[slot == number]
        median[number], longest[number] = np.median(inside), inside.max()
    middle = (edges[1:] + edges[:-1]) / 2
    sent, last = np.array(spans).T
    streams = np.array(
        [int(np.sum((sent <= moment) & (moment < last))) for moment in middle]
    )
    return Timeline(middle / 1000, median, longest, streams)


def stalled(results: RunResults, most: int) -> list[tuple[Measurement, Repetition]]:
    """Repetitions that do not count and have requests to show, `most` of them at most."""
    found = [
        (row, r)
        for row in results.measurements
        for r in row.repetitions
        if r.invalid and r.requests
    ]
    return found[:most]
