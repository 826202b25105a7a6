"""Served models: the precision that an engine makes, and the split of a server's ranks."""

import msgspec
import pytest

from perfgate.engines.base import ServerConfig
from perfgate.engines.served import (
    cache_dtype,
    served_architecture,
    split_of,
    step_bytes_per_rank,
)
from perfgate.models.catalogue import lookup

DENSE = ServerConfig(engine="vllm", model="llama-3.1-8b", device="cuda")
SPARSE = ServerConfig(engine="vllm", model="mixtral-8x7b", device="cuda")


def changed(server, **fields):
    """The server with other fields."""
    return msgspec.structs.replace(server, **fields)


def test_an_engine_quantizes_what_is_published_whole():
    """Half of the bytes of the layers' matrices; embeddings stay as they are."""
    plain = lookup("llama-3.1-8b").architecture
    quantized = served_architecture(changed(DENSE, quantization="fp8"))

    whole = plain.weights_bytes("bfloat16")
    left = quantized.weights_bytes("bfloat16")
    kept = plain.group_parameters("embeddings") * 2
    assert plain == served_architecture(DENSE)
    assert left == pytest.approx(kept + (whole - kept) / 2, rel=0.001)


def test_a_cache_in_another_format_is_read_in_fewer_bytes():
    """One byte a value, whichever of the two formats; else that of the weights."""
    formats = {"auto": "bfloat16", "fp8": "fp8", "fp8_e4m3": "fp8"}
    for name, expected in formats.items():
        assert expected == cache_dtype(changed(DENSE, kv_cache_dtype=name))
    plain = step_bytes_per_rank(DENSE, 8, 1000) - step_bytes_per_rank(
        DENSE, 8, 0
    )
    server = changed(DENSE, kv_cache_dtype="fp8")
    smaller = step_bytes_per_rank(server, 8, 1000) - step_bytes_per_rank(
        server, 8, 0
    )
    assert plain == pytest.approx(2 * smaller)


@pytest.mark.parametrize("shares", [True, False])
def test_copies_that_share_experts_hold_a_part_of_them(shares):
    """Other copies are whole models: each has its part of the batch."""
    server = changed(
        SPARSE, data_parallel_size=8, data_parallel_attention=shares
    )
    split = split_of(server)
    held = served_architecture(server).weights_bytes_per_rank(split, "bfloat16")
    whole = lookup("mixtral-8x7b").architecture.weights_bytes("bfloat16")

    assert (8 if shares else 1) == split.data_parallel
    assert shares == (held < whole / 4)
    if not shares:
        assert step_bytes_per_rank(server, 64, 0) == step_bytes_per_rank(
            SPARSE, 8, 0
        )
