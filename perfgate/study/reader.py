"""Reader of study files: parse TOML, check it, return a `StudyFile`.

An error names the file, the table, the key and the valid values.
"""

from __future__ import annotations

import functools
import string
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from perfgate.load.ceilings import BadCeiling, parse_ceilings
from perfgate.load.workload import Workload
from perfgate.models.catalogue import Model
from perfgate.models.estimate import QUANTITIES
from perfgate.study import schema
from perfgate.study.layers import load_study
from perfgate.study.model_tables import check_quantization, read_models
from perfgate.study.schema import (
    ClaimTable,
    DatasetTable,
    DeepTable,
    JudgedTable,
    ModelTable,
    PairTable,
    PlatformTable,
    ServerTable,
)
from perfgate.study.toml_file import StudyToml
from perfgate.study.workload_tables import DatasetUse, read_sets

_TOP = (
    "like",
    "schema",
    "name",
    "engines",
    "fail_over",
    "models",
    "pairs",
    "servers",
    "datasets",
    "workloads",
    "platforms",
    "judged",
    "claims",
)
# Tables inside a platform's table.
_PLATFORM_PARTS: dict[str, type[msgspec.Struct]] = {
    "roles": schema.Roles,
    "slow_engines": schema.SlowRoles,
    "held": schema.HeldTable,
}
# Key of a platform -> keys that it does not inherit then.
_REPLACED = {
    "pair": ("pairs", "models"),
    "pairs": ("pair", "models"),
    "models": ("pair", "pairs"),
}
# What `-m NAME` would mean something else by, and marks that do something.
_WORDS_OF_M = ("and", "or", "not", "None", "True", "False")
_MARKS_OF_PYTEST = (
    "filterwarnings",
    "parametrize",
    "skip",
    "skipif",
    "usefixtures",
    "xfail",
)
_TAKEN = frozenset((*_WORDS_OF_M, *_MARKS_OF_PYTEST, "perf"))
# Key of a pair -> the key of `PairTable`.
_SIDES = {
    "model": "model",
    "reference": "reference",
    "sparse": "model",
    "dense": "reference",
}


@dataclass(frozen=True)
class StudyFile:
    """The content of a study file.

    Attributes:
        path: of the file.
        name: shown to the user.
        engines: compared on every platform; others are judged relative to the first.
        models: by name, as the next four.
        model_tables: what each model changes in the server table of a platform.
        workloads: set -> name -> workload.
        judged_workloads: set -> name -> metrics, of the workloads that name some.
        datasets: by name.
        dataset_uses: set -> name -> its data set, of the workloads that have one.
        claims: published statements about the pairs.
        judged: which metrics can fail a run, on every platform.
        fail_over: ceilings, as fractions, by family of metrics; see
            `perfgate.load.ceilings`.
    """

    path: Path
    name: str
    engines: tuple[str, ...]
    models: Mapping[str, Model]
    model_tables: Mapping[str, ModelTable]
    pairs: Mapping[str, PairTable]
    servers: Mapping[str, ServerTable]
    workloads: Mapping[str, Mapping[str, Workload]]
    platforms: Mapping[str, PlatformTable]
    judged_workloads: Mapping[str, Mapping[str, tuple[str, ...]]] = field(
        default_factory=dict
    )
    datasets: Mapping[str, DatasetTable] = field(default_factory=dict)
    dataset_uses: Mapping[str, Mapping[str, DatasetUse]] = field(
        default_factory=dict
    )
    claims: tuple[ClaimTable, ...] = ()
    judged: JudgedTable = field(default_factory=JudgedTable)
    fail_over: Mapping[str, float] = field(default_factory=dict)

    def device_of(self, platform: str) -> str:
        """The device of its servers: "cpu" or "cuda"."""
        server = self.platforms[platform].server
        return self.servers[server].device

    def gpu_of(self, platform: str) -> str | None:
        """The GPU product that a platform asserts; None for any, and for the CPU."""
        return self.platforms[platform].gpu


@functools.cache
def read_study(path: Path) -> StudyFile:
    """Read and check a study file.

    Raises:
        BadStudy: the file is missing or not TOML, a key is unknown or of the wrong
            type, or a name is not declared; file, table and key are named.
    """
    file = load_study(path)
    data = file.data
    file.check_keys(data, _TOP, "")
    models, model_tables = read_models(file)
    version = data.get("schema", schema.SCHEMA)
    if version != schema.SCHEMA:
        file.refuse(
            "",
            f"schema is {version!r}",
            f"write schema = {schema.SCHEMA}, the one of this version",
        )
    datasets = file.structs("datasets", DatasetTable)
    sets = read_sets(file, datasets)
    study = StudyFile(
        path=path,
        name=str(data.get("name", path.stem)),
        engines=_engines(file),
        models=models,
        model_tables=model_tables,
        pairs=_pairs(file),
        servers=file.structs("servers", ServerTable),
        workloads={name: row.workloads for name, row in sets.items()},
        judged_workloads={name: row.judged for name, row in sets.items()},
        datasets=datasets,
        dataset_uses={name: row.uses for name, row in sets.items()},
        platforms=_platforms(file),
        claims=_claims(file),
        judged=_judged(file),
        fail_over=_fail_over(file),
    )
    _check_names(file, study)
    return study


def _engines(file: StudyToml) -> tuple[str, ...]:
    engines = file.data.get("engines", ())
    try:
        return msgspec.convert(engines, tuple[str, ...])
    except msgspec.ValidationError:
        file.refuse(
            "", f"engines is {engines!r}", 'write a list: engines = ["vllm"]'
        )


def _fail_over(file: StudyToml) -> dict[str, float]:
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


def _pairs(file: StudyToml) -> dict[str, PairTable]:
    pairs = {}
    for name, table in file.tables("pairs").items():
        place = f"pairs.{name}"
        file.check_keys(table, _SIDES, place)
        sides: dict[str, Any] = {}
        for key, value in table.items():
            side = _SIDES[key]
            if side in sides:
                words = [word for word in table if _SIDES[word] == side]
                file.refuse(
                    place,
                    f"{' and '.join(words)} say the same",
                    "write model and reference, or sparse and dense",
                )
            sides[side] = value
        pairs[name] = file.convert(sides, PairTable, place)
        if pairs[name].model == pairs[name].reference:
            file.refuse(
                place,
                f"{pairs[name].model} is compared with itself",
                'declare it once more in another precision: like = "'
                f'{pairs[name].model}" and quantization = "fp8"',
            )
    return pairs


def _judged(file: StudyToml) -> JudgedTable:
    table = file.table(file.data.get("judged", {}), "judged")
    return file.convert(table, JudgedTable, "judged")


def _platforms(file: StudyToml) -> dict[str, PlatformTable]:
    tables = file.tables("platforms")
    platforms = {}
    for name in tables:
        place = f"platforms.{name}"
        if not name.isidentifier() or name.startswith("_"):
            file.refuse(
                place,
                "the name is no valid marker",
                "use letters, digits and _, a letter first",
            )
        if name in _TAKEN:
            file.refuse(
                place,
                "pytest or perfgate has a marker or a word of this name",
                "choose another one",
            )
        merged = file.inherited("platforms", name, _REPLACED)
        _merge_pair(file, merged, place)
        # Converted here, so that an error names the inner table.
        for part, kind in _PLATFORM_PARTS.items():
            table = merged.get(part)
            if isinstance(table, dict):
                merged[part] = file.convert(table, kind, f"{place}.{part}")
        merged["deep"] = _deep(file, merged.get("deep", {}), place)
        platforms[name] = file.convert(merged, PlatformTable, place)
    return platforms


def _deep(file: StudyToml, tables: Any, place: str) -> dict[str, DeepTable]:
    """Converted here, so that an error names the inner table."""
    deep = {}
    for name, value in file.table(tables, f"{place}.deep").items():
        inner = f"{place}.deep.{name}"
        deep[name] = file.convert(file.table(value, inner), DeepTable, inner)
    return deep


def _merge_pair(file: StudyToml, table: dict[str, Any], place: str) -> None:
    """Turn `pair` into `pairs`; one of the ways to name models must be there."""
    if {"pair", "pairs"} <= table.keys():
        file.refuse(place, "pair and pairs are given", "write pairs alone")
    if not any(table.get(key) for key in _REPLACED):
        file.refuse(
            place,
            "neither pair, pairs nor models is given",
            'write pairs = ["NAME"] with a table [pairs.NAME]',
        )
    if "pair" in table:
        pair = table.pop("pair")
        if not isinstance(pair, str):
            file.refuse(
                place,
                f"pair is {pair!r}",
                "write the name of a pair in quotes, or pairs with a list of them",
            )
        file.check_name(pair, file.tables("pairs"), place, "pair")
        table["pairs"] = [pair]


def _claims(file: StudyToml) -> tuple[ClaimTable, ...]:
    rows = file.data.get("claims", [])
    if not isinstance(rows, list):
        file.refuse("claims", "is not a list of tables", "write [[claims]]")
    claims = []
    for row in rows:
        table = file.table(row, "claims")
        claims.append(file.convert(table, ClaimTable, "claims"))
    return tuple(claims)


def _check_names(file: StudyToml, study: StudyFile) -> None:
    """Every name in the file refers to something that the file declares."""
    for name, pair in study.pairs.items():
        place = f"pairs.{name}"
        for key, side in _SIDES.items():
            if key in file.data["pairs"][name]:
                model = getattr(pair, side)
                file.check_name(model, study.models, place, key)
    for claim in study.claims:
        file.check_name(claim.pair, study.pairs, "claims", "pair")
        _check_placeholders(file, claim.arithmetic)
    for name, platform in study.platforms.items():
        _check_platform(file, study, platform, f"platforms.{name}")


def _check_platform(
    file: StudyToml, study: StudyFile, platform: PlatformTable, place: str
) -> None:
    file.check_name(platform.server, study.servers, place, "server")
    for pair in platform.pairs:
        file.check_name(pair, study.pairs, place, "pairs")
    for model in platform.models:
        file.check_name(model, study.models, place, "models")
    file.check_name(platform.workloads, study.workloads, place, "workloads")
    members = study.workloads[platform.workloads]
    _check_roles(file, platform.roles, members, f"{place}.roles")
    for name, deep in platform.deep.items():
        for workload in deep.workloads:
            file.check_name(
                workload, members, f"{place}.deep.{name}", "workloads"
            )
    _check_roles(file, platform.slow_engines, members, f"{place}.slow_engines")
    if platform.held is not None:
        _check_held(file, study, platform.held, f"{place}.held")
    server = study.servers[platform.server]
    if server.quantization:
        check_quantization(
            file, f"servers.{platform.server}", server.quantization
        )
    if platform.gpu is not None and server.device == "cpu":
        file.refuse(place, "gpu is set for a server on the CPU", "remove gpu")


def _check_held(
    file: StudyToml, study: StudyFile, held: schema.HeldTable, place: str
) -> None:
    if held.pair:
        file.check_name(held.pair, study.pairs, place, "pair")
    file.check_name(held.workloads, study.workloads, place, "workloads")


def _check_placeholders(file: StudyToml, text: str) -> None:
    """Every {name} of a claim is one of `QUANTITIES`, in a format of numbers."""
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
    try:
        text.format(**dict.fromkeys(QUANTITIES, 1.0))
    except (ValueError, LookupError) as error:
        file.refuse(
            "claims",
            f"arithmetic: {text!r}: {error}",
            "write a number's format behind the colon: {name:.1f}",
        )


def _check_roles(
    file: StudyToml,
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
