"""Building a study: its servers and workloads, from a study file and the options."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec

from perfgate.engines.base import ServerConfig
from perfgate.engines.registry import lookup
from perfgate.engines.secret_values import hidden, hidden_arguments
from perfgate.load.frozen import Frozen
from perfgate.load.workload import Workload
from perfgate.models.catalogue import Model
from perfgate.models.stated_routing import StatedRouting
from perfgate.study.reader import StudyFile
from perfgate.study.schema import (
    HeldTable,
    ModelTable,
    PlatformTable,
    Roles,
    ServerTable,
)
from perfgate.study.selection import Subject, subjects_of
from perfgate.study.study import Study, can_state_routing

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


def _with_ranks(own: ModelTable, tensor_parallel_size: int) -> ModelTable:
    """The model's table with another tensor parallel size, which decides."""
    server = msgspec.structs.replace(
        own.server, tensor_parallel_size=tensor_parallel_size
    )
    return msgspec.structs.replace(own, server=server)


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
    if can_state_routing(engine, model, load_format):
        return table.stated_routing
    return ""


def _roles(table: PlatformTable, is_slow: bool) -> Roles:
    """The platform's workloads, or fewer for an engine without kernels for the device."""
    if not is_slow:
        return table.roles
    changes = {}
    for name, value in msgspec.structs.asdict(table.slow_engines).items():
        if value is not None:
            changes[name] = value
    return msgspec.structs.replace(table.roles, **changes)


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


def _on_one_rank(server: ServerConfig) -> ServerConfig:
    return msgspec.structs.replace(
        server, tensor_parallel_size=1, data_parallel_size=1
    )
