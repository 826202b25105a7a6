"""Architecture arithmetic: bytes and FLOPs of the study's models."""

import pytest

from perfgate.models.catalogue import CATALOGUE

MIXTRAL = CATALOGUE["mixtral-8x7b"].architecture
LLAMA = CATALOGUE["llama-3.1-8b"].architecture


def test_parameters_of_the_studys_models():
    """Mixtral-8x7B has 46.70 B parameters, 12.88 B of them active; Llama-3.1-8B has 8.03 B."""
    assert 46_702_792_704 == MIXTRAL.parameters
    assert 12_879_925_248 == MIXTRAL.active_parameters
    assert 8_030_261_248 == LLAMA.parameters


def test_experts_hold_nearly_all_of_mixtral():
    """45.10 B parameters are in experts, so what every rank would share is 1.61 B."""
    # 32 layers x 8 experts x 3 matrices x 4096 x 14336
    assert 32 * 8 * 3 * 4096 * 14336 == 8 * MIXTRAL.expert_parameters
    assert (
        1_605_636_096 == MIXTRAL.parameters - 8 * MIXTRAL.expert_parameters - 0
    )


def test_weights_per_rank():
    """At TP=2 each rank holds 46.7 GB of Mixtral; only routers and norms are held twice."""
    assert 46.7 == pytest.approx(
        MIXTRAL.weights_bytes_per_rank(2, "bfloat16") / 1e9, rel=1e-3
    )
    assert 2 * MIXTRAL.parameters == MIXTRAL.weights_bytes_per_rank(
        1, "bfloat16"
    )


def test_kv_cache_is_the_same_for_both():
    """Both models keep 131,072 bytes of KV cache per token: 2 x 32 layers x 8 heads x 128 x 2."""
    assert (
        131_072
        == MIXTRAL.kv_bytes_per_token("bfloat16")
        == LLAMA.kv_bytes_per_token("bfloat16")
    )


def test_experts_touched_grow_with_the_batch():
    """One token touches 2 of 8 experts, two touch 3.5 on average, many touch all."""
    # 8 x (1 - (3/4)^B)
    assert 2 == pytest.approx(MIXTRAL.expected_experts_touched(1))
    assert 3.5 == pytest.approx(MIXTRAL.expected_experts_touched(2))
    assert 8 == pytest.approx(MIXTRAL.expected_experts_touched(64), rel=1e-6)
    assert 1 == LLAMA.expected_experts_touched(32)


def test_a_measured_popularity_is_below_the_bound():
    """Where half of the experts are never chosen, many tokens touch four of eight."""
    popular = [0.25] * 4 + [0.0] * 4

    assert MIXTRAL.expected_experts_touched(8) == pytest.approx(
        MIXTRAL.expected_experts_touched(8, [1 / 8] * 8)
    )
    assert 4 * (1 - 0.5**8) == pytest.approx(
        MIXTRAL.expected_experts_touched(8, popular)
    )


def test_layers_may_differ_in_popularity():
    """Their mean counts; an expert that every token chooses is certain."""
    layers = [[1 / 8] * 8, [0.5, 0.5] + [0.0] * 6]

    even = MIXTRAL.expected_experts_touched(4)

    assert (even + 2) / 2 == pytest.approx(
        MIXTRAL.expected_experts_touched(4, layers)
    )


def test_a_step_reads_fewer_of_uneven_experts():
    """The bytes of a step follow."""
    read = [
        MIXTRAL.step_bytes_per_rank(1, "bfloat16", 64, shares=shares)
        for shares in (None, [0.5, 0.5] + [0.0] * 6)
    ]

    # six of eight experts are not read
    assert 6 * MIXTRAL.expert_parameters * 2 == pytest.approx(
        read[0] - read[1], rel=1e-3
    )
