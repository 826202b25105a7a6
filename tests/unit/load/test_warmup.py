"""Warm-up: it ends when the engine gets no faster, and reports why it failed."""

import pytest

from perfgate.load.measurement import measure
from perfgate.load.warmup import WarmUpFailed, warm_up
from tests.support.fake_launch import FakeEngine
from tests.support.load_targets import SMALL, target_of


@pytest.fixture(scope="module")
def engine():
    """One fake engine for the tests of this module."""
    with FakeEngine(ttft_s=0.02, itl_s=0.01) as engine:
        yield engine


def target(engine, **fields):
    """The fake engine as a server to be measured, by the limits of a busy machine."""
    return target_of(engine, device="cpu", **fields)


def test_warm_up_stops_when_the_engine_gets_no_faster(engine):
    """A steady engine needs two passes of eight requests (two per slot); none is measured."""
    engine.set()
    warm_up(target(engine), SMALL)
    prompts = [tuple(log["prompt"]) for log in engine.sent()]
    engine.set()
    measure(target(engine), SMALL, 0)

    assert 8 in {len(prompts) // 2, len(prompts) // 3}
    assert set() == set(prompts) & {
        tuple(log["prompt"]) for log in engine.sent()
    }


def test_warm_up_that_fails_says_why(engine):
    """A server that refuses the workload is found before anything is measured."""
    engine.set(fault="http_400")
    with pytest.raises(
        WarmUpFailed, match="8 of 8 requests failed, the first: HTTP 400"
    ):
        warm_up(target(engine), SMALL)
