"""Which times the client records: the kernel's, or its own where those cannot be had."""

import asyncio
import time

import pytest

from perfgate.load import stamped_socket
from perfgate.load.client import WATCH_S, Run, Sending, recording_of, send
from perfgate.load.clock import ClockOffset
from perfgate.load.http import Exchange, encode
from perfgate.load.response import read
from perfgate.load.workload import Request, Synthetic, Workload, build_requests
from tests.support.fake_launch import FakeEngine

WORKLOAD = Workload(
    name="test", num_prompts=8, prompts=Synthetic(output_len_tokens=6)
)
REQUESTS = build_requests(WORKLOAD, 0, 1000)


@pytest.fixture(scope="module")
def engine():
    """One fake engine for the tests of this module."""
    with FakeEngine(ttft_s=0.02, itl_s=0.005) as engine:
        yield engine


def sending_to(engine, **how):
    """How requests are sent, two at a time."""
    return Sending(
        url=f"{engine.url}/v1/completions",
        model="fake",
        max_concurrency=2,
        **how,
    )


def with_clock(engine, offsets):
    """A recording whose clocks differ by these offsets, the last one from then on."""
    coming = iter(offsets)
    last = offsets[-1]
    sending = sending_to(engine)

    async def go():
        exchanges = []
        for request in REQUESTS:
            payload = encode(request, sending.url, sending.model, "5e")
            exchanges.append(Exchange(request, payload))
        run = Run(exchanges, sending, ClockOffset(lambda: next(coming, last)))
        await run.go()
        return recording_of(run)

    return asyncio.run(go())


def test_times_are_the_kernels(engine):
    """Each read was received before the client had it; a slot is free at an answer's end."""
    recording = send(REQUESTS, sending_to(engine))
    ends = {record.end_ns for record in recording.requests}

    assert "" == recording.no_kernel_times
    for record in recording.requests:
        reads = record.reads
        assert len(reads) > 0
        assert all(
            at < client
            for at, client in zip(reads.at_ns, reads.client_ns, strict=True)
        )
        assert record.sent_ns < reads.at_ns[0] <= reads.at_ns[-1]
        assert reads.at_ns[-1] <= record.end_ns
        assert record.due_ns in {*ends, recording.start_ns}


def test_without_the_kernels_times(engine):
    """The client's own times are recorded, and why."""
    recording = send(REQUESTS, sending_to(engine, kernel_times=False))

    assert "the kernel was not asked" == recording.no_kernel_times
    for record in recording.requests:
        assert len(record.reads) > 0
        assert 0 == len(record.reads.client_ns)
        assert record.sent_ns < record.reads.at_ns[0]


def test_a_kernel_that_stamps_nothing(engine, monkeypatch):
    """The client's own times are recorded, and the kernel's answer."""
    monkeypatch.setattr(stamped_socket, "arrival_ns", lambda _messages: 0)
    monkeypatch.setattr(stamped_socket, "START_S", 0.01)
    recording = send(REQUESTS, sending_to(engine))

    assert "the kernel gives no receive times" == recording.no_kernel_times
    assert [None] * 8 == [read(one).error for one in recording.requests]


def test_encrypted_connections_have_the_clients_times():
    """The kernel's times are those of packets, which are not what TLS gives out."""

    async def reason():
        sending = Sending(url="https://127.0.0.1:1/v1/completions", model="m")
        return Run([], sending).no_kernel_times

    assert "the connections are encrypted (https)" == asyncio.run(reason())


def test_a_clock_that_was_set_meanwhile(engine):
    """The kernel's times are of no use then: all are the client's, and it is said."""
    recording = with_clock(engine, [0, 0, 1_500_000_000])

    assert "the system clock was set by +1500.0 ms meanwhile" == (
        recording.no_kernel_times
    )
    for record in recording.requests:
        assert record.sent_ns < record.reads.at_ns[0]
        assert 0 == len(record.reads.client_ns)


def test_reads_without_a_time(engine):
    """Where the kernel is silent for some reads, all have the client's times."""
    sending = sending_to(engine)

    async def go():
        exchange = Exchange(
            REQUESTS[0], encode(REQUESTS[0], sending.url, "fake", "5e")
        )
        run = Run([exchange], sending)
        await run.go()
        exchange.log.kernel_ns[1] = 0
        return recording_of(run)

    recording = asyncio.run(go())
    reads = len(recording.requests[0].reads)

    assert f"1 of {reads} reads have no time of the kernel" == (
        recording.no_kernel_times
    )


def test_the_client_is_spared_until_something_is_to_be_sent():
    """Not while requests wait for a slot; until the next arrival; else until deadlines."""
    late = [Request(0, (1,), 1, 0), Request(1, (1,), 1, 60_000_000_000)]

    async def spared():
        run = Run(
            [Exchange(one, b"") for one in late],
            Sending(url="http://127.0.0.1:1/v1/completions", model="m"),
        )
        run.start_ns = time.monotonic_ns()
        found = []
        run.coming.popleft()
        found.append(50 < run.spare_s() <= 60)
        run.waiting.append(run.coming.pop())
        found.append(0.0 == run.spare_s())
        run.waiting.clear()
        found.append(WATCH_S == run.spare_s())
        return found

    assert [True] * 3 == asyncio.run(spared())
