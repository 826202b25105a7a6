"""Reader of study files: parse TOML, check it, return a `StudyFile`.

An error names the file, the table, the key and the valid values.
"""

from __future__ import annotations

import functools
import string
import tomllib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import msgspec

from perfgate import formatting
from perfgate.errors import Failure, describe_error
from perfgate.load.ceilings import BadCeiling, parse_ceilings
from perfgate.load.prompts import Synthetic
from perfgate.load.workload import Workload
from perfgate.models.catalogue import (
    Model,
    UnknownArchitecture,
    load_config,
    parse_config,
)
from perfgate.models.estimate import QUANTITIES
from perfgate.study import schema
from perfgate.study.schema import (
    ClaimTable,
    ModelTable,
    PairTable,
    PlatformTable,
    ServerTable,
    WorkloadTable,
)

_TOP = (
    "schema",
    "name",
    "engines",
    "fail_over",
    "models",
    "pairs",
    "servers",
    "workloads",
    "platforms",
    "claims",
)
# Keys of a workload that describe its prompts.
_LENGTHS = (
    "input_len_tokens",
    "output_len_tokens",
    "input_range_ratio",
    "output_range_ratio",
)
# Tables inside a platform's table.
_PLATFORM_PARTS: dict[str, type[msgspec.Struct]] = {
    "roles": schema.Roles,
    "slow_engines": schema.SlowRoles,
}
Table = TypeVar("Table", bound=msgspec.Struct)


class BadStudy(Failure):
    """An invalid study file or project file; the message names file, table and key."""


@dataclass(frozen=True)
class StudyFile:
    """The content of a study file.

    Attributes:
        path: of the file.
        name: shown to the user.
        engines: compared on every platform; others are judged relative to the first.
        models: by name, as the next three.
        workloads: set -> name -> workload.
        claims: published statements about the pairs.
        fail_over: ceilings, as fractions, by family of metrics; see
            `perfgate.load.ceilings`.
    """

    path: Path
    name: str
    engines: tuple[str, ...]
    models: Mapping[str, Model]
    pairs: Mapping[str, PairTable]
    servers: Mapping[str, ServerTable]
    workloads: Mapping[str, Mapping[str, Workload]]
    platforms: Mapping[str, PlatformTable]
    claims: tuple[ClaimTable, ...] = ()
    fail_over: Mapping[str, float] = field(default_factory=dict)

    def device_of(self, platform: str) -> str:
        """The device of its servers: "cpu" or "cuda"."""
        server = self.platforms[platform].server
        return self.servers[server].device

    def gpu_of(self, platform: str) -> str | None:
        """The GPU product that a platform asserts; None for any, and for the CPU."""
        return self.platforms[platform].gpu


@dataclass(frozen=True)
class _File:
    """The decoded file, with its path for messages."""

    path: Path
    data: Mapping[str, Any]

    def refuse(self, table: str, seen: str, remedy: str) -> NoReturn:
        """Raise `BadStudy`; an empty table name is the top of the file."""
        place = f"[{table}]" if table else "the file"
        raise BadStudy(
            tried=f"reading the study {self.path}",
            seen=f"{place}: {seen}",
            remedy=remedy,
        )

    def table(self, value: Any, name: str) -> dict[str, Any]:
        """The value, which must be a table."""
        if not isinstance(value, dict):
            self.refuse(
                name,
                f"is {value!r}, not a table",
                f"write [{name}] with keys below it",
            )
        return value

    def tables(self, name: str) -> dict[str, dict[str, Any]]:
        """The tables [name.KEY], by key."""
        tables = {}
        parent = self.table(self.data.get(name, {}), name)
        for key, value in parent.items():
            tables[key] = self.table(value, f"{name}.{key}")
        return tables

    def structs(self, name: str, kind: type[Table]) -> dict[str, Table]:
        """The tables [name.KEY], by key, each converted."""
        structs = {}
        for key, table in self.tables(name).items():
            structs[key] = self.convert(table, kind, f"{name}.{key}")
        return structs

    def convert(
        self, value: Mapping[str, Any], kind: type[Table], name: str
    ) -> Table:
        """The table as a struct; an unknown key or a wrong type is refused."""
        self.check_keys(value, kind.__struct_fields__, name)
        try:
            return msgspec.convert(value, kind)
        except (msgspec.ValidationError, ValueError) as error:
            seen = _validation_message(error)
        self.refuse(name, seen, "correct this key")

    def check_keys(
        self, keys: Iterable[str], known: Collection[str], table: str
    ) -> None:
        """Refuse an unknown key."""
        for key in keys:
            if key not in known:
                seen, remedy = unknown_key(key, known)
                self.refuse(table, seen, remedy)

    def check_name(
        self, name: str, declared: Collection[str], table: str, key: str
    ) -> None:
        """Refuse a name that is not declared; `table` and `key` are where it is used."""
        if name in declared:
            return
        names = ", ".join(declared) or "none is declared"
        suggestion = formatting.suggestion(name, declared)
        self.refuse(
            table,
            f"{key} names {name!r}, which is not declared",
            f"{suggestion}use one of: {names}",
        )


def _validation_message(error: Exception) -> str:
    """The message of msgspec, with the key in front."""
    message, _, place = str(error).partition(" - at `$.")
    if not place:
        return message
    key = place.rstrip("`")
    return f"{key}: {message}"


def unknown_key(key: str, known: Collection[str]) -> tuple[str, str]:
    """The problem, and the remedy, of a key that does not exist."""
    suggestion = formatting.suggestion(key, known)
    names = ", ".join(known)
    return f"unknown key {key!r}", f"{suggestion}the keys are: {names}"


def load_toml(path: Path, kind: str) -> dict[str, Any]:
    """The content of a TOML file.

    Args:
        path: of the file.
        kind: of the file, for messages: "the study".

    Raises:
        BadStudy: the file cannot be read, or is not TOML; line and column are named.
    """
    tried = f"reading {kind} {path}"
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise BadStudy(
            tried=tried,
            seen=describe_error(error),
            remedy="correct the path, or make the file readable",
        ) from None
    except tomllib.TOMLDecodeError as error:
        raise BadStudy(
            tried=tried,
            seen=f"it is not TOML: {error}",
            remedy=_toml_remedy(error),
        ) from None


def _toml_remedy(error: tomllib.TOMLDecodeError) -> str:
    if "twice" in str(error):
        return (
            "two tables have the same name: rename one of them, or merge them"
        )
    return "correct that line"


@functools.cache
def read_study(path: Path) -> StudyFile:
    """Read and check a study file.

    Raises:
        BadStudy: the file is missing or not TOML, a key is unknown or of the wrong
            type, or a name is not declared; file, table and key are named.
    """
    data = load_toml(path, "the study")
    file = _File(path, data)
    file.check_keys(data, _TOP, "")
    version = data.get("schema", schema.SCHEMA)
    if version != schema.SCHEMA:
        file.refuse(
            "",
            f"schema is {version!r}",
            f"write schema = {schema.SCHEMA}, the one of this version",
        )
    study = StudyFile(
        path=path,
        name=str(data.get("name", path.stem)),
        engines=_engines(file),
        models=_models(file),
        pairs=file.structs("pairs", PairTable),
        servers=file.structs("servers", ServerTable),
        workloads=_workloads(file),
        platforms=_platforms(file),
        claims=_claims(file),
        fail_over=_fail_over(file),
    )
    _check_names(file, study)
    return study


def _engines(file: _File) -> tuple[str, ...]:
    engines = file.data.get("engines", ())
    try:
        return msgspec.convert(engines, tuple[str, ...])
    except msgspec.ValidationError:
        file.refuse(
            "", f"engines is {engines!r}", 'write a list: engines = ["vllm"]'
        )


def _fail_over(file: _File) -> dict[str, float]:
    """The ceilings, by family of metrics."""
    value = file.data.get("fail_over", ())
    try:
        texts = msgspec.convert(value, tuple[str, ...])
    except msgspec.ValidationError:
        file.refuse(
            "",
            f"fail_over is {value!r}",
            'write a list of texts: fail_over = ["5 %", "ttft = 10 %"]',
        )
    try:
        return parse_ceilings(texts)
    except BadCeiling as failure:
        seen = f"fail_over: {failure.tried}: {failure.seen}"
        file.refuse("", seen, failure.remedy)


def _models(file: _File) -> dict[str, Model]:
    models = {}
    for name, row in file.structs("models", ModelTable).items():
        folder = _model_folder(file, name, row)
        config, origin = _config(file, name, row, folder)
        try:
            architecture = parse_config(config, origin)
        except UnknownArchitecture as failure:
            _refuse_config(file, name, failure)
        models[name] = Model(
            name=name,
            architecture=architecture,
            config=config,
            hub_id=row.hub_id,
            folder=None if folder is None else str(folder),
            served=row.served,
        )
    return models


def _model_folder(file: _File, name: str, row: ModelTable) -> Path | None:
    if row.folder is None:
        return None
    folder = _resolve(file, row.folder)
    if not folder.is_dir():
        file.refuse(
            f"models.{name}",
            f"folder: there is no {folder}",
            "correct the path",
        )
    return folder


def _resolve(file: _File, path: str) -> Path:
    """A path in the study file; a relative one starts at the file's folder."""
    return (file.path.parent / Path(path).expanduser()).resolve()


def _config(
    file: _File, name: str, row: ModelTable, folder: Path | None
) -> tuple[dict[str, Any], str]:
    """The config.json, and where it stands: the table, a file, or the model's folder."""
    table = f"models.{name}"
    if isinstance(row.config, dict):
        return row.config, f"{file.path} [{table}.config]"
    path = folder
    if row.config is not None:
        path = _resolve(file, row.config)
    if path is None:
        file.refuse(
            table,
            "neither config nor folder is given",
            f"add [{table}.config] with the fields of its config.json, or folder = PATH",
        )
    try:
        return load_config(path), str(path)
    except UnknownArchitecture as failure:
        _refuse_config(file, name, failure)


def _refuse_config(
    file: _File, name: str, failure: UnknownArchitecture
) -> NoReturn:
    seen = f"config: {failure.tried}: {failure.seen}"
    file.refuse(f"models.{name}", seen, failure.remedy)


def _workloads(file: _File) -> dict[str, dict[str, Workload]]:
    workloads: dict[str, dict[str, Workload]] = {}
    for set_name, members in file.tables("workloads").items():
        workloads[set_name] = {}
        for name, value in members.items():
            place = f"workloads.{set_name}.{name}"
            workloads[set_name][name] = _workload(file, place, name, value)
    return workloads


def _workload(file: _File, place: str, name: str, value: Any) -> Workload:
    if not name.replace("-", "").isalnum():
        file.refuse(
            place, "the name is no valid file name", "use letters, digits and -"
        )
    table = file.table(value, place)
    row = file.convert(table, WorkloadTable, place)
    fields = msgspec.structs.asdict(row)
    lengths = {key: fields.pop(key) for key in _LENGTHS}
    try:
        return Workload(name=name, prompts=Synthetic(**lengths), **fields)
    except ValueError as error:
        file.refuse(place, str(error), "correct these numbers")


def _platforms(file: _File) -> dict[str, PlatformTable]:
    tables = file.tables("platforms")
    platforms = {}
    for name in tables:
        place = f"platforms.{name}"
        if not name.isidentifier():
            file.refuse(
                place,
                "the name is no valid marker",
                "use letters, digits and _",
            )
        merged = _inherited(file, tables, name)
        # Converted here, so that an error names the inner table.
        for part, kind in _PLATFORM_PARTS.items():
            table = merged.get(part)
            if isinstance(table, dict):
                merged[part] = file.convert(table, kind, f"{place}.{part}")
        platforms[name] = file.convert(merged, PlatformTable, place)
    return platforms


def _inherited(
    file: _File, tables: Mapping[str, dict[str, Any]], name: str
) -> dict[str, Any]:
    """A platform's keys, and those that it inherits through ``like``."""
    merged: dict[str, Any] = {}
    for ancestor in reversed(_ancestors(file, tables, name)):
        merged |= tables[ancestor]
    merged.pop("like", None)
    return merged


def _ancestors(
    file: _File, tables: Mapping[str, dict[str, Any]], name: str
) -> list[str]:
    """The platform, the one that its ``like`` names, and so on."""
    chain = [name]
    while True:
        child = chain[-1]
        parent = tables[child].get("like")
        if parent is None:
            return chain
        file.check_name(parent, tables, f"platforms.{child}", "like")
        if parent in chain:
            circle = " -> ".join([*chain, parent])
            file.refuse(
                f"platforms.{name}",
                f"like: {circle}",
                "remove one `like` of this circle",
            )
        chain.append(parent)


def _claims(file: _File) -> tuple[ClaimTable, ...]:
    rows = file.data.get("claims", [])
    if not isinstance(rows, list):
        file.refuse("claims", "is not a list of tables", "write [[claims]]")
    claims = []
    for row in rows:
        table = file.table(row, "claims")
        claims.append(file.convert(table, ClaimTable, "claims"))
    return tuple(claims)


def _check_names(file: _File, study: StudyFile) -> None:
    """Every name in the file refers to something that the file declares."""
    for name, pair in study.pairs.items():
        place = f"pairs.{name}"
        file.check_name(pair.sparse, study.models, place, "sparse")
        file.check_name(pair.dense, study.models, place, "dense")
    for claim in study.claims:
        file.check_name(claim.pair, study.pairs, "claims", "pair")
        _check_placeholders(file, claim.arithmetic)
    for name, platform in study.platforms.items():
        _check_platform(file, study, platform, f"platforms.{name}")


def _check_platform(
    file: _File, study: StudyFile, platform: PlatformTable, place: str
) -> None:
    file.check_name(platform.server, study.servers, place, "server")
    file.check_name(platform.pair, study.pairs, place, "pair")
    file.check_name(platform.workloads, study.workloads, place, "workloads")
    members = study.workloads[platform.workloads]
    _check_roles(file, platform.roles, members, f"{place}.roles")
    _check_roles(file, platform.slow_engines, members, f"{place}.slow_engines")
    server = study.servers[platform.server]
    if platform.gpu is not None and server.device == "cpu":
        file.refuse(place, "gpu is set for a server on the CPU", "remove gpu")


def _check_placeholders(file: _File, text: str) -> None:
    """Every {name} of a claim is one of `QUANTITIES`."""
    names = []
    try:
        for _, name, _, _ in string.Formatter().parse(text):
            if name is not None:
                names.append(name)
    except ValueError as error:
        file.refuse(
            "claims",
            f"arithmetic: {error}",
            "write {name:.1f}, and {{ for a brace",
        )
    file.check_keys(names, QUANTITIES, "claims")


def _check_roles(
    file: _File,
    roles: msgspec.Struct,
    members: Mapping[str, Workload],
    place: str,
) -> None:
    """Every role names a workload of the platform's set."""
    for key, value in msgspec.structs.asdict(roles).items():
        names = value
        if isinstance(value, str):
            names = (value,)
        if isinstance(names, tuple):
            for name in names:
                file.check_name(name, members, place, key)
