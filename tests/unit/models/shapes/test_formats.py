"""Formats: bytes of a weight with its scales."""

import pytest

from perfgate.models.shapes import formats


@pytest.mark.parametrize(
    ("form", "bits"),
    [
        (formats.MXFP4, 4.25),
        (formats.NVFP4, 4.5),
        (formats.MXFP8, 8.25),
        (formats.FP8_TENSOR, 8),
        (formats.fp8_blocks(), 8.002),
        (formats.BITSANDBYTES_4, 4.5),
        (formats.BITSANDBYTES_4_DOUBLE, 4.127),
    ],
)
def test_bits_of_a_weight(form, bits):
    """Scales are counted with the weights of a large matrix."""
    size_bits = 8 * form.size_bytes(4096, 4096)

    assert bits == pytest.approx(size_bits / 4096**2, abs=0.001)


def test_a_block_that_is_not_full_has_a_scale_too():
    """A matrix of 129 x 130 has four blocks of 128 x 128."""
    assert 129 * 130 + 4 * 4 == formats.fp8_blocks().size_bytes(129, 130)


def test_order_of_groups_is_counted():
    """GPTQ keeps a number of 32 bits for each input."""
    form = formats.Format(name="int4", bits=4, bits_per_input=32)

    assert 10 * 8 / 2 + 8 * 4 == form.size_bytes(10, 8)


def test_a_scale_for_each_output():
    """A channel's scale covers all inputs."""
    assert 10 * 8 + 10 * 4 == formats.FP8_CHANNEL.size_bytes(10, 8)
