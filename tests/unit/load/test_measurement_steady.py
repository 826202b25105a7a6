"""A steady state as it is measured: prompts that stop others show there, and not in lock-step."""

import msgspec
import pytest

from perfgate.load.measurement import measure
from perfgate.load.workload import Synthetic, Workload
from tests.support.fake_launch import FakeEngine
from tests.support.load_targets import target_of

STEADY = Workload(
    name="steady",
    prompts=Synthetic(input_len_tokens=8, output_len_tokens=16),
    num_prompts=24,
    max_concurrency=4,
    staggered=True,
)
LOCK_STEP = msgspec.structs.replace(STEADY, staggered=False)
# Where the machine stops for long, the streams fall in step, and nothing stops anybody.
MOST_ATTEMPTS = 5


@pytest.fixture(scope="module")
def engine():
    """A fake engine."""
    with FakeEngine() as running:
        yield running


def test_prompts_beside_decoding_cost_a_steady_state_more(engine):
    """Each new prompt stops the streams that decode for 32 times a gap."""
    engine.set(ttft_s=0.1, itl_s=0.005, beside_s_per_token=0.02)
    ratios = []
    while len(ratios) < MOST_ATTEMPTS and (not ratios or max(ratios) < 1.5):
        steady = measure(target_of(engine), STEADY, 2 * len(ratios))
        lock_step = measure(target_of(engine), LOCK_STEP, 2 * len(ratios) + 1)
        assert not steady.failed
        ratios.append(
            steady.values["itl_mean_ms"] / lock_step.values["itl_mean_ms"]
        )

    assert max(ratios) >= 1.5, ratios


def test_prompts_are_sent_one_after_the_other(engine):
    """In lock-step four of them are sent at once."""
    engine.set(ttft_s=0.01, itl_s=0.01)
    sendings = []
    for index, workload in enumerate((STEADY, LOCK_STEP)):
        found = measure(target_of(engine), workload, index)
        assert "steady_output_throughput" in found.values
        sent_ms = sorted(row.sent_ms for row in found.requests[4:])
        together = 0
        for place in range(1, len(sent_ms)):
            together += sent_ms[place] - sent_ms[place - 1] < 5
        sendings.append(together)

    assert sendings[0] < sendings[1]
