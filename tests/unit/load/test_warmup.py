"""Warm-up: it ends when the engine gets no faster, and reports why it failed."""

import msgspec
import pytest

from perfgate.load import warmup
from perfgate.load.client import STARVED, Recording
from perfgate.load.http import RequestRecord
from perfgate.load.measurement import Target, measure
from perfgate.load.reads import Reads
from perfgate.load.warmup import WarmUpFailed, warm_up
from tests.support.builders import recording, transcript
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
    """Two passes or more, of eight requests each (two per slot); none is measured."""
    engine.set()
    warm_up(target(engine), SMALL)
    prompts = [tuple(log["prompt"]) for log in engine.sent()]
    engine.set()
    measure(target(engine), SMALL, 0)

    assert 0 == len(prompts) % 8
    assert len(prompts) >= 2 * 8
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


@pytest.mark.parametrize(
    ("error", "status", "remedy"),
    [
        (f"{STARVED}out of file descriptors: raise it", None, "raise that"),
        (None, 401, "PERFGATE_API_KEY"),
        (None, 429, "limits how much a client may send"),
        (None, 500, "look at the server's log"),
    ],
)
def test_a_failed_warm_up_names_what_to_do(monkeypatch, error, status, remedy):
    """A key, a limit of the server's or of the client's, or the log."""

    def send(requests, _sending):
        records = tuple(
            RequestRecord(
                index=request.index,
                input_tokens=1,
                asked_tokens=1,
                due_ns=0,
                sent_ns=1,
                end_ns=2,
                status=status,
                reads=Reads(),
                error=error,
            )
            for request in requests
        )
        return Recording(
            start_ns=0,
            end_ns=2,
            requests=records,
            client_busy=0.0,
            client_gaps=(),
        )

    monkeypatch.setattr(warmup, "send", send)
    server = Target(
        url="http://x", served_model="m", vocab_size=1000, engine="vllm"
    )
    with pytest.raises(WarmUpFailed) as caught:
        warm_up(server, SMALL)

    assert remedy in caught.value.remedy


@pytest.mark.parametrize(
    ("pass_ms", "passes"),
    [((100, 99, 98), 2), ((100, 100, 50), 2), ((100, 50, 25, 12), 3)],
)
def test_another_pass_is_sent_while_requests_get_faster(
    monkeypatch, pass_ms, passes
):
    """Two at least, three at most."""
    sent = []

    def send(requests, _sending):
        sent.append(pass_ms[len(sent)])
        return msgspec.structs.replace(recording(), requests=tuple(requests))

    monkeypatch.setattr(warmup, "send", send)
    monkeypatch.setattr(
        warmup, "read", lambda _: transcript(chunks_ms=sent[-1:])
    )
    server = Target(
        url="http://x", served_model="m", vocab_size=1000, engine="vllm"
    )
    warm_up(server, SMALL)

    assert passes == len(sent)
