"""Tensors of a checkpoint by the engine's own transformers: config.json in, JSON out.

Run by an engine's Python with the path of a config.json. The model is built on the meta
device: shapes without memory. transformers keeps experts fused in memory; the names are
those that it saves, which are the published ones.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM


def listed(config_file: Path) -> dict[str, list[int]]:
    """Name -> shape of every tensor, in the order of the model."""
    fields = json.loads(config_file.read_text())
    # Quantized tensors have names of their own, which no model has before it is loaded.
    fields.pop("quantization_config", None)
    config = AutoConfig.for_model(fields.pop("model_type"), **fields)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    model.tie_weights()
    saved = {}
    first: dict[int, str] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        # Tied tensors are one object, of which a checkpoint holds the first alone.
        if first.setdefault(id(tensor), name) == name:
            saved[name] = tensor.detach()
    return {
        name: list(tensor.shape)
        for name, tensor in as_saved(model, saved).items()
    }


def as_saved(model: Any, tensors: dict[str, Any]) -> dict[str, Any]:
    """The tensors under the names of the files; before transformers 5 these were the model's."""
    try:
        from transformers.core_model_loading import revert_weight_conversion
    except ImportError:
        return tensors
    saved: dict[str, Any] = revert_weight_conversion(model, tensors)
    return saved


if __name__ == "__main__":
    sys.stdout.write(json.dumps(listed(Path(sys.argv[1]))))
