"""Precision: flags of quantized weights and of the KV cache's number format.

vLLM and SGLang spell both alike; the methods and formats that they know differ.
"""

from __future__ import annotations

from perfgate.engines.base import ServerConfig


def precision_flags(config: ServerConfig) -> list[str]:
    """The flags of what the configuration sets; the rest is the engine's default."""
    flags = []
    if config.quantization:
        flags += ["--quantization", config.quantization]
    if config.kv_cache_dtype != "auto":
        flags += ["--kv-cache-dtype", config.kv_cache_dtype]
    return flags
