"""Hang of a server: a field of what was measured, never read out of a message."""

from __future__ import annotations

import dataclasses

import msgspec
import pytest

from perfgate.load.client import Recording
from perfgate.load.ladder import Rung, climb
from perfgate.load.measurement import measure
from perfgate.load.multiprocess import merge_recordings
from perfgate.load.repetition import Repetition
from perfgate.load.warmup import WarmUpFailed, WarmUpHung, warm_up
from perfgate.load.workload import Synthetic, Workload
from tests.support.fake_launch import FakeEngine
from tests.support.load_targets import target_of

WORKLOAD = Workload(
    name="closed",
    num_prompts=4,
    max_concurrency=2,
    client_processes=1,
    prompts=Synthetic(input_len_tokens=8, output_len_tokens=6),
)
HANG = "no token from any stream for 0.5 s"


@pytest.fixture(scope="module")
def engine():
    """One fake engine for the tests of this module."""
    with FakeEngine(ttft_s=0.01, itl_s=0.005) as engine:
        yield engine


@pytest.fixture
def target(engine):
    """The fake engine as a server that hangs after half a second of silence."""
    return target_of(engine, silence_timeout_s=0.5)


def test_a_repetition_says_that_the_server_hung(engine, target):
    """Its requests fail, and the field says how."""
    engine.set(fault="silence")
    repetition = measure(target, WORKLOAD, 0)

    assert (HANG, 4) == (repetition.hang, repetition.failed)


@pytest.mark.parametrize("fault", ["", "http_503", "error_event"])
def test_other_failures_are_no_hang(engine, target, fault):
    """A server that answers does not hang, whatever it answers."""
    engine.set(fault=fault)

    assert measure(target, WORKLOAD, 1).hang is None


@pytest.mark.parametrize(
    ("fault", "kind"), [("silence", WarmUpHung), ("http_400", WarmUpFailed)]
)
def test_a_warm_up_that_hangs_is_a_type_of_its_own(engine, target, fault, kind):
    """A caller tells a hang from a refusal by the exception's type."""
    engine.set(fault=fault)
    with pytest.raises(WarmUpFailed) as caught:
        warm_up(target, WORKLOAD)

    assert kind is type(caught.value)


def test_a_hang_counts_whatever_failed_first(engine, target):
    """A refused first request does not hide that the server then hung."""
    engine.set(fault="silence", fault_serials=[1, 2, 3])
    dead = dataclasses.replace(target, silence_timeout_s=0.3)
    with pytest.raises(WarmUpHung, match="no token from any stream"):
        warm_up(dead, WORKLOAD)


def test_a_ladder_ends_at_a_hang(engine, target):
    """Nothing more is sent to a server that hung."""
    engine.set(fault="silence")
    climbed = climb(target, [Rung((8,)), Rung((9,)), Rung((4, 4))])

    assert (HANG, 2) == (climbed.hang, climbed.rungs)
    assert 1 == len(engine.sent())


def test_one_of_several_processes_that_hung_is_enough():
    """The recording of all has the hang of the one that noted it."""
    quiet = Recording(
        start_ns=0, end_ns=1, requests=(), client_busy=0.0, client_gaps=()
    )
    hung = msgspec.structs.replace(quiet, hang=HANG)

    assert HANG == merge_recordings([quiet, hung]).hang
    assert merge_recordings([quiet, quiet]).hang is None


def test_a_repetition_of_an_older_run_still_reads(engine, target):
    """results.json of before has no such field."""
    engine.set()
    stored = msgspec.to_builtins(measure(target, WORKLOAD, 2))
    del stored["hang"]

    assert msgspec.convert(stored, Repetition).hang is None
