"""Symptoms: all that changed in each server of a run, as rules for causes see it.

Made of verdicts, choices and requests. Roles come from the architecture of the models:
sparse or dense, never from names.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from perfgate import formatting
from perfgate.cases import Case, Load
from perfgate.engines.base import ServerConfig
from perfgate.engines.chosen import canonical
from perfgate.judge import choices
from perfgate.judge.answers import with_counts
from perfgate.judge.baseline_store import Recorded, Store
from perfgate.judge.identity import chosen
from perfgate.judge.noise import loss_of
from perfgate.judge.observation import RunReader
from perfgate.judge.verdict import Outcome, Verdict, is_regression
from perfgate.load.metrics import METRICS
from perfgate.load.prompts import Synthetic
from perfgate.load.repetition import Repetition
from perfgate.load.turns import BATCH_TIMES
from perfgate.load.workload import Workload
from perfgate.models.catalogue import CATALOGUE
from perfgate.results.schema import RunResults

ITL = "itl_median_ms"
TTFT = "ttft_median_ms"
THROUGHPUT = "output_throughput"
SATURATED = "saturated_throughput"
KV_CACHE = "kv_cache_tokens"
GRAPHS_BYTES = "graphs_bytes"
GRAPHS_PHASE = "graphs captured"  # of the log, `perfgate.engines`
# A change counts beyond this many times the known variation of launches, and beyond the
# smallest change that says anything (log).
SIGMAS = 3.0
SMALLEST = 0.01
# Of a context, what cannot slow an engine down.
_NO_CAUSE = frozenset({"suite", "machine", "cores_or_gpus"})


@dataclass(frozen=True)
class Moved:
    """A metric of a load that was compared.

    Attributes:
        streams: requests that the load keeps in flight; None of an open loop, and of
            what has no load.
        together: whether all of its prompts are sent at once.
        prompt_tokens: of each of its prompts; None where they differ.
        output_tokens: of each of its answers; None where they differ.
        loss: log of how much worse it is; negative for a gain.
        noise: variation from launch to launch (log); None where it is unknown.
    """

    case: str
    metric: str
    load: str
    streams: int | None
    together: bool
    before: float
    now: float
    loss: float
    noise: float | None
    is_red: bool
    prompt_tokens: int | None = None
    output_tokens: int | None = None

    @property
    def threshold(self) -> float:
        """A change (log) that is more than noise."""
        return max(SMALLEST, SIGMAS * (self.noise or 0.0))

    @property
    def is_worse(self) -> bool:
        """Whether it lost more than noise explains."""
        return self.is_red or self.loss > self.threshold

    @property
    def is_better(self) -> bool:
        """Whether it gained more than noise explains."""
        return -self.loss > self.threshold

    @property
    def added(self) -> float:
        """Now less before, in the metric's unit."""
        return self.now - self.before


@dataclass(frozen=True)
class Choice:
    """What the engine chose otherwise than in the baseline."""

    name: str
    before: str
    now: str


@dataclass(frozen=True)
class Decoding:
    """How many streams a load had in decoding at most, and how many it kept in flight.

    Attributes:
        before: at most in the base build; 0 where that is unknown.
    """

    load: str
    streams: int
    at_most: int
    before: int = 0


@dataclass(frozen=True)
class ServerSymptoms:
    """What changed in one server.

    Attributes:
        layers: of its model; 0 where it is unknown.
        gpus: that it has; 0 on a CPU.
        differs: what else than choices differs from the baseline, in words.
        decoding: of each closed load and burst.
        kept: what the engine chose as before.
    """

    key: str
    engine: str
    model: str
    is_sparse: bool
    layers: int
    ranks: int
    gpus: int
    injected: str
    moved: tuple[Moved, ...]
    changed: tuple[Choice, ...]
    decoding: tuple[Decoding, ...]
    differs: tuple[str, ...] = ()
    kept: Mapping[str, str] = field(default_factory=dict)

    def rows(self, metric: str) -> list[Moved]:
        """The rows of a metric, the fewest streams first."""
        rows = [row for row in self.moved if row.metric == metric]
        return sorted(rows, key=lambda row: row.streams or 0)

    @property
    def steps(self) -> list[Moved]:
        """Decode steps of closed loads, the smallest batch first."""
        return [row for row in self.rows(ITL) if row.streams]

    @property
    def first_tokens(self) -> list[Moved]:
        """First tokens of a request that is alone."""
        return [row for row in self.rows(TTFT) if row.streams == 1]

    @property
    def batches(self) -> list[Moved]:
        """Batches of a held engine, each by the one of its times that lost most."""
        batches: dict[str, Moved] = {}
        for metric in BATCH_TIMES:
            for row in self.rows(metric):
                known = batches.setdefault(row.load, row)
                batches[row.load] = max(known, row, key=lambda one: one.loss)
        return list(batches.values())

    def choice(self, *names: str) -> Choice | None:
        """The first of these choices that changed."""
        for choice in self.changed:
            if choice.name in names:
                return choice
        return None


def symptoms_of(
    reader: RunReader, verdicts: Sequence[Verdict], store: Store
) -> tuple[ServerSymptoms, ...]:
    """What changed in each server that was compared."""
    cases = {case.id: case for case in reader.results.cases}
    rows: dict[str, list[Moved]] = {}
    loads: dict[str, Load] = {}
    for verdict in verdicts:
        case = cases.get(verdict.case)
        if case is None or case.is_ratio:
            continue
        key = case.numerator.server.key
        loads[key] = case.numerator
        row = _moved(verdict, case)
        if row is not None:
            rows.setdefault(key, []).append(row)
    return tuple(
        _server(reader, loads[key], moved, cases.values(), store)
        for key, moved in rows.items()
    )


def _moved(verdict: Verdict, case: Case) -> Moved | None:
    if not verdict.baseline or not verdict.value or verdict.value <= 0:
        return None
    if verdict.outcome in (Outcome.INVALID, Outcome.INCOMPARABLE):
        return None
    if verdict.reference == "published":
        return None
    metric = METRICS.get(verdict.metric)
    if metric is None:
        return None
    name, streams, together = "", None, False
    prompt_tokens, output_tokens = None, None
    workload = case.numerator.workload
    if workload is not None:
        name, streams = workload.name, workload.batch
        together = workload.arrivals == "burst"
        if isinstance(workload.prompts, Synthetic):
            prompt_tokens = workload.prompts.input_len_tokens
            output_tokens = workload.prompts.output_len_tokens
    noise = None
    if verdict.noise is not None:
        noise = math.log1p(verdict.noise)
    is_higher = metric.better == "higher"
    return Moved(
        case=verdict.case,
        metric=verdict.metric,
        load=name,
        streams=streams,
        together=together,
        before=verdict.baseline,
        now=verdict.value,
        loss=loss_of(verdict.value, verdict.baseline, is_higher),
        noise=noise,
        is_red=is_regression(verdict),
        prompt_tokens=prompt_tokens,
        output_tokens=output_tokens,
    )


def _server(
    reader: RunReader,
    load: Load,
    moved: Sequence[Moved],
    cases: Iterable[Case],
    store: Store,
) -> ServerSymptoms:
    config = load.server
    architecture = reader.results.models.get(config.model)
    if architecture is None and config.model in CATALOGUE:
        architecture = CATALOGUE[config.model].architecture
    is_sparse, layers = False, 0
    if architecture is not None:
        is_sparse = architecture.is_moe
        layers = architecture.num_hidden_layers
    own = []
    for case in cases:
        if case.numerator.server == config and not case.is_ratio:
            own.append(case)
    injected = ""
    differs: dict[str, None] = {}
    recorded, current = _choices(reader, load, own, store)
    for case in own:
        observation = reader.observe(_judged(case))
        injected = injected or observation.injected
        baseline = store.find(case, observation.hardware_label)
        if isinstance(baseline, Recorded) and not reader.results.is_paired:
            differs |= dict.fromkeys(
                _differences(observation.context, baseline.context)
            )
    return ServerSymptoms(
        key=config.key,
        engine=config.engine,
        model=config.model,
        is_sparse=is_sparse,
        layers=layers,
        ranks=config.tensor_parallel_size,
        gpus=config.gpu_count,
        injected=injected,
        moved=tuple(moved),
        changed=tuple(_changed(recorded, current)),
        decoding=tuple(_decoding(reader.results, config)),
        differs=tuple(differs),
        kept=dict(recorded.items() & current.items()),
    )


def _differences(
    current: Mapping[str, str], recorded: Mapping[str, str]
) -> list[str]:
    """What of the environment differs: "driver 580 -> 590", "$NCCL_ALGO unset -> Ring"."""
    now, before = with_counts(current, recorded)
    lines = []
    for name in formatting.differing(now, before):
        if name not in _NO_CAUSE:
            old = before.get(name, "unset")
            lines.append(f"{name} {old} -> {now.get(name, 'unset')}")
    return lines


def _choices(
    reader: RunReader, load: Load, own: Sequence[Case], store: Store
) -> tuple[dict[str, str], dict[str, str]]:
    """What the engine chose for the base build, or for a baseline, and what it chose now."""
    is_duel = any(case.is_duel for case in own)
    if is_duel:
        load = load.candidate
    current = _chosen(reader.results, load)
    recorded: dict[str, str] = {}
    if is_duel or reader.results.is_paired:
        base = Load(server=load.server.base, workload=load.workload)
        recorded = _chosen(reader.results, base)
    else:
        for case in own:
            observation = reader.observe(case)
            baseline = store.find(case, observation.hardware_label)
            if isinstance(baseline, Recorded):
                recorded = dict(baseline.chosen) | recorded
    return recorded, current


def _changed(
    recorded: Mapping[str, str], current: Mapping[str, str]
) -> list[Choice]:
    """What the engine chose otherwise."""
    return [
        Choice(
            name,
            canonical(name, recorded[name]),
            canonical(name, current[name]),
        )
        for name in choices.differing(current, recorded)
    ]


def _judged(case: Case) -> Case:
    """The case as it was measured: in a duel the candidate has a server of its own."""
    return case.candidate if case.is_duel else case


def _chosen(results: RunResults, load: Load) -> dict[str, str]:
    """What the engine chose, and whether it did capture graphs."""
    choice = chosen(results, load)
    if not _captured_graphs(results, load.server.key):
        choice["graphs"] = "off"
    return choice


def _captured_graphs(results: RunResults, key: str) -> bool:
    """Whether a launch captured graphs, as far as its start shows it.

    Older runs have what was asked for as "graphs".
    """
    launches = [row for row in results.launches if row.server == key]
    started = [row for row in launches if row.start.phases]
    if not started or GRAPHS_BYTES in started[0].values:
        return True
    phases = [phase.name for row in started for phase in row.start.phases]
    return GRAPHS_PHASE in phases


def _decoding(results: RunResults, config: ServerConfig) -> list[Decoding]:
    """The most streams that decoded at once, of each load that keeps several."""
    before: dict[str, int] = {}
    for workload, at_most in _most_of_launches(results, config.base.key):
        most = max(at_most, before.get(workload.name, 0))
        before[workload.name] = most
    rows = []
    for workload, at_most in _most_of_launches(results, config.key):
        streams = workload.batch or 1
        of_base = before.get(workload.name, 0)
        rows.append(Decoding(workload.name, streams, at_most, of_base))
    return rows


def _most_of_launches(
    results: RunResults, key: str
) -> Iterator[tuple[Workload, int]]:
    """The same of each launch of a server."""
    for measurement in results.measurements:
        if measurement.server != key:
            continue
        workload = results.workloads.get(measurement.workload)
        if workload is None or workload.asks_routing:
            continue
        if workload.batch is None or workload.batch < 2:
            continue
        counts = [most_decoding(row) for row in measurement.repetitions]
        at_most = max(counts, default=0)
        # Of a ramp no single request is kept.
        if at_most:
            yield workload, at_most


def most_decoding(repetition: Repetition) -> int:
    """The most requests between first and last token at one moment."""
    moments = []
    for request in repetition.requests:
        if request.sent_ms is None or request.e2el_ms is None:
            continue
        if request.ttft_ms is None:
            continue
        moments.append((request.sent_ms + request.ttft_ms, 1))
        moments.append((request.sent_ms + request.e2el_ms, -1))
    now = most = 0
    for _, step in sorted(moments):
        now += step
        most = max(most, now)
    return most
