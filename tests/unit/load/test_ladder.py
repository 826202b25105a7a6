"""Ladder: prompt lengths that compile every kernel, and which ones were compiled."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perfgate.load.ladder import (
    KEYS,
    Rung,
    batch_of,
    climb,
    rungs,
    token_counts,
)
from perfgate.load.measurement import Target
from perfgate.load.workload import Workload
from tests.support.fake_launch import FakeEngine
from tests.support.load_targets import target_of


def key_of(tokens: int) -> int:
    """The configuration of an engine's step with so many tokens: that of the nearest key."""
    return min(KEYS, key=lambda key: abs(key - tokens))


def kind_of(tokens: int) -> tuple[bool, bool]:
    """Which of Triton's integer arguments are divisible by 16.

    Two of them: the tokens, and those padded to blocks of 64.
    """
    return (2 * tokens) % 16 == 0, (2 * tokens + 8 * 63) % 16 == 0


def met_and_possible(counts, most, captured=0):
    """Keys and kinds of the counts, and of all steps that no captured graph takes up."""
    met = {(key_of(m), kind_of(m)) for m in counts if m > captured}
    steps = range(captured + 1, most + 1)
    return met, {(key_of(m), kind_of(m)) for m in steps}


@settings(max_examples=30)
@given(most=st.integers(1, 9000), best=st.integers(1, 9000))
def test_every_key_and_kind_that_a_step_can_have_is_met(most, best):
    """Of all numbers of tokens up to the most, whatever one prompt can hold."""
    met, possible = met_and_possible(token_counts(most, min(most, best)), most)

    assert met == possible


# Most tokens of a step that an engine runs from a captured graph.
@pytest.mark.parametrize("captured", [48, 256, 512, 600, 2048])
def test_a_step_beyond_the_captured_sizes_is_met(captured):
    """A smaller step is padded to a captured size, and compiles nothing."""
    met, possible = met_and_possible(token_counts(8192, 4092), 8192, captured)

    assert met == possible


def test_a_ladder_costs_little():
    """Some fifty lengths up to a chunk of 8,192 tokens; none is longer than a prompt can be."""
    found = token_counts(8192, 4092)

    assert len(found) < 50
    assert max(found) <= 4092


def test_more_than_one_prompt_holds_is_sent_as_several():
    """With a short context, keys above it are reached by prompts that are sent together.

    One step is then full.
    """
    steps = rungs(longest_prompt=1000, chunk=4096, batch=4)

    assert all(max(rung.prompts) <= 1000 for rung in steps)
    sums = {sum(rung.prompts) for rung in steps}
    assert {1024, 2048, 4096, 2 * 4096} & sums >= {8192}
    assert {key_of(m) for m in sums} >= set(KEYS)


def test_decoding_is_met_at_each_size():
    """Short prompts at once, from one to the largest batch."""
    streams = [
        len(rung.prompts)
        for rung in rungs(4092, 8192, 32)
        if rung.output_len_tokens > 1
    ]

    assert (1, 32) == (min(streams), max(streams))
    assert {key for key in KEYS if key <= 32} == {key_of(m) for m in streams}


@pytest.mark.parametrize(
    ("workloads", "batch"),
    [
        (
            [
                Workload(name="a", num_prompts=256, max_concurrency=32),
                Workload(name="b", num_prompts=100),
            ],
            100,
        ),
        ([Workload(name="a", num_prompts=8, max_concurrency=64)], 8),
        ([Workload(name="a", num_prompts=100, request_rate=4.0)], 32),
    ],
)
def test_largest_batch_of_the_workloads(workloads, batch):
    """A burst is as large as its prompts, a closed loop as its slots, an open loop as is usual."""
    assert batch == batch_of(workloads)


STEPS = (
    *(Rung((length,)) for length in (1, 4, 5, 8)),
    Rung((40, 41)),
    Rung((16, 16, 16), 4),
)


@pytest.fixture(scope="module")
def engine():
    """One fake engine for the tests of this module."""
    with FakeEngine(ttft_s=0.002, itl_s=0.001) as engine:
        yield engine


def target(engine):
    """The fake engine as a server to be measured."""
    return target_of(engine, device="cuda")


def test_what_is_compiled_is_told(engine):
    """Lengths that took long the first time and not the second; the others are sent once."""
    engine.set(compiles=[[5, 1.2], [41, 1.2]])

    climbed = climb(target(engine), STEPS)

    assert {"prompt of 5 tokens", "2 prompts of 81 tokens"} <= set(climbed.slow)
    assert 6 == climbed.rungs
    assert ((), None) == (climbed.failed, climbed.hang)
    assert (
        f"{len(climbed.slow)} of 6 lengths were over 0.5 s slower the first time"
        in str(climbed)
    )
    assert "the engine compiled" in str(climbed)
    prompts = [tuple(request["prompt"]) for request in engine.sent()]
    assert len(prompts) == len(set(prompts)) >= 9 + 1 + 2


def test_prompts_are_the_same_in_every_launch(engine):
    """What differs between two launches is then not the ladder."""
    sent = []
    for _ in range(2):
        engine.set()
        climb(target(engine), STEPS[:4])
        sent.append([request["prompt"] for request in engine.sent()[:4]])

    assert sent[0] == sent[1]


def test_a_server_that_is_slow_every_time_did_not_compile(engine):
    """Both times alike: nothing happened once."""
    engine.set(ttft_s=0.7)

    climbed = climb(target(engine), STEPS[:2])

    assert ((), 2) == (climbed.slow, climbed.rungs)
    assert "0 of 2 lengths" in str(climbed)


def test_failed_lengths_are_counted_and_named(engine):
    """A failed length is counted and named; the warm-up decides whether to measure."""
    engine.set(fault="http_400", fault_serials=[2])

    climbed = climb(target(engine), STEPS[:4])

    assert 1 == len(climbed.failed)
    assert climbed.failed[0].startswith("prompt of 5 tokens: HTTP 400")
    assert "1 failed, the first: prompt of 5 tokens" in str(climbed)


def test_a_server_that_falls_silent_hangs(engine):
    """Nothing more is sent to it."""
    engine.set(fault="silence")
    here = target(engine)

    climbed = climb(Target(**{**vars(here), "silence_timeout_s": 0.5}), STEPS)

    assert "no token from any stream" in climbed.hang
