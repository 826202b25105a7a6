"""Series of the figures: levels of a metric over batch sizes or rates, gaps and timelines.

Everything is found in the run's index by what it is (fixed concurrency, a rate, a
sparse model), never by its name, so that workloads, models and engines that come later
are shown as well. Launches and repetitions that do not count are left out, as the gate
leaves them out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, product

import msgspec
import numpy as np

from perfgate.cases import Load
from perfgate.engines.base import ServerConfig
from perfgate.load.repetition import Repetition, RequestRow
from perfgate.load.workload import Workload
from perfgate.models.catalogue import CATALOGUE, Architecture
from perfgate.results.samples import RunIndex, mean_of, values_of
from perfgate.results.schema import Measurement

SLICES = 60  # of a timeline
_LATENCY = "itl_median_ms"


@dataclass(frozen=True)
class Level:
    """A metric of one load: its value as judged, and the range of the repetitions.

    Attributes:
        x: concurrency or rate.
        launches: one value for each launch that counts.
        repetitions: one value for each repetition of these launches that counts.
    """

    x: float
    launches: tuple[float, ...]
    repetitions: tuple[float, ...]

    @property
    def value(self) -> float:
        """The mean of the launches, as the gate judges it."""
        return mean_of(self.launches)

    @property
    def low(self) -> float:
        """The least of the repetitions."""
        return min(self.repetitions)

    @property
    def high(self) -> float:
        """The greatest of the repetitions."""
        return max(self.repetitions)


@dataclass(frozen=True)
class Series:
    """Levels of one server, in order of x."""

    server: str
    levels: tuple[Level, ...]


def configs(index: RunIndex) -> dict[str, ServerConfig]:
    """The servers of the run, by key."""
    servers = index.results.servers
    return {key: server.config for key, server in servers.items()}


def asks_routing(index: RunIndex, server: str, workload: str) -> bool:
    """Whether a load records which experts its tokens choose, and is not timed."""
    results = index.results
    load = Load(
        server=results.servers[server].config,
        workload=results.workloads.get(workload),
    )
    return load.asks_routing


def level(
    index: RunIndex, server: str, workload: str, metric: str, x: float = 0.0
) -> Level | None:
    """A metric of one load; None where no launch counts."""
    launches = values_of(index.samples_of(server, workload, metric))
    if not launches:
        return None
    repetitions: list[float] = []
    for values in index.repetition_values(server, workload, metric).values():
        repetitions += values
    return Level(x, tuple(launches), tuple(repetitions))


def series_over(
    index: RunIndex,
    workloads: Sequence[Workload],
    x: Callable[[Workload], float],
    metric: str,
) -> list[Series]:
    """The metric of each server over several workloads; servers without any are left out."""
    series = []
    for server in index.results.servers:
        levels = []
        for workload in workloads:
            row = level(index, server, workload.name, metric, x(workload))
            if row is not None:
                levels.append(row)
        if levels:
            series.append(Series(server, tuple(levels)))
    return series


def batches(index: RunIndex) -> list[Workload]:
    """Closed loops over which the batch grows: the largest group with the same prompts."""
    groups: dict[bytes, dict[int, Workload]] = defaultdict(dict)
    untimed = _untimed_workloads(index)
    for workload in index.results.workloads.values():
        batch = workload.max_concurrency
        if batch is None or workload.request_rate is not None:
            continue
        if workload.name not in untimed:
            prompts = msgspec.json.encode(workload.prompts)
            groups[prompts].setdefault(batch, workload)
    largest = max(groups.values(), key=len, default={})
    return [largest[batch] for batch in sorted(largest)]


def _untimed_workloads(index: RunIndex) -> set[str]:
    """Workloads that every server was sent only to record its routing."""
    timed = set()
    workloads = set()
    for server, workload in index.loads:
        workloads.add(workload)
        if not asks_routing(index, server, workload):
            timed.add(workload)
    return workloads - timed


def rates(index: RunIndex) -> list[Workload]:
    """Open loops, the lowest rate first."""
    open_loops = []
    for workload in index.results.workloads.values():
        if workload.request_rate is not None:
            open_loops.append(workload)
    return sorted(open_loops, key=lambda workload: workload.request_rate or 0.0)


def tensor_parallel_pairs(index: RunIndex) -> list[tuple[str, str]]:
    """(smaller, larger) of servers that differ in nothing but the number of ranks."""
    groups: dict[ServerConfig, list[tuple[int, str]]] = defaultdict(list)
    for key, config in configs(index).items():
        alike = msgspec.structs.replace(config, tensor_parallel_size=0)
        groups[alike].append((config.tensor_parallel_size, key))
    pairs = []
    for group in groups.values():
        for (_, smaller), (_, larger) in pairwise(sorted(group)):
            pairs.append((smaller, larger))
    return pairs


def compared_models(index: RunIndex) -> list[tuple[str, str]]:
    """(model, reference) of servers whose models a case compares by latency.

    They are of one engine and build, with as many ranks, or those of the case itself.
    Where no case compares models, each sparse one is compared with each dense one.
    """
    compared: dict[tuple[str, str], set[tuple[str, str]]] = {}
    for case in index.results.cases:
        if case.denominator is None or case.metric != _LATENCY:
            continue
        above, below = case.numerator.server, case.denominator.server
        if above.model != below.model and above.engine == below.engine:
            names = above.model, below.model
            compared.setdefault(names, set()).add((above.key, below.key))
    if not compared:
        return _sparse_and_dense(index)
    pairs = []
    for (model, above), (reference, below) in product(
        configs(index).items(), repeat=2
    ):
        asked = compared.get((above.model, below.model))
        if asked is None:
            continue
        if (model, reference) in asked or _layout(above) == _layout(below):
            pairs.append((model, reference))
    return pairs


def is_sparse_over_dense(index: RunIndex, model: str, reference: str) -> bool:
    """Whether the first server's model routes tokens among experts and the other's does not."""
    servers = configs(index)
    above = architecture_of(servers[model])
    below = architecture_of(servers[reference])
    if above is None or below is None:
        return False
    return above.is_moe and not below.is_moe


def _sparse_and_dense(index: RunIndex) -> list[tuple[str, str]]:
    """(sparse, dense) of servers of one engine and build with as many ranks."""
    sparse: list[tuple[str, ServerConfig]] = []
    dense: list[tuple[str, ServerConfig]] = []
    for key, config in configs(index).items():
        shape = architecture_of(config)
        if shape is not None and shape.is_moe:
            sparse.append((key, config))
        elif shape is not None:
            dense.append((key, config))
    pairs = []
    for sparse_key, sparse_config in sparse:
        for dense_key, dense_config in dense:
            if _layout(sparse_config) == _layout(dense_config):
                pairs.append((sparse_key, dense_key))
    return pairs


def _layout(config: ServerConfig) -> tuple[object, ...]:
    """What two servers must share to be compared."""
    return (
        config.engine,
        config.build,
        config.tensor_parallel_size,
        config.data_parallel_size,
        config.device,
    )


def busiest(index: RunIndex) -> Workload | None:
    """The closed loop whose gaps are shown: sent to most servers, then with most requests."""
    best: Workload | None = None
    best_rank = (0, 0)
    for workload in index.results.workloads.values():
        if workload.request_rate is not None:
            continue
        servers = 0
        for server in index.results.servers:
            servers += bool(index.repetitions(server, workload.name))
        rank = servers, workload.num_prompts
        if servers and rank > best_rank:
            best, best_rank = workload, rank
    return best


def architecture_of(config: ServerConfig) -> Architecture | None:
    """The shape of the server's model, None for a model that the catalogue lacks."""
    model = CATALOGUE.get(config.model)
    if model is None:
        return None
    return model.architecture


def gaps_ms(repetitions: Sequence[Repetition]) -> np.ndarray:
    """Every inter-token gap of the completed requests, in ms, sorted; shape (gaps,)."""
    gaps = []
    for repetition in repetitions:
        for request in repetition.requests:
            if request.error is None:
                gaps.append(np.asarray(request.itl_ms, dtype=float))
    if not gaps:
        return np.empty(0)
    return np.sort(np.concatenate(gaps))


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


def timeline(repetition: Repetition, slices: int = SLICES) -> Timeline | None:
    """How a repetition went, None where no request has two tokens."""
    gaps = []
    ends_ms = []
    spans_ms = []
    for sent_ms, ttft_ms, request in _streams(repetition):
        request_gaps = np.asarray(request.itl_ms, dtype=float)
        request_ends_ms = sent_ms + ttft_ms + np.cumsum(request_gaps)
        gaps.append(request_gaps)
        ends_ms.append(request_ends_ms)
        spans_ms.append((sent_ms, float(request_ends_ms[-1])))
    if not gaps:
        return None
    all_gaps = np.concatenate(gaps)
    all_ends_ms = np.concatenate(ends_ms)
    duration_ms = repetition.duration_s * 1000
    last_ms = max(float(all_ends_ms.max()), duration_ms)
    edges = np.linspace(0.0, last_ms, slices + 1)
    slots = np.searchsorted(edges, all_ends_ms, side="right") - 1
    slots = np.clip(slots, 0, slices - 1)
    median = np.full(slices, np.nan)
    longest = np.full(slices, np.nan)
    for slot in np.unique(slots):
        slot_gaps = all_gaps[slots == slot]
        median[slot] = np.median(slot_gaps)
        longest[slot] = slot_gaps.max()
    middles = (edges[1:] + edges[:-1]) / 2
    return Timeline(
        at_s=middles / 1000,
        median_ms=median,
        longest_ms=longest,
        streams=_in_flight(spans_ms, middles),
    )


def _in_flight(
    spans_ms: Sequence[tuple[float, float]], moments_ms: np.ndarray
) -> np.ndarray:
    """How many of the spans (start, end) hold each moment."""
    starts, ends = np.array(spans_ms).T
    counts = []
    for moment in moments_ms:
        is_inside = (starts <= moment) & (moment < ends)
        counts.append(int(np.sum(is_inside)))
    return np.array(counts)


def _streams(
    repetition: Repetition,
) -> Iterator[tuple[float, float, RequestRow]]:
    """(sent, time to first token, request) of the requests with two tokens or more; in ms."""
    for request in repetition.requests:
        sent_ms, ttft_ms = request.sent_ms, request.ttft_ms
        if sent_ms is None or ttft_ms is None or not request.itl_ms:
            continue
        yield sent_ms, ttft_ms, request


def stalled(
    index: RunIndex, limit: int
) -> list[tuple[Measurement, Repetition]]:
    """The first repetitions that do not count and have requests to show."""
    rows: list[tuple[Measurement, Repetition]] = []
    for measurement in index.results.measurements:
        for repetition in measurement.repetitions:
            if repetition.invalid and repetition.requests:
                rows.append((measurement, repetition))
    return rows[:limit]


def reach(levels: Sequence[Level]) -> np.ndarray:
    """How far the repetitions lie below and above each value; shape (2, levels)."""
    below = [row.value - row.low for row in levels]
    above = [row.high - row.value for row in levels]
    return np.array([below, above]).clip(min=0)
