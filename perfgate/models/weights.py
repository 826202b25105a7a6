"""Where do this model's weights lie?

The small models are made here: seeded random matrices in float32, one safetensors file
a layer, and a word-level tokenizer in which every token id is a word of its own, so
that every streamed token is visible text. The study's models are looked for where the
user says, then in the Hugging Face cache; a download is announced and needs consent.
"""

from __future__ import annotations

import os
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
from perfgate.models.catalogue import Architecture, Model, config_json, read_config
from perfgate.models.config_files import written_fields

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SEED = 20260412
# Raised whenever the same architecture and seed would give other weights.
RECIPE = 1
STANDARD_DEVIATION = 0.02  # of Mixtral's and Llama's initialisation


class MissingWeights(Failure):
    """Weights that are not on this machine."""


class WrongWeights(Failure):
    """A folder that holds another model than the one asked for."""


@dataclass(frozen=True)
class Weights:
    """What to give to an engine as its model.

    Attributes:
        path: a folder, or the hub's id where a download was agreed to.
        offline: whether the engine must not ask the hub.

    """

    path: str
    offline: bool


def models_dir() -> Path:
    """Where the suite keeps the models that it makes: $PERFGATE_MODELS_DIR, else .models in the project."""
    return locations.current().models


def variable(model_name: str) -> str:
    """The environment variable that names a model's folder: PERFGATE_MODEL_MIXTRAL_8X7B."""
    return "PERFGATE_MODEL_" + model_name.upper().replace("-", "_").replace(".", "_")


def locate(
    model: Model,
    load_format: str,
    chosen: Mapping[str, str],
    allow_download: bool,
    progress: Callable[[str], None],
) -> Weights:
    """The model's folder on this machine; small models are made if they are not there yet.

    Args:
        load_format: "dummy" needs a config.json and a tokenizer only.
        chosen: model name -> folder, as the user named them.
        allow_download: whether the engine may fetch what is missing.

    Raises:
        MissingWeights: not here, and no consent to a download.
        WrongWeights: the folder named, or the hub's cache, holds another architecture.

    """
    named = (
        chosen.get(model.name) or os.environ.get(variable(model.name)) or model.folder
    )
    if named:
        return Weights(
            path=str(_checked(model, Path(named).expanduser())), offline=True
        )
    if model.hub_id is None:
        return Weights(
            path=str(make(model, models_dir() / model.name, progress)), offline=True
        )
    if load_format == "dummy":
        return Weights(
            path=str(make_shell(model, models_dir() / f"{model.name}-dummy")),
            offline=True,
        )
    cached = _hub_snapshot(model.hub_id)
    if cached:
        return Weights(path=str(_checked(model, cached)), offline=True)
    if allow_download:
        return Weights(path=model.hub_id, offline=False)
    cache = _hub_cache()
    size_gb = model.architecture.parameters * 2 / 1e9
    free_gb = (
        shutil.disk_usage(next(p for p in (cache, *cache.parents) if p.exists())).free
        / 1e9
    )
    raise MissingWeights(
        tried=f"finding the weights of {model.name} ({model.hub_id})",
        seen=f"not in {cache}; they are {size_gb:.1f} GB, and {free_gb:.0f} GB are free there",
        remedy=f"name a folder with --model-dir {model.name}=DIR or "
        f"{variable(model.name)}, agree to the download with "
        "--allow-download, or measure without weights: --weights dummy",
    )


def _checked(model: Model, folder: Path) -> Path:
    if not folder.is_dir():
        raise MissingWeights(
            tried=f"finding the weights of {model.name} in {folder}",
            seen="there is no such folder",
            remedy=f"correct --model-dir {model.name}=DIR or {variable(model.name)}",
        )
    found, wanted = read_config(folder), model.architecture
    different = [
        f"{name} is {getattr(found, name)}, not {getattr(wanted, name)}"
        for name in Architecture.__struct_fields__
        # A context length may be cut without the model being another one.
        if name != "max_position_embeddings"
        and getattr(found, name) != getattr(wanted, name)
    ]
    if different:
        raise WrongWeights(
            tried=f"using {folder} as {model.name}",
            seen="; ".join(different),
            remedy=(
                "name the folder of this very model; baselines of one model must "
                "never be compared with another's"
            ),
        )
    return folder


def _hub_cache() -> Path:
    home = Path(os.environ.get("HF_HOME", Path.home() / ".cache" / "huggingface"))
    return Path(os.environ.get("HF_HUB_CACHE", home / "hub"))


def _hub_snapshot(hub_id: str) -> Path | None:
    snapshots = _hub_cache() / f"models--{hub_id.replace('/', '--')}" / "snapshots"
    complete = [
        path.parent
        for path in snapshots.glob("*/config.json")
        if any(path.parent.glob("*.safetensors"))
    ]
    return max(complete, key=lambda path: path.stat().st_mtime, default=None)


def make_shell(model: Model, folder: Path) -> Path:
    """Write what an engine needs to start without weights: config.json and a tokenizer. Returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    architecture = model.architecture
    _write_json(folder / "config.json", config_json(architecture))
    _tokenizer(architecture.vocab_size).save(str(folder / "tokenizer.json"))
    words = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    length = {"model_max_length": architecture.max_position_embeddings}
    _write_json(
        folder / "tokenizer_config.json",
        {"tokenizer_class": "PreTrainedTokenizerFast"} | words | length,
    )
    return folder


def make(
    model: Model, folder: Path, progress: Callable[[str], None], seed: int = SEED
) -> Path:
    """Write the model with seeded random weights, once; a folder made with the same recipe is kept.

    Args:
        folder: written whole or not at all.
        seed: of every matrix; each matrix draws from a generator of its own, in the
            order of the layers.

    """
    stamp = msgspec.json.encode(
        {
            "recipe": RECIPE,
            "seed": seed,
            "architecture": written_fields(model.architecture),
        }
    )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(f"{folder}.lock"):
        if (folder / "perfgate.json").is_file() and (
            folder / "perfgate.json"
        ).read_bytes() == stamp:
            return folder
        progress(
            f"making {model.name}: {model.architecture.parameters / 1e6:.0f} M "
            f"random weights in {folder}"
        )
        partial = folder.with_name(folder.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        make_shell(model, partial)
        _write_weights(model.architecture, partial, seed)
        (partial / "perfgate.json").write_bytes(stamp)
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    return folder


def _write_weights(architecture: Architecture, folder: Path, seed: int) -> None:
    """One file a layer, as many at once as there are cores: numpy draws without Python's lock."""
    shards = {
        f"model-{number:05d}.safetensors": shapes
        for number, shapes in enumerate(_shards(architecture))
    }
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        made = [
            pool.submit(_write_shard, folder / file, shapes, [seed, number])
            for number, (file, shapes) in enumerate(shards.items())
        ]
        total_bytes = sum(shard.result() for shard in made)
    index = {name: file for file, shapes in shards.items() for name in shapes}
    _write_json(
        folder / "model.safetensors.index.json",
        {"metadata": {"total_size": total_bytes}, "weight_map": index},
    )


def _write_shard(
    path: Path, shapes: Mapping[str, tuple[int, ...]], seed: list[int]
) -> int:
    """Returns the bytes of its tensors."""
    import numpy as np  # not at the top: collecting tests must not wait for numpy
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


def _shards(architecture: Architecture) -> list[dict[str, tuple[int, ...]]]:
    """Tensor shapes under the names that transformers gives them: embeddings first, then a layer each."""
    a, hidden = architecture, architecture.hidden_size
    query, key = a.num_attention_heads * a.head_dim, a.num_key_value_heads * a.head_dim
    first: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (a.vocab_size, hidden),
        "lm_head.weight": (a.vocab_size, hidden),
        "model.norm.weight": (hidden,),
    }
    up, down = (a.intermediate_size, hidden), (hidden, a.intermediate_size)
    if a.is_moe:
        feed_forward = {"block_sparse_moe.gate": (a.num_local_experts, hidden)}
        for expert in range(a.num_local_experts):
            prefix = f"block_sparse_moe.experts.{expert}."
            feed_forward |= {prefix + "w1": up, prefix + "w2": down, prefix + "w3": up}
    else:
        feed_forward = {"mlp.gate_proj": up, "mlp.up_proj": up, "mlp.down_proj": down}
    layer: dict[str, tuple[int, ...]] = {
        "input_layernorm": (hidden,),
        "post_attention_layernorm": (hidden,),
        "self_attn.q_proj": (query, hidden),
        "self_attn.k_proj": (key, hidden),
        "self_attn.v_proj": (key, hidden),
        "self_attn.o_proj": (hidden, query),
        **feed_forward,
    }
    return [
        first,
        *(
            {
                f"model.layers.{number}.{name}.weight": shape
                for name, shape in layer.items()
            }
            for number in range(a.num_hidden_layers)
        ),
    ]


def _tokenizer(vocab_size: int) -> Tokenizer:
    """A word-level tokenizer: token id 7 is the word "t7"."""
    from tokenizers import Tokenizer, models, pre_tokenizers  # not at the top, as numpy

    special = ["<unk>", "<s>", "</s>"]
    words = [*special, *(f"t{number}" for number in range(len(special), vocab_size))]
    made = Tokenizer(
        models.WordLevel(
            {word: number for number, word in enumerate(words)}, unk_token="<unk>"
        )
    )
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.add_special_tokens(special)
    return made


def _write_json(path: Path, value: Any) -> None:
    path.write_bytes(msgspec.json.format(msgspec.json.encode(value), indent=1))
