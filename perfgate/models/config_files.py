"""config.json: read a model's architecture, one reader per family; refuse quantization.

An unknown family, or an unsupported field that would change the arithmetic, is an error
that names it: a wrong parameter count would make every memory gate a guess.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from perfgate.errors import Failure
from perfgate.models.architecture import Architecture, LatentAttention

Config = Mapping[str, Any]
Fields = dict[str, Any]

_PLAIN = (
    "model_type",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "vocab_size",
    "max_position_embeddings",
)


class UnknownArchitecture(Failure):
    """A config.json that the arithmetic does not support."""


class _Unsupported(ValueError):
    """A field whose value the arithmetic does not support, and why."""


def parse_config(config: dict[str, Any], origin: str) -> Architecture:
    """The architecture that a decoded config.json describes.

    Args:
        config: the decoded file.
        origin: its path, for messages.

    Raises:
        UnknownArchitecture: another family, an unsupported field that changes the
            arithmetic, a missing field or a wrong type; the file and the field are
            named.

    """
    tried = f"reading the architecture in {origin}"
    model_type = config.get("model_type")
    if model_type not in _READERS:
        raise UnknownArchitecture(
            tried=tried,
            seen=f"model_type is {model_type!r}",
            remedy=(
                f"supported are {', '.join(_READERS)}; add the family to "
                "perfgate/models/config_files.py"
            ),
        )
    read = _READERS[model_type]
    try:
        _check_supported(config)
        return msgspec.convert(read(config), Architecture)
    except KeyError as error:
        raise UnknownArchitecture(
            tried=tried,
            seen=f"{error.args[0]} is missing",
            remedy="use the config.json that was published with the model",
        ) from error
    except _Unsupported as error:
        raise UnknownArchitecture(
            tried=tried,
            seen=str(error),
            remedy=(
                "to estimate the model without this field, remove it from a copy of "
                "the file; to support it, extend perfgate/models/config_files.py"
            ),
        ) from error
    except msgspec.ValidationError as error:
        raise UnknownArchitecture(
            tried=tried,
            seen=str(error),
            remedy="use the config.json that was published with the model",
        ) from error


def read_config(path: Path) -> Architecture:
    """The architecture in a config.json, given the file or its folder.

    Raises:
        UnknownArchitecture: as `parse_config`, and for a file that cannot be read.

    """
    return parse_config(load_config(path), str(_config_file(path)))


def load_config(path: Path) -> dict[str, Any]:
    """The whole content of a config.json, given the file or its folder.

    Raises:
        UnknownArchitecture: the file cannot be read.

    """
    file = _config_file(path)
    try:
        return msgspec.json.decode(file.read_bytes(), type=dict[str, Any])
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UnknownArchitecture(
            tried=f"reading {file}",
            seen=f"{type(error).__name__}: {error}",
            remedy="name a folder that holds the model's config.json",
        ) from error


def _config_file(path: Path) -> Path:
    if path.suffix == ".json":
        return path
    return path / "config.json"


def _check_supported(config: Config) -> None:
    """Refuse what changes the arithmetic in any family."""
    quantization = config.get("quantization_config")
    if quantization:
        method = quantization.get("quant_method", "unnamed")
        raise _Unsupported(
            f"quantization_config: weights quantized by {method!r} are not supported"
        )
    _check_sliding_window(config)
    layer_types = set(config.get("layer_types") or ())
    layer_types.discard("full_attention")
    if layer_types:
        names = ", ".join(sorted(layer_types))
        raise _Unsupported(f"layer_types names {names}")
    if config.get("moe_layer_freq", 1) != 1:
        raise _Unsupported(f"moe_layer_freq is {config['moe_layer_freq']!r}")


def _check_sliding_window(config: Config) -> None:
    window = config.get("sliding_window")
    if window is None or not config.get("use_sliding_window", True):
        return
    if window < config.get("max_position_embeddings", 0):
        raise _Unsupported(
            f"sliding_window is {window}: it bounds the KV cache of a sequence, "
            "which is not supported"
        )


def _decoder(config: Config) -> Fields:
    """Fields of all families."""
    fields = {name: config[name] for name in _PLAIN}
    fields["tie_word_embeddings"] = config.get("tie_word_embeddings", False)
    return fields


def _grouped(config: Config) -> Fields:
    """A decoder with grouped attention heads and a dense feed-forward."""
    fields = _decoder(config)
    fields["intermediate_size"] = config["intermediate_size"]
    fields["num_key_value_heads"] = config["num_key_value_heads"]
    fields["head_dim"] = _head_dim(config)
    return fields


def _head_dim(config: Config) -> Any:
    """The field, else the hidden size over the heads; wrong types are left to the schema."""
    if config.get("head_dim") is not None:
        return config["head_dim"]
    hidden_size = config["hidden_size"]
    heads = config["num_attention_heads"]
    if isinstance(hidden_size, int) and isinstance(heads, int) and heads > 0:
        return hidden_size // heads
    return hidden_size


def _attention_bias(config: Config) -> str:
    return "qkvo" if config.get("attention_bias") else "none"


def _llama(config: Config) -> Fields:
    # Llama 2's first files have no num_key_value_heads: one for each head.
    heads = {"num_key_value_heads": config["num_attention_heads"]}
    fields = _grouped(heads | dict(config))
    fields["attention_bias"] = _attention_bias(config)
    fields["mlp_bias"] = config.get("mlp_bias", False)
    return fields


def _mixtral(config: Config) -> Fields:
    fields = _grouped(config)
    fields["num_local_experts"] = config["num_local_experts"]
    fields["num_experts_per_tok"] = config["num_experts_per_tok"]
    return fields


def _qwen2(config: Config) -> Fields:
    fields = _grouped(config)
    fields["attention_bias"] = "qkv"
    return fields


def _qwen3(config: Config) -> Fields:
    fields = _grouped({**config, "head_dim": config["head_dim"]})
    fields["attention_bias"] = _attention_bias(config)
    fields["qk_norm"] = True
    return fields


def _qwen_experts(config: Config) -> Fields:
    return {
        "num_local_experts": config["num_experts"],
        "num_experts_per_tok": config["num_experts_per_tok"],
        "moe_intermediate_size": config["moe_intermediate_size"],
        "num_dense_layers": _qwen_dense_layers(config),
    }


def _qwen_dense_layers(config: Config) -> int:
    """Layers in mlp_only_layers, and those that decoder_sparse_step leaves out."""
    mlp_only = config.get("mlp_only_layers") or ()
    sparse_step = config.get("decoder_sparse_step", 1)
    dense_layers = 0
    for layer in range(config["num_hidden_layers"]):
        if layer in mlp_only or (layer + 1) % sparse_step != 0:
            dense_layers += 1
    return dense_layers


def _qwen2_moe(config: Config) -> Fields:
    shared_size = config["shared_expert_intermediate_size"]
    fields = _grouped(config) | _qwen_experts(config)
    fields["attention_bias"] = "qkv" if config.get("qkv_bias", True) else "none"
    fields["shared_expert_intermediate_size"] = shared_size
    fields["shared_expert_gate"] = True
    return fields


def _qwen3_moe(config: Config) -> Fields:
    return _qwen3(config) | _qwen_experts(config)


def _deepseek(config: Config) -> Fields:
    latent = LatentAttention(
        q_lora_rank=config["q_lora_rank"],
        kv_lora_rank=config["kv_lora_rank"],
        qk_nope_head_dim=config["qk_nope_head_dim"],
        qk_rope_head_dim=config["qk_rope_head_dim"],
        v_head_dim=config["v_head_dim"],
    )
    fields = _decoder(config)
    fields["intermediate_size"] = config["intermediate_size"]
    fields["num_key_value_heads"] = config["num_attention_heads"]
    fields["head_dim"] = latent.qk_nope_head_dim + latent.qk_rope_head_dim
    fields["attention_bias"] = _attention_bias(config)
    fields["latent"] = msgspec.to_builtins(latent)
    if config.get("mlp_bias"):
        raise _Unsupported("mlp_bias is true")
    if config["n_routed_experts"] is None:
        return fields
    return fields | _deepseek_experts(config)


def _deepseek_experts(config: Config) -> Fields:
    width = config["moe_intermediate_size"]
    shared_experts = config.get("n_shared_experts") or 0
    layers = config["num_hidden_layers"]
    return {
        "num_local_experts": config["n_routed_experts"],
        "num_experts_per_tok": config["num_experts_per_tok"],
        "moe_intermediate_size": width,
        "shared_expert_intermediate_size": width * shared_experts,
        "num_dense_layers": min(config["first_k_dense_replace"], layers),
    }


# DeepSeek-V3's extra layer for predicting two tokens at once (num_nextn_predict_layers)
# is not counted: engines load it only on request. Its routers' correction bias is a
# buffer, which transformers does not count either.
_READERS: dict[str, Callable[[Config], Fields]] = {
    "llama": _llama,
    "mistral": _grouped,
    "mixtral": _mixtral,
    "qwen2": _qwen2,
    "qwen2_moe": _qwen2_moe,
    "qwen3": _qwen3,
    "qwen3_moe": _qwen3_moe,
    "deepseek_v2": _deepseek,
    "deepseek_v3": _deepseek,
}
