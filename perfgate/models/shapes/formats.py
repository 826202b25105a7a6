"""Formats: bytes of a weight in each precision, with its scales (fp8, mxfp4, nvfp4, int4)."""

from __future__ import annotations

import msgspec

from perfgate.errors import Failure

BYTES_PER_PARAMETER = {"float32": 4, "bfloat16": 2, "float16": 2}
# What a KV cache may be kept in.
BYTES_PER_CACHE_VALUE = BYTES_PER_PARAMETER | {"fp8": 1}


class Format(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    omit_defaults=True,
):
    """How a quantized matrix is kept: bits of a weight, and scales of a block of weights.

    Attributes:
        name: for the reader.
        bits: of a weight.
        rows: outputs that share a scale; 0 for all.
        columns: inputs that share a scale; 0 for all.
        scale_bits: of the scale of one block, with its zero point.
        bits_per_input: for each input of the matrix, such as GPTQ's order of groups.
        constant_bits: for each matrix, such as the scale of NVFP4's scales.
        whole_blocks: whether ranks must hold whole blocks; else engines pad.

    """

    name: str
    bits: float
    rows: int = 0
    columns: int = 0
    scale_bits: float = 0
    bits_per_input: int = 0
    constant_bits: int = 0
    whole_blocks: bool = False

    def size_bytes(self, outputs: int, inputs: int) -> float:
        """Bytes of a matrix."""
        rows = self.rows or outputs
        columns = self.columns or inputs
        blocks = -(-outputs // rows) * -(-inputs // columns)
        bits = outputs * inputs * self.bits + blocks * self.scale_bits
        bits += inputs * self.bits_per_input + self.constant_bits
        return bits / 8


def fp8_blocks(
    rows: int = 128, columns: int = 128, scale_bits: int = 32
) -> Format:
    """FP8 with a scale for each block, as DeepSeek publishes."""
    return Format(
        name="fp8",
        bits=8,
        rows=rows,
        columns=columns,
        scale_bits=scale_bits,
        whole_blocks=True,
    )


FP8_TENSOR = Format(name="fp8", bits=8, scale_bits=32)
FP8_CHANNEL = Format(name="fp8", bits=8, rows=1, scale_bits=32)
MXFP8 = Format(name="mxfp8", bits=8, rows=1, columns=32, scale_bits=8)
MXFP4 = Format(name="mxfp4", bits=4, rows=1, columns=32, scale_bits=8)
# Two more scales a matrix: of its scales, and of its input.
NVFP4 = Format(
    name="nvfp4", bits=4, rows=1, columns=16, scale_bits=8, constant_bits=64
)
INT8_CHANNEL = Format(name="int8", bits=8, rows=1, scale_bits=32)
# NF4: blocks of 64 weights along the whole matrix, with a scale in float32.
BITSANDBYTES_4 = Format(
    name="bitsandbytes 4 bit", bits=4, rows=1, columns=64, scale_bits=32
)
# Scales quantized to 8 bits, with a scale in float32 for 256 of them.
BITSANDBYTES_4_DOUBLE = Format(
    name="bitsandbytes 4 bit",
    bits=4,
    rows=1,
    columns=64,
    scale_bits=8 + 32 / 256,
)
BITSANDBYTES_8 = Format(
    name="bitsandbytes 8 bit", bits=8, rows=1, scale_bits=32
)

# What an engine can make of a model in bfloat16 while it loads it, by vLLM's and SGLang's
# names.
ONLINE: dict[str, Format] = {
    "fp8": FP8_TENSOR,
    "fp8_per_tensor": FP8_TENSOR,
    "fp8_per_channel": FP8_CHANNEL,
    "w8a8_fp8": FP8_CHANNEL,
    "fp8_per_block": fp8_blocks(),
    "int8_per_channel_weight_only": INT8_CHANNEL,
    "mxfp8": MXFP8,
    "mxfp4": MXFP4,
    "nvfp4": NVFP4,
    "nvfp4_per_token": NVFP4,
    "bitsandbytes": BITSANDBYTES_4,
}


class UnknownPrecision(Failure):
    """A precision whose size is not known."""


def online_format(name: str) -> Format:
    """What an engine makes of a matrix while it loads it.

    Raises:
        UnknownPrecision: no format has that name.

    """
    if name in ONLINE:
        return ONLINE[name]
    raise UnknownPrecision(
        tried=f"computing the size of weights that an engine quantizes by {name!r}",
        seen="the size of that precision is not known",
        remedy=f"use one of {', '.join(ONLINE)}",
    )
