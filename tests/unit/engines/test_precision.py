"""Precision: what both engines are told of quantized weights and the KV cache."""

from perfgate.engines.base import ServerConfig
from perfgate.engines.precision import precision_flags


def test_flags_are_those_that_are_set():
    """Without a setting the engine has its default."""
    plain = ServerConfig(engine="vllm", model="m")
    quantized = ServerConfig(
        engine="vllm", model="m", quantization="fp8", kv_cache_dtype="fp8_e5m2"
    )

    assert [] == precision_flags(plain)
    assert [
        "--quantization",
        "fp8",
        "--kv-cache-dtype",
        "fp8_e5m2",
    ] == precision_flags(quantized)
