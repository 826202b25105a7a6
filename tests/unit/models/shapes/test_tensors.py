"""Tensors: parameters, bytes, and the ranks that share them."""

import pytest

from perfgate.models.shapes.formats import MXFP4, fp8_blocks
from perfgate.models.shapes.split import Split
from perfgate.models.shapes.tensors import Tensor, by_heads, matrix, vector

EIGHT = Split(tensor_parallel=8)


def test_bytes_with_and_without_a_format():
    """A quantized tensor has its own size, whatever the model's data type."""
    plain = Tensor("experts", "experts", (64, 32), count=4)
    small = Tensor("experts", "experts", (64, 32), count=4, format=MXFP4)

    assert 4 * 64 * 32 == plain.parameters
    assert 4 * 64 * 32 * 2 == plain.size_bytes("bfloat16")
    assert 4 * 64 * 32 * 4.25 / 8 == small.size_bytes("float32")


@pytest.mark.parametrize(
    ("tensor", "divisor"),
    [
        (matrix("up", "dense", 64, 32, split="outputs"), 8),
        (matrix("gate", "router", 64, 32), 1),
        (by_heads("q", 64, 32, heads=16), 8),
        (by_heads("k", 64, 32, heads=2), 2),
        (vector("norm", "norms", 64), 1),
        (Tensor("experts.up_proj", "experts", (64,), 4, split="outputs"), 8),
        (Tensor("experts.down_proj", "experts", (64,), 4), 1),
    ],
)
def test_ranks_that_share_a_tensor(tensor, divisor):
    """All, as many as it has heads, or none."""
    assert divisor == tensor.divisor(EIGHT)


def test_data_parallel_groups_share_experts_alone():
    """Four groups of two ranks: experts over eight, all else over two."""
    split = Split(tensor_parallel=2, data_parallel=4)

    dense = matrix("up", "dense", 64, 32, split="outputs")
    experts = Tensor("experts.up", "experts", (64, 32), split="outputs")

    assert (2, 8) == (dense.divisor(split), experts.divisor(split))


def test_experts_that_are_spread_whole_take_their_biases_along():
    """A bias is added once: each rank has room for it, or only those of its experts."""
    bias = Tensor("experts.down_proj", "experts", (64,), count=8)

    spread = Split(tensor_parallel=4, data_parallel=2, expert_parallel=True)
    shared = Split(tensor_parallel=4, data_parallel=2)

    assert (8, 1) == (bias.divisor(spread), bias.divisor(shared))


@pytest.mark.parametrize(
    ("tensor", "is_convertible"),
    [
        (matrix("q", "attention", 4, 4), True),
        (matrix("gate", "router", 4, 4), False),
        (matrix("embed_tokens", "embeddings", 4, 4), False),
        (vector("q", "attention", 4), False),
        (Tensor("w", "attention", (4, 4), convertible=False), False),
    ],
)
def test_matrices_of_layers_are_quantized(tensor, is_convertible):
    """Routers, embeddings, biases, and what is marked stay as they are."""
    assert is_convertible == tensor.is_convertible


def test_only_whole_blocks_bound_a_share():
    """Ranks must not divide a block of FP8; engines pad those of MXFP4."""
    shape = (256, 256)
    blocks = Tensor("up", "dense", shape, split="outputs", format=fp8_blocks())
    padded = Tensor("up", "dense", shape, split="inputs", format=MXFP4)

    assert (128, 1) == (blocks.split_block, padded.split_block)
