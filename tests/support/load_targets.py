"""A fake engine as a server to be measured, and a small load for it."""

from __future__ import annotations

from typing import Any

from perfgate.load.measurement import Target
from perfgate.load.workload import Synthetic, Workload
from tests.support.fake_launch import FakeEngine

# One client process: a busy machine is no reason to send it all again.
SMALL = Workload(
    name="closed",
    num_prompts=12,
    max_concurrency=4,
    client_processes=1,
    prompts=Synthetic(input_len_tokens=8, output_len_tokens=6),
)


def target_of(engine: FakeEngine, **fields: Any) -> Target:
    """The fake engine as a server to be measured.

    Args:
        fields: of the target, such as device="cpu": the limits of a busy machine.
    """
    return Target(
        url=engine.url,
        served_model="fake",
        vocab_size=1000,
        engine="vllm",
        **fields,
    )
