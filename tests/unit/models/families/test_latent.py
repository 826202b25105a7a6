"""Families with latent attention: indexes, compressed caches, experts without weights."""

import pytest

from perfgate.models.catalogue import UnknownArchitecture
from tests.support.model_configs import shape_of


def test_layers_of_glm_share_an_index():
    """Of 78 layers of GLM-5.2, 21 have an index of their own."""
    indexes = [
        part.kind
        for layer in shape_of("glm-5.2").layers
        for part in layer.cache
    ]

    assert (78, 21) == (indexes.count("growing"), indexes.count("index"))


def test_sparse_attention_reads_a_chosen_few():
    """At 100,000 tokens a step of DeepSeek-V3.2 reads 2,048 entries and all index keys."""
    shape = shape_of("deepseek-v3.2")
    read = [
        shape.step_bytes_per_rank(1, "bfloat16", 1, tokens)
        for tokens in (0, 100_000)
    ]

    # 61 layers: 2,048 x 576 values in bfloat16, 100,000 keys of 132 bytes
    assert 61 * (2048 * 576 * 2 + 100_000 * 132) == pytest.approx(
        read[1] - read[0]
    )


def test_compressed_layers_of_deepseek_v4():
    """Two see a window alone; the others compress 4 or 128 tokens to an entry."""
    layers = shape_of("deepseek-v4-flash").layers
    ratios = []
    for layer in layers:
        grown = [part for part in layer.cache if part.kind == "growing"]
        ratios.append(grown[0].tokens_per_entry if grown else 0)

    assert [0, 0, 4, 128, 4, 128] == ratios[:6]
    assert ["hash", "hash", "hash", "sparse"] == [
        layer.feed_forward for layer in layers[:4]
    ]


def test_experts_of_deepseek_v4_have_four_bits():
    """`expert_dtype` says so; all else is FP8: 156 GB in place of 285."""
    shape = shape_of("deepseek-v4-flash")
    in_fp8 = shape_of("deepseek-v4-flash", expert_dtype="fp8")

    assert [156, 286] == [
        round(one.weights_bytes("bfloat16") / 1e9) for one in (shape, in_fp8)
    ]
    with pytest.raises(UnknownArchitecture, match="expert_dtype is 'fp2'"):
        shape_of("deepseek-v4-flash", expert_dtype="fp2")


def test_active_parameters_of_longcat_vary():
    """A token that chooses experts without weights uses fewer parameters: 8 of 12 on average."""
    shape = shape_of("longcat-flash")
    least, most = shape.active_range

    assert 8 == shape.mean_experts_per_tok
    assert least < shape.active_parameters < most
    assert 12 * shape.expert_parameters == most - least


@pytest.mark.parametrize(
    ("name", "changes", "seen"),
    [
        ("glm-5", {"q_lora_rank": None}, "q_lora_rank is None"),
        ("glm-5.2", {"indexer_types": ["none"] * 78}, "indexer_types names"),
        ("deepseek-v4-flash", {"compress_ratios": [8] * 43}, "compress_ratios"),
        ("deepseek-v4-flash", {"compress_ratios": [4]}, "1 entries, for 43"),
        ("longcat-flash", {"moe_topk": 1000}, "moe_topk is 1000"),
    ],
)
def test_what_is_not_understood_is_refused(name, changes, seen):
    """The field is named."""
    with pytest.raises(UnknownArchitecture, match=seen):
        shape_of(name, **changes)
