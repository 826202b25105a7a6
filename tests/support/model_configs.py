"""Configurations of models, with the parameter counts of transformers."""

import json
from pathlib import Path

from perfgate.models.catalogue import parse_config

FILE = Path(__file__).resolve().parents[1] / "data" / "model_configs.json"
MODELS = json.loads(FILE.read_text())["models"]

# transformers gives LongCat's experts without weights a matrix for gate and up, which
# no published file has and no token uses: 28 layers x 256 x (2 x 2048) x 6144.
UNPUBLISHED = {"longcat-flash": 28 * 256 * 2 * 2048 * 6144}


def shape_of(name, **changes):
    """The architecture of one of them, with other fields."""
    row = MODELS[name]
    config = row["config"] | changes
    return parse_config(config, f"{name}/config.json", row.get("beside"))


def published_parameters(name):
    """Parameters by transformers, without those that are not published."""
    return MODELS[name]["parameters"] - UNPUBLISHED.get(name, 0)
