"""Tiny checkpoints: a few thousand parameters in the shape of a small model."""

from __future__ import annotations

from perfgate.models.catalogue import CATALOGUE, Model, parse_config

TINY = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "vocab_size": 64,
}


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
