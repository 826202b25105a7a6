"""Recurrent layers: a fixed state, whatever the context."""

import json
import subprocess
from pathlib import Path

import pytest

from perfgate.engines import environment
from perfgate.models.shapes.recurrent import (
    DeltaNet,
    KimiDelta,
    Mamba2,
    delta_net,
    kimi_delta,
    mamba2,
    short_convolution,
)
from tests.support.model_configs import shape_of

SCRIPT = Path(__file__).resolve().parents[3] / "support" / "state_shapes.py"
DELTA = DeltaNet(
    hidden=64,
    key_heads=2,
    value_heads=4,
    key_dim=16,
    value_dim=8,
    kernel=4,
    fused=True,
    state_bytes=4,
)
MAMBA = Mamba2(
    hidden=64,
    heads=4,
    head_dim=16,
    groups=2,
    state=8,
    kernel=4,
    bias=False,
    convolution_bias=True,
    state_bytes=4,
)


def state_bytes(mixer):
    """Bytes that each layer keeps of a sequence, in bfloat16."""
    return sum(part.size_bytes("bfloat16", 1e6) for part in mixer.cache)


@pytest.mark.parametrize(
    ("mixer", "expected"),
    [
        # three inputs of the convolution in bfloat16, a matrix for each value head
        (delta_net(DELTA), 3 * (2 * 32 + 32) * 2 + 4 * 16 * 8 * 4),
        (kimi_delta(KimiDelta(64, 4, 16, 4)), 3 * 192 * 2 + 4 * 16 * 16 * 4),
        (mamba2(MAMBA), 3 * (64 + 32) * 2 + 64 * 8 * 4),
        (short_convolution(64, 3, bias=False), 2 * 64 * 2),
    ],
    ids=["delta", "kimi", "mamba", "convolution"],
)
def test_state_of_a_sequence(mixer, expected):
    """The last inputs of the convolution, and the state in its own precision."""
    assert {"fixed"} == {part.kind for part in mixer.cache}
    assert expected == state_bytes(mixer)


def test_fused_projections_are_as_large_as_apart():
    """Whether four projections are two or four."""
    apart = DELTA._replace(fused=False)

    assert sum(t.parameters for t in delta_net(DELTA).tensors) == sum(
        t.parameters for t in delta_net(apart).tensors
    )


def test_more_ranks_than_groups_copy_them():
    """Two groups of Mamba-2 are shared by two ranks; heads by four."""
    pieces = {t.pieces for t in mamba2(MAMBA).tensors if t.split}

    assert {2, 4} == pieces


# Layers of Qwen3.5-35B, Nemotron-3-Nano, Kimi Linear and LFM2, as vLLM is asked for them.
QUESTIONS = {
    "qwen3.5-35b-a3b": (
        "gated_delta_net",
        {
            "num_k_heads": 16,
            "num_v_heads": 32,
            "head_k_dim": 128,
            "head_v_dim": 128,
            "conv_kernel_size": 4,
        },
    ),
    "nemotron-3-nano": (
        "mamba2",
        {
            "intermediate_size": 4096,
            "n_groups": 8,
            "num_heads": 64,
            "head_dim": 64,
            "state_size": 128,
            "conv_kernel": 4,
        },
    ),
    "kimi-linear-48b-a3b": (
        "kda",
        {"num_heads": 32, "head_dim": 128, "conv_kernel_size": 4},
    ),
    "lfm2-8b-a1b": (
        "short_conv",
        {"intermediate_size": 2048, "conv_kernel": 3},
    ),
}


def states(name, ranks):
    """Values on each rank, of each part of the state of a layer that has one."""
    for layer in shape_of(name).told.kinds:
        parts = [part for part in layer.cache if part.kind == "fixed"]
        if parts:
            return [part.values // part.divisor(ranks) for part in parts]
    return []


@pytest.mark.engine
@pytest.mark.parametrize("ranks", [1, 2])
def test_states_are_those_of_vllm(ranks):
    """Part by part, as vLLM itself computes them."""
    asked = [
        (kind, fields | {"tp_world_size": ranks})
        for kind, fields in QUESTIONS.values()
    ]

    run = subprocess.run(
        [environment.find_python("vllm", "cpu", {}).path, SCRIPT],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        check=True,
    )
    answers = json.loads(run.stdout.splitlines()[-1])

    assert [states(name, ranks) for name in QUESTIONS] == answers
