"""Weights: find a model's folder on this machine, or make a small model.

Models of the hub are searched in the user's folder, then in the Hugging Face cache. A
download needs consent. Other models are made: see `perfgate.models.made`.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from perfgate import locations
from perfgate.errors import Failure
from perfgate.models.catalogue import Architecture, Model, read_config
from perfgate.models.made import make, make_shell


class MissingWeights(Failure):
    """The weights are not on this machine."""


class WrongWeights(Failure):
    """The folder holds another model."""


@dataclass(frozen=True)
class Weights:
    """The model argument of an engine.

    Attributes:
        path: a folder, or the hub's id where the user agreed to a download.
        offline: whether the engine must not contact the hub.

    """

    path: str
    offline: bool


def models_dir() -> Path:
    """Folder of the models that the suite makes: $PERFGATE_MODELS_DIR, else .models."""
    return locations.current().models


def variable(model_name: str) -> str:
    """The environment variable of a model's folder: PERFGATE_MODEL_MIXTRAL_8X7B."""
    suffix = re.sub("[-.]", "_", model_name)
    return f"PERFGATE_MODEL_{suffix.upper()}"


def locate(
    model: Model,
    load_format: str,
    chosen: Mapping[str, str],
    allow_download: bool,
    progress: Callable[[str], None],
    python: Path | None = None,
) -> Weights:
    """The model's folder on this machine; small models are made if needed.

    Args:
        model: the catalogue's entry.
        load_format: "dummy" needs a config.json and a tokenizer only.
        chosen: model name -> folder, as the user named them.
        allow_download: whether the engine may download what is missing.
        progress: called before weights are made.
        python: of the model's engine, which lists the tensors of a model that is made.

    Raises:
        CannotMake, UnknownTensors: it must be made, and cannot be.
        MissingWeights: the weights are not here, and a download was not agreed to.
        WrongWeights: the folder or the hub's cache holds another architecture.

    """
    folder = _named_folder(model, chosen)
    if folder is not None:
        return _offline(_check_folder(model, folder))
    if model.hub_id is None:
        folder = models_dir() / model.name
        return _offline(make(model, folder, progress, python))
    if load_format == "dummy":
        folder = models_dir() / f"{model.name}-dummy"
        return _offline(make_shell(model, folder))
    snapshot = _hub_snapshot(model.hub_id)
    if snapshot is not None:
        return _offline(_check_folder(model, snapshot))
    if allow_download:
        return Weights(path=model.hub_id, offline=False)
    raise _missing(model)


def _named_folder(model: Model, chosen: Mapping[str, str]) -> Path | None:
    """The folder by option, environment variable, or catalogue, in this order."""
    option = chosen.get(model.name)
    setting = os.environ.get(variable(model.name))
    path = option or setting or model.folder
    if not path:
        return None
    return locations.expanded(path)


def _offline(folder: Path) -> Weights:
    return Weights(path=str(folder), offline=True)


def _missing(model: Model) -> MissingWeights:
    cache = hub_cache()
    size_gb = model.architecture.parameters * 2 / 1e9
    free_gb = _free_bytes(cache) / 1e9
    return MissingWeights(
        tried=f"finding the weights of {model.name} ({model.hub_id})",
        seen=(
            f"not in {cache}; they are {size_gb:.1f} GB, and {free_gb:.0f} GB are "
            "free there"
        ),
        remedy=(
            f"name a folder with --model-dir {model.name}=DIR or "
            f"{variable(model.name)}, agree to the download with --allow-download, or "
            "measure without weights: --weights dummy"
        ),
    )


def _free_bytes(folder: Path) -> int:
    """Free space where the folder is or would be made."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _check_folder(model: Model, folder: Path) -> Path:
    """The folder, if it holds this model."""
    if not folder.is_dir():
        raise MissingWeights(
            tried=f"finding the weights of {model.name} in {folder}",
            seen="there is no such folder",
            remedy=f"correct --model-dir {model.name}=DIR or {variable(model.name)}",
        )
    differences = _differences(read_config(folder), model.architecture)
    if differences:
        raise WrongWeights(
            tried=f"using {folder} as {model.name}",
            seen="; ".join(differences),
            remedy=(
                "name the folder of this very model; baselines of one model must "
                "never be compared with another's"
            ),
        )
    return folder


def _differences(actual: Architecture, expected: Architecture) -> list[str]:
    """Fields that differ; a shorter context length does not make another model."""
    differences = []
    for name in Architecture.__struct_fields__:
        actual_value = getattr(actual, name)
        expected_value = getattr(expected, name)
        if name == "max_position_embeddings" or actual_value == expected_value:
            continue
        if name == "stack":
            differences.append("its layers, or the formats of their weights")
        else:
            differences.append(
                f"{name} is {actual_value}, not {expected_value}"
            )
    return differences


def hub_cache() -> Path:
    """The Hugging Face cache, by the environment variables of huggingface_hub."""
    cache = os.environ.get("HF_HUB_CACHE")
    if cache is not None:
        return Path(cache)
    home = os.environ.get("HF_HOME")
    if home is not None:
        return Path(home) / "hub"
    return locations.home() / ".cache" / "huggingface" / "hub"


def cached_config(hub_id: str) -> Path | None:
    """The newest config.json of a model in the hub's cache, with or without weights."""
    newest: Path | None = None
    newest_s = 0.0
    for config in _snapshots(hub_id).glob("*/config.json"):
        modified_s = config.parent.stat().st_mtime
        if newest is None or modified_s > newest_s:
            newest = config
            newest_s = modified_s
    return newest


def _snapshots(hub_id: str) -> Path:
    """Folder of a model's snapshots in the hub's cache."""
    folder = f"models--{hub_id.replace('/', '--')}"
    return hub_cache() / folder / "snapshots"


def _hub_snapshot(hub_id: str) -> Path | None:
    """The newest snapshot in the cache that has a config.json and weights."""
    newest: Path | None = None
    newest_s = 0.0
    for config in _snapshots(hub_id).glob("*/config.json"):
        snapshot = config.parent
        modified_s = snapshot.stat().st_mtime
        is_complete = any(snapshot.glob("*.safetensors"))
        if is_complete and (newest is None or modified_s > newest_s):
            newest = snapshot
            newest_s = modified_s
    return newest
