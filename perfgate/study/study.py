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
from perfgate.errors import Failure
from perfgate.load.workload import Workload
from perfgate.models.catalogue import Model
from perfgate.models.stated_routing import StatedRouting
from perfgate.study.reader import BadStudy, StudyFile
from perfgate.study.schema import (
    JudgedValues,
    PlatformTable,
    Roles,
    ServerTable,
)


class AmbiguousServer(Failure):
    """Two different servers under one key."""


@dataclass(frozen=True)
class Study:
    """The servers and workloads of one platform for one engine.

    Attributes:
        platform: the marker that selects it.
        moe, dense: the sparse and the dense server of the same size.
        dense_tp1: the dense server on one rank; None where the study omits it.
        closed: fixed concurrency, the steady state that is judged.
        single_stream: one request at a time.
        routing: sent to a server that returns the experts of its tokens.
        rates: open loop, lowest rate first.
        batches: fixed concurrency, smallest first.
        sweep: batches at which the ratio of the models is compared with that of the
            bytes read.
        burst: many prompts at once; None where the platform has none.
        workloads: every workload of the platform's set, by name.
        judged: "all"; "coarse" where absolute values have the wide thresholds of CPUs;
            "ratios" where they are only reported.
        has_base_build: a base build is launched in turn with the candidate. Then each
            server's own values are judged on every platform, and ratios of servers are
            report-only: both of their sides are judged already.
        stated_routings: with which the sparse model is served, too, to compare them.
        has_other_engines: other engines are selected too. A slow one then does not
            return its routing: there is no time for another launch.
    """

    platform: str
    moe: ServerConfig
    dense: ServerConfig
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
    judged: JudgedValues = "all"
    stated_routings: tuple[StatedRouting, ...] = ()
    has_base_build: bool = False
    has_other_engines: bool = False

    @property
    def gpu_count(self) -> int:
        """GPUs that its largest server needs; 0 on the CPU."""
        return self.moe.gpu_count

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

    @property
    def models(self) -> tuple[ServerConfig, ServerConfig]:
        """The sparse and the dense server of the same size."""
        return self.moe, self.dense

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

    @property
    def has_random_routers(self) -> bool:
        """Whether made-up routers choose the experts: alike in all layers, by chance."""
        is_stated = bool(self.moe.stated_routing)
        return self.moe.load_format == "dummy" and not is_stated

    @property
    def moe_routing(self) -> ServerConfig | None:
        """The sparse server that returns its routing: the timed one, or another launch.

        None where the routing is unknown or says nothing: that of dummy weights is
        chance, or stated. With a base build it is omitted, because it takes six more
        launches.
        """
        engine = lookup(self.moe.engine)
        probe = engine.routing_probes.get(self.moe.device)
        if probe is None or self.moe.load_format == "dummy":
            return None
        is_slow = self.moe.device == "cpu" and engine.slow_on_cpu
        if self.has_base_build or (self.has_other_engines and is_slow):
            return None
        return msgspec.structs.replace(self.moe, routing=probe)

    @property
    def moe_ep(self) -> ServerConfig | None:
        """The sparse server with expert parallelism; None on one rank."""
        if self.moe.tensor_parallel_size == 1:
            return None
        return msgspec.structs.replace(self.moe, expert_parallel=True)

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
        """The sparse, then the dense model, as each engine serves it."""
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


def study_of(
    file: StudyFile,
    platform: str,
    engine: str,
    tensor_parallel_size: int | None = None,
    load_format: str = "auto",
    stated_routing: StatedRouting | None = None,
) -> Study:
    """The study on one platform with one engine.

    Args:
        file: the study file.
        platform: name of a platform in it.
        engine: name of a registered engine.
        tensor_parallel_size: of the two servers that are compared; None takes the
            file's.
        load_format: "auto" for real weights, "dummy" for random ones. On the CPU, where
            the suite makes the models, always "auto".
        stated_routing: of the sparse model, if its weights are made up; None takes the
            file's.

    """
    table = file.platforms[platform]
    pair = file.pairs[table.pair]
    server = file.servers[table.server]
    if stated_routing is not None:
        server = msgspec.structs.replace(server, stated_routing=stated_routing)
    members = file.workloads[table.workloads]
    moe, dense = [
        _server(server, engine, model, tensor_parallel_size, load_format)
        for model in (file.models[pair.sparse], file.models[pair.dense])
    ]
    is_slow = server.device == "cpu" and lookup(engine).slow_on_cpu
    roles = _roles(table, is_slow)
    dense_tp1 = None
    if roles.dense_alone:
        dense_tp1 = msgspec.structs.replace(dense, tensor_parallel_size=1)
    burst = None
    if roles.burst is not None:
        burst = members[roles.burst]
    return Study(
        platform=platform,
        moe=moe,
        dense=dense,
        dense_tp1=dense_tp1,
        closed=members[roles.closed],
        single_stream=members[roles.single_stream],
        routing=members[roles.routing],
        rates=_select(members, roles.rates),
        batches=_select(members, roles.batches),
        sweep=_select(members, roles.sweep),
        burst=burst,
        workloads=members,
        judged=table.judged,
    )


def _select(
    members: Mapping[str, Workload], names: Iterable[str]
) -> tuple[Workload, ...]:
    return tuple(members[name] for name in names)


def _server(
    table: ServerTable,
    engine: str,
    model: Model,
    tensor_parallel_size: int | None,
    load_format: str,
) -> ServerConfig:
    """The server of one model; the CPU ignores `load_format`."""
    arguments = table.extra_args.get(engine, ())
    if table.device == "cpu":
        arguments = (*lookup(engine).cpu_arguments, *arguments)
        load_format = "auto"
    variables = table.extra_env.get(engine, {})
    return ServerConfig(
        engine=engine,
        model=model.name,
        tensor_parallel_size=tensor_parallel_size or table.tensor_parallel_size,
        device=table.device,
        max_model_len=table.max_model_len,
        dtype=table.dtype,
        load_format=load_format,
        extra_args=arguments,
        extra_env=tuple(sorted(variables.items())),
        stated_routing=_stated_routing(table, model, load_format),
    )


def _stated_routing(
    table: ServerTable, model: Model, load_format: str
) -> StatedRouting:
    """The table's for a sparse model whose weights are made up, else none."""
    if model.architecture.is_moe and is_made_up(model, load_format):
        return table.stated_routing
    return ""


def is_made_up(model: Model, load_format: str) -> bool:
    """Whether a model's weights are random: made by the engine, or by the suite."""
    has_weights = bool(model.hub_id or model.folder)
    return load_format == "dummy" or not has_weights


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
            _check_unique(servers.setdefault(key, load.server), load.server)
            workloads.setdefault(key, ())
            if load.workload is None or load.workload in workloads[key]:
                continue
            workloads[key] += (load.workload,)
    return {key: (servers[key], workloads[key]) for key in servers}


def _check_unique(first: ServerConfig, second: ServerConfig) -> None:
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
