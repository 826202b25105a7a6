"""Weights: find a model's folder on this machine, or make a small model.

Models of the hub are searched in the user's folder, then in the Hugging Face cache. A
download needs consent. Whatever is found is checked: see `perfgate.models.checkpoint`.
Other models are made: see `perfgate.models.made`.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from perfgate import formatting, locations
from perfgate.models import hub_cache
from perfgate.models.catalogue import Architecture, Model, read_config
from perfgate.models.checkpoint import (
    MissingWeights,
    WrongWeights,
    check_against_config,
    check_against_list,
    check_tokenizer,
    read_checkpoint,
)
from perfgate.models.hub_cache import CachedModel
from perfgate.models.made import make, make_shell
from perfgate.models.tensors import UnknownTensors, list_tensors

TOKENIZER = "tokenizer.json"


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
        BrokenFile: a file is cut short, or contradicts itself.
        MissingWeights: the weights are not all here, and a download was not agreed to.
        WrongWeights: the folder or the hub's cache holds another model.

    """
    folder = _named_folder(model, chosen)
    if folder is not None:
        return _offline(_checked(model, folder, load_format, progress, python))
    if model.hub_id is None:
        folder = models_dir() / model.name
        return _offline(make(model, folder, progress, python))
    if load_format == "dummy":
        folder = models_dir() / f"{model.name}-dummy"
        return _offline(make_shell(model, folder))
    cached = hub_cache.find(model.hub_id)
    try:
        if cached.snapshot is None:
            raise _not_cached(model)
        checked = _checked(
            model, cached.snapshot, load_format, progress, python
        )
        return _offline(checked)
    except MissingWeights as failure:
        if allow_download:
            return Weights(path=model.hub_id, offline=False)
        raise _missing(model, cached, failure) from failure


def find_tokenizer(model: Model, chosen: Mapping[str, str]) -> Path | None:
    """The folder of a published model's tokenizer on this machine; None if there is none.

    Args:
        chosen: model name -> folder, as the user named them.
    """
    folder = _named_folder(model, chosen)
    if folder is None and model.hub_id is not None:
        folder = hub_cache.find(model.hub_id).snapshot
    if folder is None or not (folder / TOKENIZER).is_file():
        return None
    return folder


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


def _not_cached(model: Model) -> MissingWeights:
    cache = hub_cache.cache_dir()
    size_gb = model.architecture.weights_bytes("bfloat16") / 1e9
    free_gb = _free_bytes(cache) / 1e9
    return MissingWeights(
        tried=f"finding the weights of {model.name} ({model.hub_id})",
        seen=(
            f"not in {cache}; they are {size_gb:.1f} GB, and {free_gb:.0f} GB are "
            "free there"
        ),
        remedy="",
    )


def _missing(
    model: Model, cached: CachedModel, failure: MissingWeights
) -> MissingWeights:
    """The failure, with what else the cache holds and what can be done."""
    notes = [failure.seen]
    if cached.unfinished:
        size_gb = sum(size for _, size in cached.unfinished) / 1e9
        downloads = formatting.count(len(cached.unfinished), "download")
        first, _ = cached.unfinished[0]
        notes.append(
            f"{downloads} stopped before the end ({size_gb:.1f} GB, {first})"
        )
    if cached.others:
        names = ", ".join(path.name for path in cached.others)
        notes.append(f"other revisions are not taken: {names}")
    return MissingWeights(
        tried=failure.tried,
        seen="; ".join(notes),
        remedy=(
            f"name a folder with --model-dir {model.name}=DIR or "
            f"{variable(model.name)}, agree to the download with --allow-download, "
            "which resumes what stopped, or measure without weights: --weights dummy"
        ),
    )


def _free_bytes(folder: Path) -> int:
    """Free space where the folder is or would be made."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _checked(
    model: Model,
    folder: Path,
    load_format: str,
    progress: Callable[[str], None],
    python: Path | None,
) -> Path:
    """The folder, if it holds this model, and all of it."""
    if not folder.is_dir():
        raise MissingWeights(
            tried=f"finding the weights of {model.name} in {folder}",
            seen="there is no such folder",
            remedy=f"correct --model-dir {model.name}=DIR or {variable(model.name)}",
        )
    if not (folder / "config.json").is_file():
        raise MissingWeights(
            tried=f"finding the weights of {model.name} in {folder}",
            seen="there is no config.json",
            remedy="copy or download the model's config.json as well",
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
    check_tokenizer(folder)
    if load_format != "dummy":
        _check_weights(model, folder, progress, python)
    return folder


def _check_weights(
    model: Model,
    folder: Path,
    progress: Callable[[str], None],
    python: Path | None,
) -> None:
    checkpoint = read_checkpoint(folder)
    check_against_config(checkpoint, model.architecture)
    if python is None:
        return
    try:
        listed = _listed(folder / "config.json", python)
    except UnknownTensors as failure:
        progress(
            f"{model.name}: shapes were compared by their number alone, as "
            f"{python} does not list them: {failure.seen}"
        )
        return
    is_quantized = model.architecture.quantization is not None
    check_against_list(checkpoint, listed, is_quantized)


@functools.cache
def _listed(config_file: Path, python: Path) -> dict[str, tuple[int, ...]]:
    """The listed tensors; several servers of a session have one model."""
    return list_tensors(config_file, python)


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
