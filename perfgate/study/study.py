"""Study: the servers and workloads of one platform and engine, for the questions.

A question is a function of a `Study` (or of a `Versus`, two engines) that
yields cases. All platforms have the same questions. They differ in the models,
the lengths of prompts, and whether absolute values are judged.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import msgspec

from perfgate import formatting
from perfgate.cases import Case, GateMode, Load
from perfgate.engines.base import ServerConfig
from perfgate.engines.registry import lookup
from perfgate.engines.secret_values import hidden_arguments
from perfgate.errors import Failure
from perfgate.load.workload import Workload
from perfgate.models.catalogue import Model
from perfgate.models.catalogue import lookup as lookup_model
from perfgate.models.stated_routing import StatedRouting
from perfgate.study.schema import DeepTable, JudgedValues
from perfgate.study.toml_file import BadStudy

# The variant of a server for requests that its context does not hold, and in which
# steps its context grows. SGLang needs a few tokens besides.
LONG = "long"
LONG_STEP = 256
CONTEXT_ROOM = 8


class AmbiguousServer(Failure):
    """Two different servers under one key."""


class SingleModel(Failure):
    """A question about a pair, asked of a model that is measured alone."""


@dataclass(frozen=True)
class Study:
    """The servers and workloads of one platform, engine, and pair of models.

    Attributes:
        platform: the marker that selects it.
        pair: name of the pair, or of the model that is measured alone.
        models: the model's server, and that of its reference in a pair.
        sparse: those of them whose models route tokens among experts.
        dense_tp1: the dense server on one rank: of the reference, or of the model that
            is measured alone. None where it is sparse, or the study omits it.
        closed: fixed concurrency, the steady state that is judged.
        single_stream: one request at a time.
        routing: sent to a server that returns the experts of its tokens.
        rates: open loop, lowest rate first.
        batches: fixed concurrency, smallest first.
        sweep: batches at which the ratio of the models is compared with that of the
            bytes read.
        burst: many prompts at once; None where the platform has none.
        workloads: every workload of the platform's set, by name.
        judged_workloads: workload -> metrics, of those that name what is judged.
        held: the servers of models whose engine is held in one process; empty where the
            study has none, or the engine cannot be held.
        held_workloads: the batches that they answer.
        counts_work: whether what the held engines do is counted, too.
        judged: "all"; "coarse" where absolute values have the wide thresholds of CPUs;
            "ratios" where they are only reported.
        has_base_build: a base build is launched in turn with the candidate. Then each
            server's own values are judged on every platform, and ratios of servers are
            report-only: both of their sides are judged already.
        prefill: one long prompt at a time, shortest first.
        long_answers: fixed concurrency, with long answers.
        mixed: fixed concurrency, with lengths of a distribution.
        conversations: open loop with prompts of a data set, beside `rates`.
        stated_routings: with which a sparse model is served, too, to compare them.
        deep: loads that options ask for, by name.
        accuracy: questions that are graded; None for none.
        soak_minutes: for so long the closed load is kept up, to be measured once more.
        counts_instructions: whether held engines are launched in valgrind, too.
        names_base_build: a base build is named, whichever rows it is launched for.
        has_other_engines: other engines are selected too. A slow one then does not
            return its routing, nor is it timed in turns: there is no time for more
            launches.
    """

    platform: str
    pair: str
    models: tuple[ServerConfig, ...]
    sparse: tuple[ServerConfig, ...]
    dense_tp1: ServerConfig | None
    closed: Workload
    single_stream: Workload
    routing: Workload
    rates: tuple[Workload, ...]
    batches: tuple[Workload, ...]
    sweep: tuple[Workload, ...]
    burst: Workload | None = None
    workloads: Mapping[str, Workload] = field(
        default_factory=dict, compare=False
    )
    judged_workloads: Mapping[str, tuple[str, ...]] = field(
        default_factory=dict, compare=False
    )
    held: tuple[ServerConfig, ...] = ()
    held_workloads: tuple[Workload, ...] = ()
    counts_work: bool = True
    judged: JudgedValues = "all"
    prefill: tuple[Workload, ...] = ()
    long_answers: tuple[Workload, ...] = ()
    mixed: tuple[Workload, ...] = ()
    conversations: tuple[Workload, ...] = ()
    stated_routings: tuple[StatedRouting, ...] = ()
    deep: Mapping[str, DeepTable] = field(default_factory=dict, compare=False)
    accuracy: Workload | None = None
    soak_minutes: float = 0.0
    counts_instructions: bool = False
    has_base_build: bool = False
    names_base_build: bool = False
    has_other_engines: bool = False

    @property
    def model(self) -> ServerConfig:
        """The model's server; a ratio of latencies has it above."""
        return self.models[0]

    @property
    def is_pair(self) -> bool:
        """Whether there is a reference to compare the model with."""
        return len(self.models) > 1

    @property
    def reference(self) -> ServerConfig:
        """The server that the model's is compared with.

        Raises:
            SingleModel: the model is measured alone; see `is_pair`.
        """
        if self.is_pair:
            return self.models[1]
        raise SingleModel(
            tried=f"comparing {self.model.key} with its reference",
            seen="the model is measured alone (--model)",
            remedy="ask for study.is_pair before study.reference",
        )

    @property
    def moe(self) -> ServerConfig:
        """The model's server, in a pair of a sparse and a dense model the sparse one's."""
        return self.model

    @property
    def dense(self) -> ServerConfig:
        """The reference's server, in a pair of a sparse and a dense model the dense one's."""
        return self.reference

    @property
    def engine(self) -> str:
        """Name of the engine."""
        return self.model.engine

    @property
    def gpu_count(self) -> int:
        """GPUs that its largest server needs; 0 on the CPU."""
        return max(server.gpu_count for server in self.models)

    @property
    def absolute(self) -> GateMode:
        """Whether absolute values are judged here, if only coarsely, or reported."""
        if self.judged == "ratios" and not self.has_base_build:
            return "report"
        return "hard"

    @property
    def is_yardstick(self) -> bool:
        """Whether absolute values repeat here well enough for a tight threshold."""
        return self.judged == "all" or self.has_base_build

    def workload(self, name: str) -> Workload:
        """The workload of that name in this platform's set.

        Raises:
            BadStudy: there is none; the message lists those that there are.
        """
        if name in self.workloads:
            return self.workloads[name]
        names = ", ".join(self.workloads) or "none"
        suggestion = formatting.suggestion(name, self.workloads)
        raise BadStudy(
            tried=f"looking up the workload {name!r} of platform {self.platform}",
            seen=f"its workloads are: {names}",
            remedy=(
                f"{suggestion}add [workloads.SET.{name}] to the study file, or use "
                "study.workloads.get"
            ),
        )

    def fitting(
        self, server: ServerConfig, workload: Workload
    ) -> ServerConfig | None:
        """The server, or one with a context that holds the workload's requests.

        All long loads share that one. None where the model itself is made for less.
        """
        longest = workload.longest_tokens or 0
        if longest <= server.max_model_len:
            return server
        model = lookup_model(server.model)
        for other in self.prefill:
            longest = max(longest, other.longest_tokens or 0)
        context = LONG_STEP * -(-(longest + CONTEXT_ROOM) // LONG_STEP)
        if context > model.architecture.max_position_embeddings:
            return None
        return msgspec.structs.replace(
            server, max_model_len=context, variant=LONG
        )

    @property
    def closed_throughput(self) -> str:
        """The throughput of the closed load: of its steady state, where it has one."""
        return throughput_of(self.closed)

    @property
    def has_random_routers(self) -> bool:
        """Whether made-up routers choose the experts: alike in all layers, by chance."""
        for server in self.sparse:
            if server.load_format == "dummy" and not server.stated_routing:
                return True
        return False

    @property
    def moe_routing(self) -> ServerConfig | None:
        """The first sparse server that returns its routing; None if there is none."""
        for server in self.routed:
            return server
        return None

    @property
    def routed(self) -> tuple[ServerConfig, ...]:
        """Of each sparse model the server that returns its routing.

        It is the timed one, or another launch.

        Empty where the routing is unknown or says nothing: that of dummy weights is
        chance, or stated. With a base build it is omitted, because it takes six more
        launches.
        """
        servers = []
        for server in self.sparse:
            asked = self.asked_routing(server)
            if asked is not None and self._asks_routing(server):
                servers.append(asked)
        return tuple(servers)

    def _asks_routing(self, server: ServerConfig) -> bool:
        """Whether its routing says something, and there is time to record it."""
        if server.load_format == "dummy" or self.has_base_build:
            return False
        return self._has_time(server)

    def _has_time(self, server: ServerConfig) -> bool:
        """Whether there is time for more launches: not of a slow engine beside others."""
        is_slow = server.device == "cpu" and lookup(server.engine).slow_on_cpu
        return not (self.has_other_engines and is_slow)

    @property
    def timed_in_turns(self) -> tuple[ServerConfig, ...]:
        """The held servers whose two builds are timed in turns.

        On a GPU only where a base build is named: no lock file has one.
        """
        servers = []
        for server in self.held:
            has_base = server.device == "cpu" or self.names_base_build
            if has_base and self._has_time(server):
                servers.append(server)
        return tuple(servers)

    @property
    def counted(self) -> tuple[ServerConfig, ...]:
        """The held servers whose work is counted."""
        if self.counts_work:
            return self.held
        return ()

    @property
    def in_valgrind(self) -> tuple[ServerConfig, ...]:
        """The held servers whose instructions are counted; none unless that is asked for."""
        if not self.counts_instructions:
            return ()
        servers = []
        for server in self.counted:
            servers.append(msgspec.structs.replace(server, instructions=True))
        return tuple(servers)

    def asked_routing(self, server: ServerConfig) -> ServerConfig | None:
        """What serves that model and returns its routing: itself, or another launch.

        None where the engine reports no routing.
        """
        probe = lookup(server.engine).routing_probes.get(server.device)
        if probe is None:
            return None
        return msgspec.structs.replace(server, routing=probe)

    def stated(
        self, server: ServerConfig, routing: StatedRouting
    ) -> ServerConfig:
        """A sparse model's server with tokens that are told to choose experts so.

        Raises:
            BadStudy: its weights are real, or its engine cannot be told.
        """
        model = lookup_model(server.model)
        if not can_state_routing(server.engine, model, server.load_format):
            raise BadStudy(
                tried=f"stating the routing of {server.key}: {routing}",
                seen=(
                    "its weights are real, and their routers choose, or its engine "
                    "cannot be told"
                ),
                remedy="add --weights dummy, or leave --stated-routing out",
            )
        return msgspec.structs.replace(server, stated_routing=routing)

    def deep_server(
        self, deep: DeepTable, server: ServerConfig
    ) -> ServerConfig | None:
        """What serves a model for a deep load; None where its engine has no such server."""
        if deep.extra_args and server.engine not in deep.extra_args:
            return None
        own = deep.extra_args.get(server.engine, ())
        return msgspec.structs.replace(
            server,
            prefix_caching=deep.prefix_caching,
            extra_args=(*server.extra_args, *hidden_arguments(own)),
            variant=deep.variant,
        )

    def is_sent_deep_loads(self, server: ServerConfig) -> bool:
        """Whether a deep load of this session needs no server of its own."""
        tables = self.deep.values()
        return any(
            self.deep_server(table, server) == server for table in tables
        )

    def soaked(self, workload: Workload) -> Workload:
        """The same load, measured after it was kept up for the minutes of --soak."""
        return msgspec.structs.replace(
            workload,
            name=f"{workload.name}-soaked",
            soak_minutes=self.soak_minutes,
        )

    @property
    def spread_and_split(self) -> tuple[tuple[ServerConfig, ServerConfig], ...]:
        """Of each sparse model the server with expert parallelism, and the one without.

        Empty on one rank.
        """
        pairs = []
        for server in self.sparse:
            if server.ranks > 1:
                replace = msgspec.structs.replace
                spread = replace(server, expert_parallel=True)
                split = replace(server, expert_parallel=False)
                pairs.append((spread, split))
        return tuple(pairs)

    def value(
        self,
        experiment: str,
        metric: str,
        server: ServerConfig,
        workload: Workload | None,
    ) -> Case:
        """One server's own value: judged, or reported where only ratios are judged."""
        return Case(
            experiment=experiment,
            metric=metric,
            numerator=Load(server=server, workload=workload),
            gate=self.absolute,
        )

    def ratio(
        self, experiment: str, metric: str, numerator: Load, denominator: Load
    ) -> Case:
        """One load over another of the same session: judged unless a base build is compared."""
        gate: GateMode = "hard"
        if self.has_base_build:
            gate = "report"
        return Case(
            experiment=experiment,
            metric=metric,
            numerator=numerator,
            denominator=denominator,
            gate=gate,
            two_sided=self.judged != "all",
        )

    def shape(
        self, experiment: str, metric: str, numerator: Load, denominator: Load
    ) -> Case:
        """A ratio that is judged only where absolute values have tight thresholds."""
        case = self.ratio(experiment, metric, numerator, denominator)
        if self.judged != "all":
            return case.report_only
        return case


@dataclass(frozen=True)
class Versus:
    """The studies of two engines on one platform: the same models, prompts and limits.

    Attributes:
        candidate: the engine that is judged.
        reference: the engine that it is compared with.
    """

    candidate: Study
    reference: Study

    @property
    def platform(self) -> str:
        """The marker that selects it."""
        return self.candidate.platform

    @property
    def models(self) -> tuple[tuple[ServerConfig, ServerConfig], ...]:
        """Each model, as each engine serves it."""
        return tuple(
            zip(self.candidate.models, self.reference.models, strict=True)
        )

    def ratio(
        self,
        metric: str,
        servers: tuple[ServerConfig, ServerConfig],
        workload: Workload,
    ) -> Case:
        """One engine over the other under the same workload."""
        numerator = Load(server=servers[0], workload=workload)
        denominator = Load(server=servers[1], workload=workload)
        return self.candidate.ratio("E9", metric, numerator, denominator)


def throughput_of(workload: Workload) -> str:
    """The metric of its output throughput: of its steady state, where it has one."""
    if workload.staggered:
        return "steady_output_throughput"
    return "output_throughput"


def can_state_routing(engine: str, model: Model, load_format: str) -> bool:
    """Whether a sparse model's weights are random, and the engine can be told.

    The engine makes them, or the suite: real ones have routers that mean something.
    """
    has_weights = bool(model.hub_id or model.folder)
    is_made_up = load_format == "dummy" or not has_weights
    can_be_told = lookup(engine).stated_draws is not None
    return model.architecture.is_moe and is_made_up and can_be_told


def servers_of(
    cases: Iterable[Case],
) -> dict[str, tuple[ServerConfig, tuple[Workload, ...]]]:
    """The servers that the cases need, by key, with their workloads.

    The order is that of the first case that needs each.

    Raises:
        AmbiguousServer: two different configurations have one key.
    """
    servers: dict[str, ServerConfig] = {}
    workloads: dict[str, tuple[Workload, ...]] = {}
    for case in cases:
        for load in case.loads:
            key = load.server.key
            check_unique(servers.setdefault(key, load.server), load.server)
            workloads.setdefault(key, ())
            if load.workload is None or load.workload in workloads[key]:
                continue
            workloads[key] += (load.workload,)
    return {key: (servers[key], workloads[key]) for key in servers}


def check_unique(first: ServerConfig, second: ServerConfig) -> None:
    """Refuse two configurations that share a key.

    Raises:
        AmbiguousServer: they differ.
    """
    if first == second:
        return
    raise AmbiguousServer(
        tried=f"planning the launch of {first.key}",
        seen=f"two configurations have this key: {_difference(first, second)}",
        remedy=(
            'give one of them a variant, which becomes part of its key: variant="eager"'
        ),
    )


def _difference(first: ServerConfig, second: ServerConfig) -> str:
    """The fields that differ: "max_model_len is 2048 or 1024"."""
    texts = []
    for name in ServerConfig.__struct_fields__:
        values = getattr(first, name), getattr(second, name)
        if values[0] != values[1]:
            texts.append(f"{name} is {values[0]!r} or {values[1]!r}")
    return "; ".join(texts)
