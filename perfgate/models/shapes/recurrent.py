"""Recurrent layers: linear attention, Mamba-2 and convolutions, with a fixed state."""

from __future__ import annotations

from typing import NamedTuple

from perfgate.models.shapes.attention import Mixer
from perfgate.models.shapes.cache import CachePart
from perfgate.models.shapes.tensors import (
    Tensor,
    by_heads,
    from_heads,
    matrix,
    vector,
)


class DeltaNet(NamedTuple):
    """Qwen's gated delta net.

    Attributes:
        fused: whether queries, keys, values and the gate are one projection, and both
            decays another one.
        state_bytes: of a value of the state; 0 for the cache's precision.

    """

    hidden: int
    key_heads: int
    value_heads: int
    key_dim: int
    value_dim: int
    kernel: int
    fused: bool
    state_bytes: float


def delta_net(shape: DeltaNet) -> Mixer:
    """Linear attention whose state is a matrix for each value head."""
    keys = shape.key_heads * shape.key_dim
    values = shape.value_heads * shape.value_dim
    name = "linear_attn"
    widths = {"in_proj_qkvz": 2 * keys + 2 * values, "in_proj_ba": 0}
    if shape.fused:
        widths["in_proj_ba"] = 2 * shape.value_heads
    else:
        widths = {
            "in_proj_qkv": 2 * keys + values,
            "in_proj_z": values,
            "in_proj_b": shape.value_heads,
            "in_proj_a": shape.value_heads,
        }
    tensors = []
    for projection, width in widths.items():
        tensor = by_heads(
            f"{name}.{projection}", width, shape.hidden, shape.key_heads
        )
        tensors.append(tensor)
    convolved = 2 * keys + values
    tensors += [
        from_heads(f"{name}.out_proj", shape.hidden, values, shape.value_heads),
        vector(
            f"{name}.conv1d",
            "attention",
            convolved * shape.kernel,
            pieces=shape.key_heads,
        ),
        Tensor(
            f"{name}.A_log",
            "attention",
            (shape.value_heads,),
            count=2,
            split="outputs",
            pieces=shape.value_heads,
        ),
        vector(f"{name}.norm", "norms", shape.value_dim),
    ]
    return Mixer(
        tuple(tensors),
        fixed_state(
            convolved * (shape.kernel - 1),
            shape.value_heads * shape.key_dim * shape.value_dim,
            shape.value_heads,
            shape.state_bytes,
        ),
    )


def fixed_state(
    convolution: int, state: int, pieces: int, state_bytes: float
) -> tuple[CachePart, ...]:
    """What a recurrent layer keeps: the last inputs of its convolution, and its state."""
    parts = [CachePart(kind="fixed", values=convolution, pieces=pieces)]
    if state:
        part = CachePart(
            kind="fixed",
            values=state,
            pieces=pieces,
            bytes_per_value=state_bytes,
        )
        parts.append(part)
    return tuple(parts)


class KimiDelta(NamedTuple):
    """Kimi's linear attention (KDA): a decay for each channel."""

    hidden: int
    heads: int
    head_dim: int
    kernel: int


def kimi_delta(shape: KimiDelta) -> Mixer:
    """Linear attention with low-rank gates, and a state in float32."""
    width = shape.heads * shape.head_dim
    name = "self_attn"
    tensors = []
    for projection, inputs in (
        ("q_proj", shape.hidden),
        ("k_proj", shape.hidden),
        ("v_proj", shape.hidden),
        ("f_b_proj", shape.head_dim),
        ("g_b_proj", shape.head_dim),
    ):
        tensor = by_heads(f"{name}.{projection}", width, inputs, shape.heads)
        tensors.append(tensor)
    tensors += [
        matrix(f"{name}.f_a_proj", "attention", shape.head_dim, shape.hidden),
        matrix(f"{name}.g_a_proj", "attention", shape.head_dim, shape.hidden),
        by_heads(f"{name}.b_proj", shape.heads, shape.hidden, shape.heads),
        from_heads(f"{name}.o_proj", shape.hidden, width, shape.heads),
        vector(
            f"{name}.conv1d",
            "attention",
            3 * width * shape.kernel,
            pieces=shape.heads,
        ),
        vector(f"{name}.dt_bias", "attention", width, pieces=shape.heads),
        vector(f"{name}.A_log", "attention", shape.heads, pieces=shape.heads),
        vector(f"{name}.o_norm", "norms", shape.head_dim),
    ]
    return Mixer(
        tuple(tensors),
        fixed_state(
            3 * width * (shape.kernel - 1),
            shape.heads * shape.head_dim * shape.head_dim,
            shape.heads,
            state_bytes=4,
        ),
    )


class Mamba2(NamedTuple):
    """A Mamba-2 layer."""

    hidden: int
    heads: int
    head_dim: int
    groups: int
    state: int
    kernel: int
    bias: bool
    convolution_bias: bool
    state_bytes: float
    module: str = "mixer"


def mamba2(shape: Mamba2) -> Mixer:
    """A state space layer: a state of some values for each channel."""
    width = shape.heads * shape.head_dim
    grouped = 2 * shape.groups * shape.state
    convolved = width + grouped
    name = shape.module
    tensors = [
        by_heads(
            f"{name}.in_proj",
            2 * width + shape.heads,
            shape.hidden,
            shape.heads,
        ),
        Tensor(
            f"{name}.in_proj",
            "attention",
            (grouped, shape.hidden),
            split="outputs",
            pieces=shape.groups,
            replicable=True,
        ),
        from_heads(f"{name}.out_proj", shape.hidden, width, shape.heads),
        *_convolution(shape, width, grouped),
        # dt_bias, A_log and D
        Tensor(
            f"{name}.A_log",
            "attention",
            (shape.heads,),
            count=3,
            split="outputs",
            pieces=shape.heads,
        ),
        vector(f"{name}.norm", "norms", width, pieces=shape.heads),
    ]
    if shape.bias:
        inputs = 2 * width + grouped + shape.heads
        tensors += [
            vector(f"{name}.in_proj", "attention", inputs),
            vector(f"{name}.out_proj", "attention", shape.hidden),
        ]
    return Mixer(
        tuple(tensors),
        fixed_state(
            convolved * (shape.kernel - 1),
            width * shape.state,
            shape.heads,
            shape.state_bytes,
        ),
    )


def _convolution(shape: Mamba2, width: int, grouped: int) -> list[Tensor]:
    taps = shape.kernel
    if shape.convolution_bias:
        taps += 1
    name = f"{shape.module}.conv1d"
    return [
        vector(name, "attention", width * taps, pieces=shape.heads),
        vector(
            name,
            "attention",
            grouped * taps,
            pieces=shape.groups,
            replicable=True,
        ),
    ]


def short_convolution(hidden: int, kernel: int, *, bias: bool) -> Mixer:
    """LFM2's gated convolution over the last few tokens."""
    tensors = [
        matrix(
            "conv.in_proj", "attention", 3 * hidden, hidden, split="outputs"
        ),
        matrix("conv.out_proj", "attention", hidden, hidden, split="inputs"),
        Tensor("conv.conv", "attention", (hidden * kernel,), split="outputs"),
    ]
    if bias:
        tensors += [
            vector("conv.in_proj", "attention", 3 * hidden),
            vector("conv.out_proj", "attention", hidden),
            vector("conv.conv", "attention", hidden),
        ]
    # Whole heads do not exist here: any number of ranks divides the channels.
    part = CachePart(kind="fixed", values=hidden * (kernel - 1), pieces=hidden)
    return Mixer(tuple(tensors), (part,))
