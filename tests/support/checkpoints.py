"""Checkpoints for tests: tiny ones, and hollow ones of any size that take no space."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from perfgate.models import tensors
from perfgate.models.catalogue import CATALOGUE, Model, parse_config
from perfgate.models.checkpoint import INDEX_FILE
from perfgate.models.made import make_shell

TINY = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "vocab_size": 64,
}


BYTES = {"BF16": 2, "F32": 4, "F8_E4M3": 1, "U8": 1}


def tiny(base: str, **changes: object) -> Model:
    """A model of the catalogue in a tiny size, perhaps with other fields."""
    config = CATALOGUE[base].config | TINY | changes
    return Model(
        name=f"tiny-{base}",
        architecture=parse_config(config, "config.json"),
        config=config,
    )


def quiet(text: str) -> None:
    """No progress."""


def write_safetensors(
    path: Path, shapes: Mapping[str, Sequence[int]], dtype: str = "BF16"
) -> None:
    """A file with a true header and no values: it is as long as they would make it."""
    header = {}
    end = 0
    for name, shape in shapes.items():
        size = math.prod(shape) * BYTES[dtype]
        header[name] = {
            "dtype": dtype,
            "shape": list(shape),
            "data_offsets": [end, end + size],
        }
        end += size
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)


def hollow(model: Model, folder: Path) -> Path:
    """A folder of that model whose files have all tensors, but take no space."""
    make_shell(model, folder)
    weight_map = {}
    for number, shapes in enumerate(shards_of(model)):
        file = f"model-{number:05d}.safetensors"
        write_safetensors(folder / file, shapes)
        weight_map |= dict.fromkeys(shapes, file)
    (folder / INDEX_FILE).write_text(json.dumps({"weight_map": weight_map}))
    return folder


def shards_of(model: Model) -> list[dict[str, tuple[int, ...]]]:
    """The tensors of each file, under their names in transformers."""
    config = model.config
    if config["model_type"] in ("llama", "mixtral"):
        return tensors._listed_shards(config)
    hidden, head = config["hidden_size"], config["head_dim"]
    dense = config | {"model_type": "llama"}
    shards = tensors._listed_shards(dense)
    for number, shard in enumerate(shards[1:]):
        layer = f"model.layers.{number}"
        for name in ("q_norm", "k_norm"):
            shard[f"{layer}.self_attn.{name}.weight"] = (head,)
        experts = config.get("num_experts", 0)
        width = config.get("moe_intermediate_size", 0)
        if experts:
            for name in ("gate_proj", "up_proj", "down_proj"):
                del shard[f"{layer}.mlp.{name}.weight"]
            shard[f"{layer}.mlp.gate.weight"] = (experts, hidden)
        for expert in range(experts):
            place = f"{layer}.mlp.experts.{expert}"
            shard[f"{place}.gate_proj.weight"] = (width, hidden)
            shard[f"{place}.up_proj.weight"] = (width, hidden)
            shard[f"{place}.down_proj.weight"] = (hidden, width)
    return shards
