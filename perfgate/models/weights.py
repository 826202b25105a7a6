"""Weights: find a model's folder, or make a small model with random weights and a tokenizer.

A small model has seeded random matrices in float32, one safetensors file a layer, and a
word-level tokenizer. Each token id is a word, so every streamed token is visible text.
Other models are searched in the user's folder, then in the Hugging Face cache. A
download needs consent.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import filelock
import msgspec

from perfgate import locations
from perfgate.errors import Failure
from perfgate.models.catalogue import (
    Architecture,
    Model,
    config_json,
    read_config,
)
from perfgate.models.config_files import written_fields

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SEED = 20260412
# Increased whenever the same architecture and seed would give other weights.
RECIPE = 1
STANDARD_DEVIATION = 0.02  # of Mixtral's and Llama's initialisation
STAMP_FILE = "perfgate.json"

Shape = tuple[int, ...]


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
) -> Weights:
    """The model's folder on this machine; small models are made if needed.

    Args:
        model: the catalogue's entry.
        load_format: "dummy" needs a config.json and a tokenizer only.
        chosen: model name -> folder, as the user named them.
        allow_download: whether the engine may download what is missing.
        progress: called before weights are made.

    Raises:
        MissingWeights: the weights are not here, and a download was not agreed to.
        WrongWeights: the folder or the hub's cache holds another architecture.

    """
    folder = _named_folder(model, chosen)
    if folder is not None:
        return _offline(_check_folder(model, folder))
    if model.hub_id is None:
        folder = models_dir() / model.name
        return _offline(make(model, folder, progress))
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
    return Path(path).expanduser()


def _offline(folder: Path) -> Weights:
    return Weights(path=str(folder), offline=True)


def _missing(model: Model) -> MissingWeights:
    cache = _hub_cache()
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
        if name != "max_position_embeddings" and actual_value != expected_value:
            differences.append(
                f"{name} is {actual_value}, not {expected_value}"
            )
    return differences


def _hub_cache() -> Path:
    """The Hugging Face cache, by the environment variables of huggingface_hub."""
    cache = os.environ.get("HF_HUB_CACHE")
    if cache is not None:
        return Path(cache)
    home = os.environ.get("HF_HOME")
    if home is not None:
        return Path(home) / "hub"
    return Path.home() / ".cache" / "huggingface" / "hub"


def _hub_snapshot(hub_id: str) -> Path | None:
    """The newest snapshot in the cache that has a config.json and weights."""
    folder = f"models--{hub_id.replace('/', '--')}"
    newest: Path | None = None
    newest_s = 0.0
    snapshots = _hub_cache() / folder / "snapshots"
    for config in snapshots.glob("*/config.json"):
        snapshot = config.parent
        modified_s = snapshot.stat().st_mtime
        is_complete = any(snapshot.glob("*.safetensors"))
        if is_complete and (newest is None or modified_s > newest_s):
            newest = snapshot
            newest_s = modified_s
    return newest


def make_shell(model: Model, folder: Path) -> Path:
    """Write a model without weights: config.json and a tokenizer. Returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    architecture = model.architecture
    _write_json(folder / "config.json", config_json(architecture))
    tokenizer = _tokenizer(architecture.vocab_size)
    tokenizer.save(str(folder / "tokenizer.json"))
    tokenizer_config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "model_max_length": architecture.max_position_embeddings,
    }
    _write_json(folder / "tokenizer_config.json", tokenizer_config)
    return folder


def make(
    model: Model,
    folder: Path,
    progress: Callable[[str], None],
    seed: int = SEED,
) -> Path:
    """Write the model with seeded random weights; keep a folder of the same recipe.

    Args:
        model: the catalogue's entry.
        folder: written whole or not at all.
        progress: called before the weights are made.
        seed: of all matrices; each layer draws from a generator of its own.

    Returns:
        The folder.

    """
    stamp = _stamp(model, seed)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(f"{folder}.lock"):
        if _has_stamp(folder, stamp):
            return folder
        millions = model.architecture.parameters / 1e6
        progress(
            f"making {model.name}: {millions:.0f} M random weights in {folder}"
        )
        partial = folder.with_name(folder.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        make_shell(model, partial)
        _write_weights(model.architecture, partial, seed)
        (partial / STAMP_FILE).write_bytes(stamp)
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    return folder


def _stamp(model: Model, seed: int) -> bytes:
    """The recipe: a folder with the same stamp has the same weights."""
    recipe = {
        "recipe": RECIPE,
        "seed": seed,
        "architecture": written_fields(model.architecture),
    }
    return msgspec.json.encode(recipe)


def _has_stamp(folder: Path, stamp: bytes) -> bool:
    file = folder / STAMP_FILE
    return file.is_file() and file.read_bytes() == stamp


def _write_weights(architecture: Architecture, folder: Path, seed: int) -> None:
    """One file a layer, one thread a core: numpy draws without Python's lock."""
    files: dict[str, str] = {}
    shards = []
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for number, shapes in enumerate(_shards(architecture)):
            file = f"model-{number:05d}.safetensors"
            files |= dict.fromkeys(shapes, file)
            shard = pool.submit(
                _write_shard, folder / file, shapes, [seed, number]
            )
            shards.append(shard)
        total_bytes = sum(shard.result() for shard in shards)
    index = {"metadata": {"total_size": total_bytes}, "weight_map": files}
    _write_json(folder / "model.safetensors.index.json", index)


def _write_shard(
    path: Path, shapes: Mapping[str, Shape], seed: list[int]
) -> int:
    """Write one file of random tensors; norms are 1. Returns the bytes of its tensors."""
    # not at the top: collecting tests must not wait for numpy
    import numpy as np
    from safetensors.numpy import save_file

    generator = np.random.default_rng(seed)
    tensors = {}
    for name, shape in shapes.items():
        if name.endswith("norm.weight"):
            tensors[name] = np.ones(shape, np.float32)
        else:
            tensors[name] = generator.standard_normal(shape, dtype=np.float32)
            tensors[name] *= np.float32(STANDARD_DEVIATION)
    save_file(tensors, path, metadata={"format": "pt"})
    return sum(tensor.nbytes for tensor in tensors.values())


def _shards(architecture: Architecture) -> list[dict[str, Shape]]:
    """Tensor shapes under their names in transformers: embeddings first, then the layers."""
    hidden = architecture.hidden_size
    vocabulary = architecture.vocab_size
    embeddings: dict[str, Shape] = {
        "model.embed_tokens.weight": (vocabulary, hidden),
        "lm_head.weight": (vocabulary, hidden),
        "model.norm.weight": (hidden,),
    }
    shards = [embeddings]
    layer = _layer(architecture)
    for number in range(architecture.num_hidden_layers):
        shapes = {}
        for name, shape in layer.items():
            shapes[f"model.layers.{number}.{name}.weight"] = shape
        shards.append(shapes)
    return shards


def _layer(architecture: Architecture) -> dict[str, Shape]:
    """Tensor shapes of one layer."""
    hidden = architecture.hidden_size
    query = architecture.num_attention_heads * architecture.head_dim
    key_value = architecture.num_key_value_heads * architecture.head_dim
    return {
        "input_layernorm": (hidden,),
        "post_attention_layernorm": (hidden,),
        "self_attn.q_proj": (query, hidden),
        "self_attn.k_proj": (key_value, hidden),
        "self_attn.v_proj": (key_value, hidden),
        "self_attn.o_proj": (hidden, query),
        **_feed_forward(architecture),
    }


def _feed_forward(architecture: Architecture) -> dict[str, Shape]:
    """Tensor shapes of a dense feed-forward, or of a router and its experts."""
    hidden = architecture.hidden_size
    widening = (architecture.intermediate_size, hidden)
    narrowing = (hidden, architecture.intermediate_size)
    if not architecture.is_moe:
        return {
            "mlp.gate_proj": widening,
            "mlp.up_proj": widening,
            "mlp.down_proj": narrowing,
        }
    experts = architecture.num_local_experts
    shapes: dict[str, Shape] = {}
    shapes["block_sparse_moe.gate"] = (experts, hidden)
    for expert in range(experts):
        prefix = f"block_sparse_moe.experts.{expert}"
        shapes[f"{prefix}.w1"] = widening
        shapes[f"{prefix}.w2"] = narrowing
        shapes[f"{prefix}.w3"] = widening
    return shapes


def _tokenizer(vocab_size: int) -> Tokenizer:
    """A word-level tokenizer: token id 7 is the word "t7"."""
    # Imported here, as numpy is.
    from tokenizers import Tokenizer, models, pre_tokenizers

    special = ["<unk>", "<s>", "</s>"]
    vocabulary = {word: number for number, word in enumerate(special)}
    for number in range(len(special), vocab_size):
        vocabulary[f"t{number}"] = number
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens(special)
    return tokenizer


def _write_json(path: Path, value: Any) -> None:
    text = msgspec.json.encode(value)
    path.write_bytes(msgspec.json.format(text, indent=1))
