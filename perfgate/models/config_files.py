"""What does a config.json say about the model's shape?

One reader a family. A family, or a field that would change the arithmetic, that is not
understood is refused by name: a wrong parameter count would make every memory gate a
guess.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from perfgate.errors import Failure
from perfgate.models.architecture import Architecture, LatentAttention

Config = Mapping[str, Any]

_PLAIN = (
    "model_type",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "vocab_size",
    "max_position_embeddings",
)
# What the suite writes itself; also the stamp of the models that it makes, so neither
# names nor order may change.
_WRITTEN = (
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


class UnknownArchitecture(Failure):
    """A config.json that the arithmetic does not understand."""


class _Refused(ValueError):
    """A field, and why its value is not understood."""


def parse_config(config: dict[str, Any], origin: str) -> Architecture:
    """The architecture that a decoded config.json describes.

    Args:
        config: the decoded file.
        origin: its path, for messages.

    Raises:
        UnknownArchitecture: another family, a field that changes the arithmetic in a
            way that is not understood, a missing field or a wrong type; the file and
            the field are named.

    """
    tried = f"reading the architecture in {origin}"
    model_type = config.get("model_type")
    if model_type not in _READERS:
        raise UnknownArchitecture(
            tried=tried,
            seen=f"model_type is {model_type!r}",
            remedy=(
                f"understood are {', '.join(_READERS)}; add the family to "
                "perfgate/models/config_files.py"
            ),
        )
    try:
        _refuse(config)
        return msgspec.convert(_READERS[model_type](config), Architecture)
    except KeyError as error:
        raise UnknownArchitecture(
            tried=tried,
            seen=f"{error.args[0]} is missing",
            remedy="use the config.json that was published with the model",
        ) from error
    except _Refused as error:
        raise UnknownArchitecture(
            tried=tried,
            seen=str(error),
            remedy="where the field is meant, the arithmetic must learn it first: "
            "perfgate/models/config_files.py; "
            "to estimate the model without it, remove it from a copy of the file",
        ) from error
    except msgspec.ValidationError as error:
        raise UnknownArchitecture(
            tried=tried,
            seen=str(error),
            remedy="use the config.json that was published with the model",
        ) from error


def read_config(path: Path) -> Architecture:
    """The architecture in a model folder's config.json, or in that file; errors as `parse_config`, also for none."""
    file = path if path.suffix == ".json" else path / "config.json"
    try:
        config = msgspec.json.decode(file.read_bytes(), type=dict[str, Any])
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UnknownArchitecture(
            tried=f"reading {file}",
            seen=f"{type(error).__name__}: {error}",
            remedy="name a folder that holds the model's config.json",
        ) from error
    return parse_config(config, str(file))


def written_fields(architecture: Architecture) -> dict[str, Any]:
    """The fields of the two families whose models the suite makes itself, under the names of their config.json."""
    return {name: getattr(architecture, name) for name in _WRITTEN}


def config_json(architecture: Architecture) -> dict[str, Any]:
    """A config.json that both engines and transformers read; of the families Llama and Mixtral alone."""
    fields = written_fields(architecture)
    if not architecture.is_moe:
        del fields["num_local_experts"], fields["num_experts_per_tok"]
    family = {"llama": "LlamaForCausalLM", "mixtral": "MixtralForCausalLM"}[
        architecture.model_type
    ]
    return fields | {
        "architectures": [family],
        "hidden_act": "silu",
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "torch_dtype": "float32",
    }


def _refuse(config: Config) -> None:
    """What changes the arithmetic in any family."""
    if config.get("quantization_config"):
        method = config["quantization_config"].get("quant_method", "unnamed")
        raise _Refused(
            f"quantization_config: weights quantized by {method!r} are not understood"
        )
    window = config.get("sliding_window")
    windowed = window is not None and config.get("use_sliding_window", True)
    if windowed and window < config.get("max_position_embeddings", 0):
        raise _Refused(
            f"sliding_window is {window}: it bounds the KV cache of a sequence, "
            "which is not understood"
        )
    others = sorted(set(config.get("layer_types") or ()) - {"full_attention"})
    if others:
        raise _Refused(f"layer_types names {', '.join(others)}")
    if config.get("moe_layer_freq", 1) != 1:
        raise _Refused(f"moe_layer_freq is {config['moe_layer_freq']!r}")


def _decoder(config: Config) -> dict[str, Any]:
    """What all families have."""
    fields = {name: config[name] for name in _PLAIN}
    return fields | {"tie_word_embeddings": config.get("tie_word_embeddings", False)}


def _grouped(config: Config) -> dict[str, Any]:
    """A decoder with grouped attention heads and a dense feed-forward."""
    fields = _decoder(config)
    size, heads = config["hidden_size"], config["num_attention_heads"]
    both = isinstance(size, int) and isinstance(heads, int) and heads > 0
    head_dim = config.get("head_dim")
    if head_dim is None:
        head_dim = size // heads if both else size
    return fields | {
        "intermediate_size": config["intermediate_size"],
        "num_key_value_heads": config["num_key_value_heads"],
        "head_dim": head_dim,
    }


def _llama(config: Config) -> dict[str, Any]:
    biased = "qkvo" if config.get("attention_bias") else "none"
    # Llama 2's first files have no num_key_value_heads: one for each head.
    heads = {"num_key_value_heads": config["num_attention_heads"]}
    return _grouped(heads | dict(config)) | {
        "attention_bias": biased,
        "mlp_bias": config.get("mlp_bias", False),
    }


def _mixtral(config: Config) -> dict[str, Any]:
    return _grouped(config) | {
        name: config[name] for name in ("num_local_experts", "num_experts_per_tok")
    }


def _qwen2(config: Config) -> dict[str, Any]:
    return _grouped(config) | {"attention_bias": "qkv"}


def _qwen3(config: Config) -> dict[str, Any]:
    biased = "qkvo" if config.get("attention_bias") else "none"
    return _grouped({**config, "head_dim": config["head_dim"]}) | {
        "attention_bias": biased,
        "qk_norm": True,
    }


def _qwen_experts(config: Config) -> dict[str, Any]:
    """Layers are sparse unless mlp_only_layers names them or decoder_sparse_step leaves them out."""
    only, step = (
        config.get("mlp_only_layers") or (),
        config.get("decoder_sparse_step", 1),
    )
    layers = range(config["num_hidden_layers"])
    return {
        "num_local_experts": config["num_experts"],
        "num_experts_per_tok": config["num_experts_per_tok"],
        "moe_intermediate_size": config["moe_intermediate_size"],
        "num_dense_layers": sum(
            1 for layer in layers if layer in only or (layer + 1) % step != 0
        ),
    }


def _qwen2_moe(config: Config) -> dict[str, Any]:
    biased = "qkv" if config.get("qkv_bias", True) else "none"
    shared = config["shared_expert_intermediate_size"]
    return (
        _grouped(config)
        | _qwen_experts(config)
        | {
            "attention_bias": biased,
            "shared_expert_intermediate_size": shared,
            "shared_expert_gate": True,
        }
    )


def _qwen3_moe(config: Config) -> dict[str, Any]:
    return _qwen3(config) | _qwen_experts(config)


def _deepseek(config: Config) -> dict[str, Any]:
    latent = LatentAttention(
        q_lora_rank=config["q_lora_rank"],
        **{
            n: config[n]
            for n in (
                "kv_lora_rank",
                "qk_nope_head_dim",
                "qk_rope_head_dim",
                "v_head_dim",
            )
        },
    )
    fields = _decoder(config) | {
        "intermediate_size": config["intermediate_size"],
        "num_key_value_heads": config["num_attention_heads"],
        "head_dim": latent.qk_nope_head_dim + latent.qk_rope_head_dim,
        "attention_bias": "qkvo" if config.get("attention_bias") else "none",
        "latent": msgspec.to_builtins(latent),
    }
    if config.get("mlp_bias"):
        raise _Refused("mlp_bias is true")
    experts = config["n_routed_experts"]
    if experts is None:
        return fields
    return fields | {
        "num_local_experts": experts,
        "num_experts_per_tok": config["num_experts_per_tok"],
        "moe_intermediate_size": config["moe_intermediate_size"],
        "shared_expert_intermediate_size": config["moe_intermediate_size"]
        * (config.get("n_shared_experts") or 0),
        "num_dense_layers": min(
            config["first_k_dense_replace"], config["num_hidden_layers"]
        ),
    }


# DeepSeek-V3's extra layer for predicting two tokens at once (num_nextn_predict_layers)
# is not loaded by the engines unless asked for, and not counted; its routers'
# correction bias is a buffer, which transformers does not count either.
_READERS: dict[str, Callable[[Config], dict[str, Any]]] = {
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
