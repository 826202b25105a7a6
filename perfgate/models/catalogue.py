"""Which models are served here, and what is known of them before they are?

The catalogue. `architecture` has the arithmetic, `config_files` reads a config.json; both are found here too.

The two small models of the CPU run stand in the catalogue beside the two of the study. How their sizes were chosen:

* Hidden size, layers, heads and expert size are the same in both, as they nearly are in Mixtral-8x7B and Llama-3.1-8B,
  so that what differs is the sparse layer alone.
* On two cores a TP=2 step costs several milliseconds in communication whatever the model. Four layers of hidden size
  256 hide the experts behind that: dense and sparse then tie. At hidden size 1024 with Mixtral's own intermediate
  factor of 3.5, a decode step reads 1.75 times the dense model's bytes for one stream and 6.2 times from 16 streams
  on. In float32 (no bfloat16 arithmetic on most CPUs) that showed as 18.9 against 13.1 ms per token for one stream, and
  as 208 against 550 tok/s at concurrency 16.
* Four layers keep the sparse model at 0.4 B parameters: written in seconds, loaded in seconds.
* Weights are random and saved: with ``--load-format dummy`` every layer's router is alike.
"""

from __future__ import annotations

from typing import Any

import msgspec

from perfgate.errors import Failure
from perfgate.models.architecture import BYTES_PER_PARAMETER, Architecture, LatentAttention
from perfgate.models.config_files import UnknownArchitecture, config_json, parse_config, read_config

__all__ = [
    "BYTES_PER_PARAMETER",
    "CATALOGUE",
    "Architecture",
    "LatentAttention",
    "Model",
    "UnknownArchitecture",
    "UnknownModel",
    "config_json",
    "lookup",
    "parse_config",
    "read_config",
]


class UnknownModel(Failure):
    """A model name that is not in the catalogue."""


class Model(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An entry of the catalogue.

    Attributes:
        name: used in server keys and baselines.
        hub_id: where engines download the weights from; None for the models that the suite makes itself.
        served: False for a model that is compared by arithmetic alone.

    """

    name: str
    architecture: Architecture
    hub_id: str | None = None
    served: bool = True


_SMALL: dict[str, Any] = {
    "hidden_size": 1024,
    "intermediate_size": 3584,
    "num_hidden_layers": 4,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
    "head_dim": 64,
    "vocab_size": 4096,
    "max_position_embeddings": 4096,
}
_LARGE: dict[str, Any] = {
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
}
_ROUTED: dict[str, Any] = {"num_local_experts": 8, "num_experts_per_tok": 2}

CATALOGUE: dict[str, Model] = {
    model.name: model
    for model in (
        Model(
            name="mixtral-8x7b",
            hub_id="mistralai/Mixtral-8x7B-Instruct-v0.1",
            architecture=Architecture(
                model_type="mixtral", vocab_size=32000, max_position_embeddings=32768, **_LARGE, **_ROUTED
            ),
        ),
        Model(
            name="llama-3.1-8b",
            hub_id="meta-llama/Llama-3.1-8B-Instruct",
            architecture=Architecture(model_type="llama", vocab_size=128256, max_position_embeddings=131072, **_LARGE),
        ),
        Model(
            name="llama-3.1-70b",
            hub_id="meta-llama/Llama-3.1-70B-Instruct",
            served=False,
            architecture=Architecture(
                model_type="llama",
                hidden_size=8192,
                intermediate_size=28672,
                num_hidden_layers=80,
                num_attention_heads=64,
                num_key_value_heads=8,
                head_dim=128,
                vocab_size=128256,
                max_position_embeddings=131072,
            ),
        ),
        Model(name="mixtral-small", architecture=Architecture(model_type="mixtral", **_SMALL, **_ROUTED)),
        Model(name="llama-small", architecture=Architecture(model_type="llama", **_SMALL)),
    )
}


def lookup(name: str) -> Model:
    """The catalogue's entry.

    Raises:
        UnknownModel: there is none of that name.

    """
    if name not in CATALOGUE:
        raise UnknownModel(
            tried=f"looking up the model {name!r}",
            seen=f"the catalogue has {', '.join(CATALOGUE)}",
            remedy="use one of these, or add the model to CATALOGUE in perfgate/models/__init__.py",
        )
    return CATALOGUE[name]
