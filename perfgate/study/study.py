"""Study: the servers and workloads of one platform and engine, for the questions.

A question is a function of a `Study` (or of a `Versus`, two engines) that
yields cases. All platforms have the same questions. They differ in the models,
the lengths of prompts, and whether absolute values are judged.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec

from perfgate import formatting
from perfgate.cases import Case, GateMode, Load
from perfgate.engines.base import ServerConfig
from perfgate.engines.registry import lookup
from perfgate.engines.secret_values import hidden, hidden_arguments
from perfgate.errors import Failure
from perfgate.load.frozen import Frozen
from perfgate.load.workload import Workload
from perfgate.models.catalogue import Model
from perfgate.models.catalogue import lookup as lookup_model
from perfgate.models.stated_routing import StatedRouting
from perfgate.study.reader import StudyFile
from perfgate.study.schema import (
    DeepTable,
    HeldTable,
    JudgedValues,
    ModelTable,
    PlatformTable,
    Roles,
    ServerTable,
)
from perfgate.study.selection import Subject, subjects_of
from perfgate.study.toml_file import BadStudy

# Keys of a server table that a model may replace, and that are fields of a server.
_SERVER_KEYS = (
    "tensor_parallel_size",
    "data_parallel_size",
    "data_parallel_attention",
    "expert_parallel",
    "max_model_len",
    "dtype",
    "quantization",
    "kv_cache_dtype",
)
# Roles that have several workloads.
_ROLES_OF_SEVERAL = (
    "rates",
    "batches",
    "sweep",
    "prefill",
    "long_answers",
    "mixed",
    "conversations",
)
Setting = TypeVar("Setting")


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
        if not _can_state_routing(server.engine, model, server.load_format):
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


@dataclass(frozen=True)
class ServerChoices:
    """What options change in the servers of a study file.

    Attributes:
        tensor_parallel_size: of the compared servers; None takes the file's.
        load_format: "auto" for real weights, "dummy" for random ones. On the CPU, where
            the suite makes the models, always "auto".
        stated_routing: of sparse models whose weights are made up; None takes the
            file's.
        datasets: name -> the prompts that were drawn from it.
    """

    tensor_parallel_size: int | None = None
    load_format: str = "auto"
    stated_routing: StatedRouting | None = None
    datasets: Mapping[str, Frozen] = field(default_factory=dict)


def throughput_of(workload: Workload) -> str:
    """The metric of its output throughput: of its steady state, where it has one."""
    if workload.staggered:
        return "steady_output_throughput"
    return "output_throughput"


def study_of(
    file: StudyFile,
    platform: str,
    engine: str,
    subject: Subject | None = None,
    choices: ServerChoices | None = None,
) -> Study:
    """The study on one platform with one engine and one pair.

    Args:
        file: the study file.
        platform: name of a platform in it.
        engine: name of a registered engine.
        subject: a pair, or a model that is measured alone; None takes the platform's
            first.
        choices: what options change in the file's servers; None changes nothing.

    """
    table = file.platforms[platform]
    if subject is None:
        subject = subjects_of(file, platform)[0]
    server = file.servers[table.server]
    choices = choices or ServerChoices()
    members = _members(file, table.workloads, choices.datasets)
    models = _models(file, server, engine, subject, choices)
    is_slow = server.device == "cpu" and lookup(engine).slow_on_cpu
    roles = _roles(table, is_slow)
    sparse = _sparse(file, models)
    dense_tp1 = None
    if roles.dense_alone and models[-1] not in sparse:
        dense_tp1 = _on_one_rank(models[-1])
    burst = None
    if roles.burst is not None:
        burst = members[roles.burst]
    held: tuple[ServerConfig, ...] = ()
    held_workloads: tuple[Workload, ...] = ()
    # A named pair once a platform: the study of each further pair would ask the same.
    is_first = subject == subjects_of(file, platform)[0]
    if table.held and (is_first or not table.held.pair):
        held = _held(file, table.held, server, engine, models)
        held_workloads = tuple(file.workloads[table.held.workloads].values())
    return Study(
        platform=platform,
        pair=subject.name,
        models=models,
        sparse=sparse,
        dense_tp1=dense_tp1,
        closed=members[roles.closed],
        single_stream=members[roles.single_stream],
        routing=members[roles.routing],
        burst=burst,
        workloads=members,
        judged_workloads=file.judged_workloads[table.workloads],
        held=held,
        held_workloads=held_workloads,
        counts_work=table.held is not None and table.held.counted,
        judged=table.judged,
        **_selected(members, roles),
    )


def _held(
    file: StudyFile,
    table: HeldTable,
    server: ServerTable,
    engine: str,
    models: tuple[ServerConfig, ...],
) -> tuple[ServerConfig, ...]:
    """The servers of the held models on one rank, or none.

    Args:
        models: those that are measured.
    """
    if server.device not in lookup(engine).held_on:
        return ()
    if table.pair:
        pair = file.pairs[table.pair]
        subject = Subject(table.pair, (pair.model, pair.reference))
        choices = ServerChoices(tensor_parallel_size=1)
        models = _models(file, server, engine, subject, choices)
    held = []
    for model in models:
        alone = _on_one_rank(model)
        held.append(msgspec.structs.replace(alone, held=True))
    return tuple(held)


def _members(
    file: StudyFile, set_name: str, datasets: Mapping[str, Frozen]
) -> dict[str, Workload]:
    """The workloads of a set; those of a data set with its prompts, or another in place.

    Without either they hold no prompts, and cannot be sent.
    """
    members = dict(file.workloads[set_name])
    for name, use in file.dataset_uses.get(set_name, {}).items():
        if use.dataset in datasets:
            members[name] = msgspec.structs.replace(
                members[name], prompts=datasets[use.dataset]
            )
        elif use.otherwise is not None:
            members[name] = members[use.otherwise]
    return members


def _models(
    file: StudyFile,
    table: ServerTable,
    engine: str,
    subject: Subject,
    choices: ServerChoices,
) -> tuple[ServerConfig, ...]:
    """The server of each model."""
    if choices.stated_routing is not None:
        table = msgspec.structs.replace(
            table, stated_routing=choices.stated_routing
        )
    models = []
    for name in subject.models:
        own = file.model_tables[name]
        if choices.tensor_parallel_size is not None:
            own = _with_ranks(own, choices.tensor_parallel_size)
        model = file.models[name]
        models.append(_server(table, own, engine, model, choices.load_format))
    return tuple(models)


def _selected(members: Mapping[str, Workload], roles: Roles) -> dict[str, Any]:
    """Role -> its workloads, of the roles that have several."""
    selected: dict[str, Any] = {}
    for role in _ROLES_OF_SEVERAL:
        names = getattr(roles, role)
        selected[role] = tuple(members[name] for name in names)
    return selected


def _sparse(
    file: StudyFile, servers: Iterable[ServerConfig]
) -> tuple[ServerConfig, ...]:
    """Those whose models route tokens among experts."""
    sparse = []
    for server in servers:
        if file.models[server.model].architecture.is_moe:
            sparse.append(server)
    return tuple(sparse)


def _on_one_rank(server: ServerConfig) -> ServerConfig:
    return msgspec.structs.replace(
        server, tensor_parallel_size=1, data_parallel_size=1
    )


def _with_ranks(own: ModelTable, tensor_parallel_size: int) -> ModelTable:
    """The model's table with another tensor parallel size, which decides."""
    server = msgspec.structs.replace(
        own.server, tensor_parallel_size=tensor_parallel_size
    )
    return msgspec.structs.replace(own, server=server)


def _server(
    table: ServerTable,
    own: ModelTable,
    engine: str,
    model: Model,
    load_format: str,
) -> ServerConfig:
    """The server of one model; the CPU ignores `load_format`.

    Args:
        table: of the platform.
        own: of the model; it replaces keys of the platform's.
    """
    arguments = _of_engine(table.extra_args, own.server.extra_args, engine, ())
    if table.device == "cpu":
        arguments = (*lookup(engine).cpu_arguments, *arguments)
        load_format = "auto"
    variables = _of_engine(table.extra_env, own.server.extra_env, engine, {})
    fields: dict[str, Any] = {}
    for source in (table, own.server, own):
        for name in _SERVER_KEYS:
            value = getattr(source, name, None)
            if value is not None:
                fields[name] = value
    config = ServerConfig(
        engine=engine,
        model=model.name,
        device=table.device,
        load_format=load_format,
        extra_args=hidden_arguments(arguments),
        extra_env=hidden(variables),
        stated_routing=_stated_routing(engine, table, model, load_format),
        **fields,
    )
    if model.architecture.is_moe:
        return _with_sharing(config)
    return msgspec.structs.replace(
        config, expert_parallel=False, data_parallel_attention=False
    )


def _with_sharing(config: ServerConfig) -> ServerConfig:
    """The server of a sparse model; it says whether data parallel copies share experts."""
    shares = (
        config.data_parallel_attention
        or lookup(config.engine).copies_share_experts
    )
    return msgspec.structs.replace(
        config, data_parallel_attention=shares and config.data_parallel_size > 1
    )


def _of_engine(
    table: Mapping[str, Setting],
    own: Mapping[str, Setting] | None,
    engine: str,
    default: Setting,
) -> Setting:
    """An engine's entry of a model, else of the platform's server table."""
    if own is not None and engine in own:
        return own[engine]
    return table.get(engine, default)


def _stated_routing(
    engine: str, table: ServerTable, model: Model, load_format: str
) -> StatedRouting:
    """The table's for a sparse model whose weights are made up, else none."""
    if _can_state_routing(engine, model, load_format):
        return table.stated_routing
    return ""


def _can_state_routing(engine: str, model: Model, load_format: str) -> bool:
    """Whether a sparse model's weights are random, and the engine can be told.

    The engine makes them, or the suite: real ones have routers that mean something.
    """
    has_weights = bool(model.hub_id or model.folder)
    is_made_up = load_format == "dummy" or not has_weights
    can_be_told = lookup(engine).stated_draws is not None
    return model.architecture.is_moe and is_made_up and can_be_told


def _roles(table: PlatformTable, is_slow: bool) -> Roles:
    """The platform's workloads, or fewer for an engine without kernels for the device."""
    if not is_slow:
        return table.roles
    changes = {}
    for name, value in msgspec.structs.asdict(table.slow_engines).items():
        if value is not None:
            changes[name] = value
    return msgspec.structs.replace(table.roles, **changes)


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
