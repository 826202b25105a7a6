"""Registry: the reader of each model family, by its model_type."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from perfgate.models.architecture import Architecture
from perfgate.models.families import (
    gemma,
    latent,
    mamba,
    plain,
    recurrent,
    routed,
    windows,
)
from perfgate.models.families.fields import Fields

READERS: Mapping[str, Callable[[Fields], Architecture]] = {
    "llama": plain.read_llama,
    "granite": plain.read_llama,
    "smollm3": plain.read_llama,
    "mistral": plain.read_mistral,
    "ministral3": plain.read_mistral,
    "phi3": plain.read_mistral,
    "mixtral": plain.read_mixtral,
    "qwen2": plain.read_qwen2,
    "qwen2_moe": plain.read_qwen2_moe,
    "qwen3": plain.read_qwen3,
    "qwen3_vl_text": plain.read_qwen3,
    "qwen3_moe": plain.read_qwen3_moe,
    "qwen3_vl_moe_text": plain.read_qwen3_moe,
    "deepseek_v2": plain.read_deepseek,
    "deepseek_v3": plain.read_deepseek,
    "kimi_k2": plain.read_deepseek,
    "glm4_moe_lite": plain.read_deepseek,
    "mistral4": plain.read_deepseek,
    "deepseek_v32": latent.read_indexed,
    "glm_moe_dsa": latent.read_indexed,
    "deepseek_v4": latent.read_deepseek_v4,
    "longcat_flash": latent.read_longcat,
    "gpt_oss": windows.read_gpt_oss,
    "llama4_text": windows.read_llama4,
    "afmoe": windows.read_afmoe,
    "exaone_moe": windows.read_exaone_moe,
    "hy_v3": windows.read_exaone_moe,
    "mimo_v2_flash": windows.read_mimo,
    "gemma2": gemma.read_gemma,
    "gemma3_text": gemma.read_gemma,
    "gemma4_text": gemma.read_gemma4,
    "glm4_moe": routed.read_glm4_moe,
    "glm4v_moe_text": routed.read_glm4_moe,
    "dots1": routed.read_dots1,
    "minimax_m2": routed.read_minimax_m2,
    "minimax_m3": routed.read_minimax_m3,
    "minimax_m3_vl_text": routed.read_minimax_m3,
    "olmoe": routed.read_olmoe,
    "granitemoe": routed.read_granitemoe,
    "phimoe": routed.read_phimoe,
    "ernie4_5_moe": routed.read_ernie,
    "hunyuan_v1_moe": routed.read_hunyuan,
    "qwen3_next": recurrent.read_qwen3_next,
    "qwen3_5_text": recurrent.read_qwen3_5,
    "qwen3_5_moe_text": recurrent.read_qwen3_5,
    "kimi_linear": recurrent.read_kimi_linear,
    "glm5_next_text": recurrent.read_glm5_next,
    "nemotron_h": mamba.read_nemotron,
    "granitemoehybrid": mamba.read_granite_hybrid,
    "lfm2_moe": recurrent.read_lfm2_moe,
}

# Models that also see pictures -> their text part, where it does not name its own
# family. Encoders of pictures are not counted.
TEXT_PARTS: Mapping[str, str] = {
    "deepseek_v3": "deepseek_v3",
    "gemma3": "gemma3_text",
    "gemma4": "gemma4_text",
    "glm4v_moe": "glm4v_moe_text",
    "glm5_next": "glm5_next_text",
    "kimi_k25": "kimi_k2",
    "llama4": "llama4_text",
    "minimax_m3_vl": "minimax_m3_vl_text",
    "mistral3": "mistral",
    "qwen3_5": "qwen3_5_text",
    "qwen3_5_moe": "qwen3_5_moe_text",
    "qwen3_vl": "qwen3_vl_text",
    "qwen3_vl_moe": "qwen3_vl_moe_text",
}
