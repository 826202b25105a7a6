"""Attention: grouped heads, latent attention and indexes, tensor by tensor."""

import pytest

from perfgate.models.shapes.attention import (
    Heads,
    Index,
    LatentAttention,
    grouped,
    latent,
    with_index,
)

HEADS = Heads(hidden=64, heads=8, kv_heads=2, head_dim=16)
LATENT = LatentAttention(
    q_lora_rank=24,
    kv_lora_rank=32,
    qk_nope_head_dim=16,
    qk_rope_head_dim=8,
    v_head_dim=16,
)


def parameters(mixer):
    """Of all its tensors."""
    return sum(tensor.parameters for tensor in mixer.tensors)


@pytest.mark.parametrize(
    ("changes", "more"),
    [
        ({"bias": "qkv"}, 128 + 2 * 32),
        ({"bias": "qkvo"}, 128 + 2 * 32 + 64),
        ({"norm": "head"}, 2 * 16),
        ({"norm": "all"}, 128 + 32),
        ({"gated": True}, 128 * 64),
        ({"separate_gate": True}, 128 * 64),
        ({"sinks": True}, 8),
        ({"value_dim": 8}, -(64 * 64 + 16 * 64)),
    ],
)
def test_each_switch_adds_its_weights(changes, more):
    """Beside queries and outputs of 8 heads, keys and values of 2."""
    plain = 2 * 128 * 64 + 2 * 32 * 64

    assert plain == parameters(grouped(HEADS))
    assert plain + more == parameters(grouped(HEADS._replace(**changes)))


def test_a_window_bounds_the_cache():
    """Of keys and values of both heads, which two ranks can share."""
    (part,) = grouped(HEADS._replace(window=128)).cache

    assert ("window", 128, 64, 2) == (
        part.kind,
        part.window,
        part.values,
        part.pieces,
    )


def test_latent_attention_keeps_one_vector():
    """All heads share it, so that no rank is spared a copy."""
    (part,) = latent(64, 4, LATENT).cache

    assert (40, 1) == (part.values, part.pieces)


def test_queries_may_be_whole():
    """Without compression they are one matrix."""
    whole = LatentAttention(
        q_lora_rank=None,
        kv_lora_rank=32,
        qk_nope_head_dim=16,
        qk_rope_head_dim=8,
        v_head_dim=16,
    )
    # 24 x 64 + 24 + 96 x 24 in place of 96 x 64
    compressed = 24 * 64 + 24 + 96 * 24

    fewer = parameters(latent(64, 4, whole)) - parameters(latent(64, 4, LATENT))

    assert 96 * 64 - compressed == fewer


def test_an_index_bounds_what_a_step_reads():
    """Its own keys are read whole; a layer without one reads as few."""
    main = latent(64, 4, LATENT)
    index = Index(hidden=64, query_inputs=24, heads=2, head_dim=16)

    own = with_index(main, index, 100)
    shared = with_index(main, None, 100)

    assert 100 == own.cache[0].entries_read == shared.cache[0].entries_read
    assert ("index", 16) == (own.cache[1].kind, own.cache[1].values)
    assert 1 == len(shared.cache)
    # queries, keys, norm with bias, weights of heads
    assert 2 * 16 * 24 + 16 * 64 + 2 * 16 + 2 * 64 == parameters(
        own
    ) - parameters(shared)
