"""Parameter counts of `transformers`; configs by name on stdin, counts on stdout.

Run by an engine's Python.

The models are built on the meta device: shapes without memory. Of a model that also
sees pictures it is the text part, with its output head.
"""

import json
import sys

import torch
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

# Families that transformers knows under another name.
SAME = {"kimi_k2": "deepseek_v3", "minimax_m3": "minimax_m3_vl_text"}


def count(fields: dict) -> int:
    """Parameters of the model that a config.json describes."""
    family = SAME.get(fields["model_type"], fields["model_type"])
    ignored = ("model_type", "auto_map", "quantization_config")
    kept = {k: v for k, v in fields.items() if k not in ignored}
    config = AutoConfig.for_model(family, **kept).get_text_config()
    with torch.device("meta"):
        try:
            model = AutoModelForCausalLM.from_config(config)
            head = 0
        except ValueError:  # a text part without a class of its own
            model = AutoModel.from_config(config)
            head = config.vocab_size * config.hidden_size
            if fields.get("tie_word_embeddings"):
                head = 0
    return head + sum(parameter.numel() for parameter in model.parameters())


sys.stdout.write(
    json.dumps(
        {name: count(fields) for name, fields in json.load(sys.stdin).items()}
    )
)
