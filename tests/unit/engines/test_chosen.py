"""Choices of an engine: one spelling each, and "not seen" where nothing is known."""

import pytest

from perfgate.engines.chosen import (
    CHOICES,
    NOT_SEEN,
    canonical,
    canonical_all,
    complete,
    sizes,
)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("attention_backend", "AttentionBackendEnum.FLASH_ATTN", "FLASH_ATTN"),
        ("attention_backend", "FLASH_ATTN", "FLASH_ATTN"),
        ("moe_backend", "FlashInfer TRTLLM", "FLASHINFER_TRTLLM"),
        ("moe_backend", "CPUUnquantizedExperts", "CPU"),
        ("moe_backend", "auto", NOT_SEEN),
        ("moe_backend", NOT_SEEN, NOT_SEEN),
        ("kv_cache_dtype", "auto", "auto"),
        ("quantization", "None", "none"),
        ("graphs", "on", "on"),
    ],
)
def test_each_value_has_one_spelling(name, value, expected):
    """Twice over as well as once."""
    assert expected == canonical(name, value)
    assert expected == canonical(name, canonical(name, value))


def test_sides_of_a_ratio_keep_their_prefix():
    """The name behind the dot decides."""
    assert {"numerator.moe_backend": NOT_SEEN} == canonical_all(
        {"numerator.moe_backend": "auto"}
    )


def test_every_choice_has_a_value():
    """What was not read is not seen."""
    choices = complete({"graphs": "on"})

    assert set(CHOICES) == set(choices)
    assert {"on", NOT_SEEN} == set(choices.values())


@pytest.mark.parametrize(
    ("numbers", "text"), [([], "none"), ([4], "4"), ([8, 1, 2], "1 to 8 (3)")]
)
def test_sizes_in_short(numbers, text):
    """First, last and number."""
    assert text == sizes(numbers)
