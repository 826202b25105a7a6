"""Parameter counts of `transformers`; configs by name on stdin, counts on stdout.

Run by an engine's Python.

The models are built on the meta device: shapes without memory.
"""

import json
import sys

import torch
from transformers import AutoConfig, AutoModelForCausalLM


def count(fields: dict) -> int:
    """Parameters of the model that a config.json describes."""
    config = AutoConfig.for_model(
        fields["model_type"],
        **{k: v for k, v in fields.items() if k != "model_type"},
    )
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    return sum(parameter.numel() for parameter in model.parameters())


sys.stdout.write(
    json.dumps(
        {name: count(fields) for name, fields in json.load(sys.stdin).items()}
    )
)
