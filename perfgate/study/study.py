"""Study: the servers and workloads of one platform and engine, as questions see them.

A question is a function of a `Study` (or of a `Versus`, two engines) that yields cases.
The same questions are asked everywhere. Platforms differ in the models, the lengths of
prompts, and whether absolute values may be judged.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import msgspec

from perfgate.cases import Case, GateMode, Load
from perfgate.engines.base import ServerConfig
from perfgate.engines.registry import lookup
from perfgate.errors import Failure
from perfgate.load.workload import Workload
from perfgate.study.reader import BadStudy, StudyFile
from perfgate.study.schema import Judged, PlatformTable, Roles, ServerTable


class AmbiguousServer(Failure):
    """Two different servers under one key."""


@dataclass(frozen=True)
class Study:
    """The servers and workloads of one platform for one engine.

    Attributes:
        platform: the marker that selects it.
        moe, dense: the sparse and the dense server of the same size.
        dense_tp1: the dense server on one rank; None where the study leaves it out.
        closed: fixed concurrency, the steady state that is judged.
        single_stream: one request at a time.
        routing: what a server is sent that is asked where its tokens go.
        rates: open loop, lowest rate first.
        batches: fixed concurrency, smallest first.
        sweep: batches at which the ratio of the models is compared with that of the
            bytes read.
        burst: many prompts at once; None where the platform has none.
        workloads: every workload of the platform's set, by name.
        judged: "all", or "ratios" where absolute values are only reported.
        beside_base: a base build is launched in turn with the candidate. Then each
            server's own values are judged everywhere, and ratios of servers are
            report-only: both of their sides are judged already.
        beside_engines: other engines are selected, too. A slow one is then not asked
            where its tokens go: there is no time for another launch.
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
    workloads: Mapping[str, Workload] = field(default_factory=dict, compare=False)
    judged: Judged = "all"
    beside_base: bool = False
    beside_engines: bool = False

    @property
    def gpu_count(self) -> int:
        """GPUs that its largest server needs; 0 on the CPU."""
        return self.moe.gpu_count

    @property
    def absolute(self) -> GateMode:
        """Whether absolute values are judged here or only reported."""
        if self.judged == "ratios" and not self.beside_base:
            return "report"
        return "hard"

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
        raise BadStudy(
            tried=f"looking up the workload {name!r} of platform {self.platform}",
            seen=f"its set has {', '.join(self.workloads) or 'none'}",
            remedy=f"add [workloads.SET.{name}] to the study file, or ask with study.workloads.get",
        )

    @property
    def moe_routing(self) -> ServerConfig | None:
        """The sparse server that is asked where its tokens go: the timed one, or one of its own.

        None where that cannot be known: made-up weights make every router alike, so
        theirs says nothing. With a base build times are compared, and six more launches
        are too expensive.
        """
        engine = lookup(self.moe.engine)
        probe = engine.routing_probes.get(self.moe.device)
        is_slow = self.moe.device == "cpu" and engine.slow_on_cpu
        too_dear = self.beside_base or (self.beside_engines and is_slow)
        if probe is None or self.moe.load_format == "dummy" or too_dear:
            return None
        return msgspec.structs.replace(self.moe, routing=probe)

    @property
    def moe_ep(self) -> ServerConfig | None:
        """The sparse server with whole experts spread over the ranks; None on one rank."""
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
        """One server's own value: judged, or reported where the platform judges ratios alone."""
        load = Load(server=server, workload=workload)
        return Case(experiment=experiment, metric=metric, of=load, gate=self.absolute)

    def ratio(self, experiment: str, metric: str, of: Load, over: Load) -> Case:
        """One load over another of the same session: judged unless a base build is compared."""
        gate: GateMode = "hard"
        if self.beside_base:
            gate = "report"
        return Case(
            experiment=experiment,
            metric=metric,
            of=of,
            over=over,
            gate=gate,
            two_sided=self.judged == "ratios",
        )

    def shape(self, experiment: str, metric: str, of: Load, over: Load) -> Case:
        """A ratio that is judged only where absolute values are judged by default."""
        case = self.ratio(experiment, metric, of, over)
        if self.judged == "ratios":
            return msgspec.structs.replace(case, gate="report")
        return case


@dataclass(frozen=True)
class Versus:
    """The studies of two engines on one platform: the same models, prompts and limits.

    `of` is judged relative to `over`.
    """

    of: Study
    over: Study

    @property
    def platform(self) -> str:
        """The marker that selects it."""
        return self.of.platform

    @property
    def models(self) -> tuple[tuple[ServerConfig, ServerConfig], ...]:
        """The sparse, then the dense model, as each engine serves it."""
        return tuple(zip(self.of.models, self.over.models, strict=True))

    def ratio(
        self,
        metric: str,
        servers: tuple[ServerConfig, ServerConfig],
        workload: Workload,
    ) -> Case:
        """One engine over the other under the same workload."""
        of, over = (Load(server=server, workload=workload) for server in servers)
        return self.of.ratio("E9", metric, of, over)


def study_of(
    file: StudyFile,
    platform: str,
    engine: str,
    tensor_parallel_size: int | None = None,
    load_format: str = "auto",
) -> Study:
    """The study on one platform with one engine.

    Args:
        tensor_parallel_size: of the two servers that are compared; None takes the
            file's.
        load_format: "auto" for real weights, "dummy" for made-up ones; on the CPU,
            where the suite makes its models itself, always "auto".

    """
    table = file.platforms[platform]
    pair = file.pairs[table.pair]
    server = file.servers[table.server]
    moe = _server(server, engine, pair.sparse, tensor_parallel_size, load_format)
    dense = msgspec.structs.replace(moe, model=pair.dense)
    roles = _roles(table, is_slow=server.device == "cpu" and lookup(engine).slow_on_cpu)
    members = file.workloads[table.workloads]
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
        rates=tuple(members[name] for name in roles.rates),
        batches=tuple(members[name] for name in roles.batches),
        sweep=tuple(members[name] for name in roles.sweep),
        burst=burst,
        workloads=members,
        judged=table.judged,
    )


def _server(
    table: ServerTable,
    engine: str,
    model: str,
    tensor_parallel_size: int | None,
    load_format: str,
) -> ServerConfig:
    """The server of one model as the table has it; `load_format` counts on GPUs alone."""
    arguments = table.extra_args.get(engine, ())
    if table.device == "cpu":
        arguments = (*lookup(engine).cpu_arguments, *arguments)
        load_format = "auto"
    return ServerConfig(
        engine=engine,
        model=model,
        tensor_parallel_size=tensor_parallel_size or table.tensor_parallel_size,
        device=table.device,
        max_model_len=table.max_model_len,
        dtype=table.dtype,
        load_format=load_format,
        extra_args=arguments,
        extra_env=tuple(sorted(table.extra_env.get(engine, {}).items())),
    )


def _roles(table: PlatformTable, is_slow: bool) -> Roles:
    """The platform's workloads, or fewer for an engine without kernels for the device."""
    if not is_slow:
        return table.roles
    changes = {
        name: value
        for name, value in msgspec.structs.asdict(table.slow_engines).items()
        if value is not None
    }
    return msgspec.structs.replace(table.roles, **changes)


def servers_of(
    cases: Iterable[Case],
) -> dict[str, tuple[ServerConfig, tuple[Workload, ...]]]:
    """Every server that the cases need, by key, with its workloads, in order of first mention.

    Raises:
        AmbiguousServer: two different configurations have one key.
    """
    found: dict[str, tuple[ServerConfig, tuple[Workload, ...]]] = {}
    for case in cases:
        for load in case.loads:
            config, workloads = found.get(load.server.key, (load.server, ()))
            if config != load.server:
                raise AmbiguousServer(
                    tried=f"planning the launch of {load.server.key}",
                    seen=f"two configurations have this key; {_difference(config, load.server)}",
                    remedy="give one of them a name of its own, which joins its key: "
                    'variant="eager"; else '
                    "baselines of one would be compared with the other's",
                )
            if load.workload is not None and load.workload not in workloads:
                workloads = (*workloads, load.workload)
            found[load.server.key] = (config, workloads)
    return found


def _difference(one: ServerConfig, other: ServerConfig) -> str:
    """What tells two servers apart: "max_model_len is 2048 or 1024"."""
    texts = []
    for name in ServerConfig.__struct_fields__:
        values = getattr(one, name), getattr(other, name)
        if values[0] != values[1]:
            texts.append(f"{name} is {values[0]!r} or {values[1]!r}")
    return "; ".join(texts)
