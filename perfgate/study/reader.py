"""Reader of study files: TOML in, a checked `StudyFile` out.

An error names the file, the table, the key and what there is instead.
"""

from __future__ import annotations

import functools
import string
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import msgspec

from perfgate import formatting
from perfgate.errors import Failure
from perfgate.load.prompts import Synthetic
from perfgate.load.workload import Workload
from perfgate.models.catalogue import (
    Architecture,
    Model,
    UnknownArchitecture,
    parse_config,
    read_config,
)
from perfgate.models.estimate import QUANTITIES
from perfgate.study import schema
from perfgate.study.schema import ClaimTable, PairTable, PlatformTable, ServerTable

_TOP = (
    "schema",
    "name",
    "engines",
    "models",
    "pairs",
    "servers",
    "workloads",
    "platforms",
    "claims",
)
Table = TypeVar("Table", bound=msgspec.Struct)


class BadStudy(Failure):
    """A study file, or a project file, that cannot be used; names file, table and key."""


@dataclass(frozen=True)
class StudyFile:
    """A study as it was read.

    Attributes:
        path: of the file.
        name: for people.
        engines: compared on every platform; others are judged relative to the first.
        workloads: set -> name -> workload.
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

    def device_of(self, platform: str) -> str:
        """The device of its servers: "cpu" or "cuda"."""
        return self.servers[self.platforms[platform].server].device

    def gpu_of(self, platform: str) -> str | None:
        """The GPU product that a platform asserts; None for any, and for the CPU."""
        return self.platforms[platform].gpu


@dataclass(frozen=True)
class _File:
    """The file that is read, for messages."""

    path: Path

    def refuse(self, table: str, seen: str, remedy: str) -> NoReturn:
        place = f"[{table}]" if table else "the file"
        raise BadStudy(
            tried=f"reading the study {self.path}",
            seen=f"{place}: {seen}",
            remedy=remedy,
        )

    def table(self, value: Any, name: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            self.refuse(
                name, f"is {value!r}, not a table", f"write [{name}] with keys below it"
            )
        return value

    def tables(self, data: Mapping[str, Any], name: str) -> dict[str, dict[str, Any]]:
        found = {}
        for key, value in self.table(data.get(name, {}), name).items():
            found[key] = self.table(value, f"{name}.{key}")
        return found

    def convert(self, value: Mapping[str, Any], kind: type[Table], name: str) -> Table:
        known = kind.__struct_fields__
        for key in value:
            if key not in known:
                self.refuse(name, *unknown_key(key, known))
        try:
            return msgspec.convert(value, kind)
        except (msgspec.ValidationError, ValueError) as error:
            message, _, where = str(error).partition(" - at `$.")
            key = where.rstrip("`")
            self.refuse(
                name, f"{key}: {message}" if key else message, "correct this key"
            )

    def choose(self, name: str, there: Collection[str], table: str, key: str) -> None:
        """A name must be one of those that are there."""
        if name in there:
            return
        names = ", ".join(there) or "none is declared"
        remedy = f"{formatting.suggestion(name, there)}use one of: {names}"
        self.refuse(table, f"{key} names {name!r}, which is not declared", remedy)


def unknown_key(key: str, known: Collection[str]) -> tuple[str, str]:
    """What is wrong with a key that does not exist, and what to do about it."""
    remedy = f"{formatting.suggestion(key, known)}the keys are: {', '.join(known)}"
    return f"unknown key {key!r}", remedy


def load_toml(path: Path, what: str) -> dict[str, Any]:
    """The content of a TOML file.

    Raises:
        BadStudy: it is not there, is a folder, or is not TOML; line and column are
            named.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise BadStudy(
            tried=f"reading {what} {path}",
            seen=f"{type(error).__name__}: {getattr(error, 'strerror', None) or error}",
            remedy="correct the path, or make the file readable",
        ) from None
    except tomllib.TOMLDecodeError as error:
        raise BadStudy(
            tried=f"reading {what} {path}",
            seen=f"it is not TOML: {error}",
            remedy=_toml_remedy(error),
        ) from None


def _toml_remedy(error: tomllib.TOMLDecodeError) -> str:
    if "twice" in str(error):
        return "two tables have one name: rename one of them, or join them"
    return "correct that line"


@functools.cache
def read_study(path: Path) -> StudyFile:
    """Read and check a study file.

    Raises:
        BadStudy: the file is missing or not TOML, a key is unknown or of the wrong
            type, or a name refers to nothing; file, table and key are named.
    """
    file, data = _File(path), load_toml(path, "the study")
    for key in data:
        if key not in _TOP:
            file.refuse("", *unknown_key(key, _TOP))
    if data.get("schema", schema.SCHEMA) != schema.SCHEMA:
        file.refuse(
            "", f"schema is {data['schema']!r}", f"this version reads {schema.SCHEMA}"
        )
    study = StudyFile(
        path=path,
        name=str(data.get("name", path.stem)),
        engines=_engines(file, data),
        models=_models(file, data),
        pairs={
            name: file.convert(table, PairTable, f"pairs.{name}")
            for name, table in file.tables(data, "pairs").items()
        },
        servers={
            name: file.convert(table, ServerTable, f"servers.{name}")
            for name, table in file.tables(data, "servers").items()
        },
        workloads=_workloads(file, data),
        platforms=_platforms(file, data),
        claims=_claims(file, data),
    )
    _check_names(file, study)
    return study


def _engines(file: _File, data: Mapping[str, Any]) -> tuple[str, ...]:
    found = data.get("engines", ())
    if not isinstance(found, list | tuple) or not all(
        isinstance(name, str) for name in found
    ):
        file.refuse("", f"engines is {found!r}", 'write a list: engines = ["vllm"]')
    return tuple(found)


def _models(file: _File, data: Mapping[str, Any]) -> dict[str, Model]:
    found = {}
    for name, table in file.tables(data, "models").items():
        row = file.convert(table, schema.ModelTable, f"models.{name}")
        folder = None
        if row.folder is not None:
            folder = (file.path.parent / Path(row.folder).expanduser()).resolve()
            if not folder.is_dir():
                file.refuse(
                    f"models.{name}",
                    f"folder: there is no {folder}",
                    "correct the path",
                )
        found[name] = Model(
            name=name,
            architecture=_architecture(file, name, row, folder),
            hub_id=row.hub_id,
            folder=None if folder is None else str(folder),
            served=row.served,
        )
    return found


def _architecture(
    file: _File, name: str, row: schema.ModelTable, folder: Path | None
) -> Architecture:
    """The shape, from the table, a file that it names, or the model's folder."""
    table = f"models.{name}"
    config = row.config
    if config is None and folder is None:
        remedy = "add [models.NAME.config] with the fields of its config.json, or folder = PATH"
        file.refuse(
            table, "neither config nor folder is given", remedy.replace("NAME", name)
        )
    try:
        if isinstance(config, dict):
            return parse_config(config, f"{file.path} [{table}.config]")
        if isinstance(config, str):
            return read_config((file.path.parent / Path(config).expanduser()).resolve())
        assert folder is not None
        return read_config(folder)
    except UnknownArchitecture as failure:
        file.refuse(table, f"config: {failure.tried}: {failure.seen}", failure.remedy)


def _workloads(file: _File, data: Mapping[str, Any]) -> dict[str, dict[str, Workload]]:
    found: dict[str, dict[str, Workload]] = {}
    for set_name, members in file.tables(data, "workloads").items():
        found[set_name] = {}
        for name, table in members.items():
            place = f"workloads.{set_name}.{name}"
            if not name.replace("-", "").isalnum():
                file.refuse(
                    place, "the name becomes a file's name", "use letters, digits and -"
                )
            row = file.convert(file.table(table, place), schema.WorkloadTable, place)
            found[set_name][name] = _workload(file, place, name, row)
    return found


def _workload(
    file: _File, place: str, name: str, row: schema.WorkloadTable
) -> Workload:
    lengths = (
        "input_len_tokens",
        "output_len_tokens",
        "input_range_ratio",
        "output_range_ratio",
    )
    fields = msgspec.structs.asdict(row)
    prompts = {key: fields.pop(key) for key in lengths}
    try:
        return Workload(name=name, prompts=Synthetic(**prompts), **fields)
    except ValueError as error:
        file.refuse(place, str(error), "correct these numbers")


def _platforms(file: _File, data: Mapping[str, Any]) -> dict[str, PlatformTable]:
    tables = file.tables(data, "platforms")
    found = {}
    for name in tables:
        place = f"platforms.{name}"
        if not name.isidentifier():
            file.refuse(place, "the name becomes a marker", "use letters, digits and _")
        merged = _inherited(file, tables, name)
        for part, kind in (("roles", schema.Roles), ("slow_engines", schema.SlowRoles)):
            if isinstance(merged.get(part), dict):
                merged[part] = file.convert(merged[part], kind, f"{place}.{part}")
        found[name] = file.convert(merged, PlatformTable, place)
    return found


def _inherited(
    file: _File, tables: Mapping[str, dict[str, Any]], name: str
) -> dict[str, Any]:
    """A platform's keys on top of those of the one that ``like`` names."""
    chain: list[str] = []
    at = name
    while True:
        if at in chain:
            remedy = "break the circle: one of them must stand by itself"
            file.refuse(
                f"platforms.{name}", f"like: {' -> '.join([*chain, at])}", remedy
            )
        chain.append(at)
        above = tables[at].get("like")
        if above is None:
            break
        file.choose(above, tables, f"platforms.{at}", "like")
        at = above
    merged: dict[str, Any] = {}
    for at in reversed(chain):
        merged |= tables[at]
    merged.pop("like", None)
    return merged


def _claims(file: _File, data: Mapping[str, Any]) -> tuple[ClaimTable, ...]:
    rows = data.get("claims", [])
    if not isinstance(rows, list):
        file.refuse("claims", "is not a list of tables", "write [[claims]]")
    return tuple(
        file.convert(file.table(row, "claims"), ClaimTable, "claims") for row in rows
    )


def _check_names(file: _File, study: StudyFile) -> None:
    """Every name in the file refers to something that the file declares."""
    for name, pair in study.pairs.items():
        for key in ("sparse", "dense"):
            file.choose(getattr(pair, key), study.models, f"pairs.{name}", key)
    for claim in study.claims:
        file.choose(claim.pair, study.pairs, "claims", "pair")
        _check_placeholders(file, claim.arithmetic)
    for name, platform in study.platforms.items():
        place = f"platforms.{name}"
        file.choose(platform.server, study.servers, place, "server")
        file.choose(platform.pair, study.pairs, place, "pair")
        file.choose(platform.workloads, study.workloads, place, "workloads")
        members = study.workloads[platform.workloads]
        for part in ("roles", "slow_engines"):
            _check_roles(file, getattr(platform, part), members, f"{place}.{part}")
        if platform.gpu is not None and study.servers[platform.server].device == "cpu":
            file.refuse(place, "gpu is set for a server on the CPU", "remove gpu")


def _check_placeholders(file: _File, text: str) -> None:
    """Every {name} of a claim is a quantity that the arithmetic knows."""
    try:
        names = [
            name for _, name, _, _ in string.Formatter().parse(text) if name is not None
        ]
    except ValueError as error:
        file.refuse(
            "claims", f"arithmetic: {error}", "write {name:.1f}, and {{ for a brace"
        )
    for name in names:
        if name not in QUANTITIES:
            file.refuse("claims", *unknown_key(name, QUANTITIES))


def _check_roles(
    file: _File, roles: msgspec.Struct, members: Mapping[str, Workload], place: str
) -> None:
    for key, value in msgspec.structs.asdict(roles).items():
        names = (value,) if isinstance(value, str) else value
        if isinstance(names, tuple):
            for name in names:
                file.choose(name, members, place, key)
