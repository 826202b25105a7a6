"""Splits: what ranks hold, and the splits that no engine makes."""

import pytest

from perfgate.models.catalogue import parse_config
from perfgate.models.shapes.split import CannotSplit, Split
from tests.support.model_configs import shape_of
from tests.support.studies import SHIPPED

MIXTRAL = SHIPPED.models["mixtral-8x7b"].architecture


def llama(**changes):
    """Llama-3.1-8B with other fields."""
    return parse_config(SHIPPED.models["llama-3.1-8b"].config | changes, "x")


def per_rank(shape, **split):
    """Gigabytes of weights on each rank."""
    size_bytes = shape.weights_bytes_per_rank(Split(**split), "bfloat16")
    return round(size_bytes / 1e9, 2)


@pytest.mark.parametrize(
    ("shape", "split", "seen"),
    [
        # 24 heads over 3 ranks, and 8 key-value heads
        (
            llama(num_attention_heads=24, head_dim=128),
            {"tensor_parallel": 3},
            "k_proj has 8 heads, which 3 does not divide",
        ),
        (
            llama(num_attention_heads=24, head_dim=128),
            {"tensor_parallel": 6},
            "k_proj has 8 heads, which 6 does not divide",
        ),
        (
            llama(num_attention_heads=35, num_key_value_heads=5),
            {"tensor_parallel": 5},
            "gate_proj is 14336 wide, which 5 does not divide",
        ),
        (
            shape_of("glm-4.7-flash"),
            {"tensor_parallel": 8},
            "num_attention_heads is 20",
        ),
        (
            shape_of("qwen3-30b-a3b-fp8"),
            {"tensor_parallel": 4},
            "192 wide, and its scales are for blocks of 128",
        ),
        (
            MIXTRAL,
            {"data_parallel": 3, "expert_parallel": True},
            "experts is 8",
        ),
        (
            MIXTRAL,
            {
                "tensor_parallel": 4,
                "expert_parallel": True,
                "redundant_experts": 1,
            },
            "experts is 9",
        ),
        (
            shape_of("qwen3-next-80b-a3b", num_attention_heads=32),
            {"tensor_parallel": 32},
            "has 16 heads",
        ),
    ],
)
def test_splits_that_no_engine_makes(shape, split, seen):
    """Heads, widths, blocks of scales, and experts that are spread whole must divide."""
    with pytest.raises(CannotSplit, match=seen) as error:
        shape.check_split("model", Split(**split))
    assert "--tp" in error.value.remedy


@pytest.mark.parametrize(
    ("shape", "split"),
    [
        (shape_of("qwen3-vl-30b-a3b"), {"tensor_parallel": 8}),
        (
            shape_of("qwen3-30b-a3b-fp8"),
            {"tensor_parallel": 4, "expert_parallel": True},
        ),
        (shape_of("gpt-oss-120b"), {"tensor_parallel": 8}),
        (shape_of("deepseek-v3-fp8"), {"tensor_parallel": 8}),
        (shape_of("nemotron-3-super-nvfp4"), {"tensor_parallel": 4}),
    ],
)
def test_splits_that_engines_make(shape, split):
    """More ranks than key-value heads copy them; whole experts need no width."""
    shape.check_split("model", Split(**split))


def test_data_parallel_groups_hold_attention_whole():
    """Of DeepSeek-V3 on 8 GPUs, attention and dense layers lie on each: 18 GB more."""
    shape = shape_of("deepseek-v3-fp8")

    tensor = per_rank(shape, tensor_parallel=8, expert_parallel=True)
    data = per_rank(shape, data_parallel=8, expert_parallel=True)
    shared = shape.shared_parameters / 1e9

    assert 85.14 == tensor
    assert tensor < data < tensor + 2 * shared


def test_redundant_experts_take_their_place():
    """Eight more copies of Mixtral's eight experts are as much again."""
    plain = per_rank(MIXTRAL, tensor_parallel=8, expert_parallel=True)
    twice = per_rank(
        MIXTRAL, tensor_parallel=8, expert_parallel=True, redundant_experts=8
    )
    experts = 8 * MIXTRAL.expert_parameters * 2 / 8 / 1e9

    assert round(experts, 2) == pytest.approx(twice - plain, abs=0.02)


def test_expert_parallelism_alone_changes_nothing():
    """A rank holds some experts whole in place of a share of each."""
    assert per_rank(MIXTRAL, tensor_parallel=2) == per_rank(
        MIXTRAL, tensor_parallel=2, expert_parallel=True
    )


def test_a_groups_cache_is_its_own():
    """Each data parallel group keeps the whole cache of its requests."""
    split = Split(data_parallel=8)

    assert 131_072 == MIXTRAL.kv_bytes_per_token_per_rank(split, "bfloat16")
