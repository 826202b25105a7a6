"""Model tables: each model's shape, from config.json, and what it changes in its server.

The shape comes from the table, from a file that it names, from the model's folder, or
from the hub's cache.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from perfgate import formatting
from perfgate.models import hub_cache
from perfgate.models.catalogue import (
    Architecture,
    Model,
    UnknownArchitecture,
    load_config,
    parse_config,
    read_config,
)
from perfgate.models.shapes.formats import ONLINE
from perfgate.study.schema import ModelServer, ModelTable
from perfgate.study.toml_file import StudyToml

# Key of a model -> keys that it does not inherit then: other weights have their own
# config.json.
_REPLACED = {"folder": ("hub_id", "config"), "hub_id": ("folder", "config")}


def read_models(
    file: StudyToml,
) -> tuple[dict[str, Model], dict[str, ModelTable]]:
    """The models of a study file, and their tables, by name.

    Raises:
        BadStudy: a table is wrong, or the shape of a model is unknown.
    """
    models = {}
    tables = {}
    for name in file.tables("models"):
        place = f"models.{name}"
        if "/" in name or not name:
            file.refuse(
                place,
                "the name cannot be a part of a folder's name",
                "use letters, digits, -, _ and .; hub_id takes OWNER/NAME",
            )
        merged = file.inherited("models", name, _REPLACED)
        server = merged.get("server")
        if isinstance(server, dict):
            # Converted here, so that an error names the inner table.
            merged["server"] = file.convert(
                server, ModelServer, f"{place}.server"
            )
        row = file.convert(merged, ModelTable, place)
        folder = _model_folder(file, name, row)
        folder_name: str | None = None
        if folder is not None:
            folder_name = str(folder)
        config, architecture = _shape(file, name, row, folder)
        if row.quantization and architecture.quantization is None:
            check_quantization(file, place, row.quantization)
        models[name] = Model(
            name=name,
            architecture=architecture,
            config=config,
            hub_id=row.hub_id,
            folder=folder_name,
            served=row.served,
        )
        tables[name] = row
    return models, tables


def check_quantization(file: StudyToml, place: str, name: str) -> None:
    """Refuse a method whose sizes the arithmetic does not know."""
    if name in ONLINE:
        return
    suggestion = formatting.suggestion(name, ONLINE)
    file.refuse(
        place,
        f"quantization is {name!r}: the size of such weights is not known",
        f"{suggestion}use one of {', '.join(ONLINE)}, or a model whose config.json says "
        "how it is quantized",
    )


def _model_folder(file: StudyToml, name: str, row: ModelTable) -> Path | None:
    if row.folder is None:
        return None
    folder = file.place_of(row.folder)
    if not folder.is_dir():
        file.refuse(
            f"models.{name}",
            f"folder: there is no {folder}",
            "correct the path",
        )
    return folder


def _shape(
    file: StudyToml, name: str, row: ModelTable, folder: Path | None
) -> tuple[dict[str, Any], Architecture]:
    """The fields of the config.json, and the architecture that they describe."""
    try:
        if isinstance(row.config, dict):
            origin = f"{file.path} [models.{name}.config]"
            return row.config, parse_config(row.config, origin)
        path = _config_path(file, name, row, folder)
        return load_config(path), read_config(path)
    except UnknownArchitecture as failure:
        seen = f"config: {failure.tried}: {failure.seen}"
        file.refuse(f"models.{name}", seen, failure.remedy)


def _config_path(
    file: StudyToml, name: str, row: ModelTable, folder: Path | None
) -> Path:
    """The config.json, or its folder: the first place that has it."""
    table = f"models.{name}"
    path = folder
    if isinstance(row.config, str):
        path = file.place_of(row.config)
    elif path is None and row.hub_id is not None:
        path = _cached_config(file, table, row.hub_id)
    if path is None:
        file.refuse(
            table,
            "neither config, folder nor hub_id is given",
            f"add [{table}.config] with the fields of its config.json, or folder = PATH",
        )
    return path


def _cached_config(file: StudyToml, table: str, hub_id: str) -> Path:
    config = hub_cache.config_file(hub_id)
    if config is None:
        file.refuse(
            table,
            f"no config.json of {hub_id} in {hub_cache.cache_dir()}",
            f"fetch it: hf download {hub_id} config.json (the weights are not needed for "
            "it), or add config = PATH",
        )
    return config
