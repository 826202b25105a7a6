"""Load client: transcripts of streams against the fake engine's own record."""

import asyncio
import time

import msgspec
import numpy as np
import pytest

from perfgate.load import request_times
from perfgate.load.client import Run, Sending, client_gaps, send
from perfgate.load.http import Exchange, encode
from perfgate.load.response import read
from perfgate.load.workload import Synthetic, Workload, build_requests
from tests.support.fake_launch import FakeEngine

WORKLOAD = Workload(
    name="test",
    num_prompts=8,
    max_concurrency=4,
    prompts=Synthetic(output_len_tokens=6),
)


@pytest.fixture(scope="module")
def engine():
    """One fake engine for the tests of this module."""
    with FakeEngine(ttft_s=0.02, itl_s=0.005) as engine:
        yield engine


def run(engine, workload=WORKLOAD, **how):
    """Send a workload with deadlines that only a failure reaches."""
    how = {
        "max_concurrency": workload.max_concurrency,
        "request_timeout_s": 60.0,
    } | how
    requests = build_requests(workload, 0, 1000)
    return send(
        requests,
        Sending(url=engine.url + "/v1/completions", model="fake", **how),
    )


def read_all(recording):
    """The transcripts of a run."""
    return [read(record) for record in recording.requests]


def test_ground_truth(engine):
    """Figures are those of the engine's own record of what it received and sent."""
    engine.set(
        ttft_s=0.05, ttft_spread_s=0.02, itl_s=0.01, gaps_s=[0.01, 0.03, 0.005]
    )
    workload = msgspec.structs.replace(
        WORKLOAD, num_prompts=64, max_concurrency=None, request_rate=200.0
    )
    by_index = {str(t.index): t for t in read_all(run(engine, workload))}
    sent = [
        (
            by_index[log["request_id"].rpartition("-")[2]],
            log["received_ns"],
            [ns for ns, _ in log["sends"]],
        )
        for log in engine.sent()
    ]

    assert 64 == len(sent)
    assert {6} == {len(t.chunk_ns) for t, _, _ in sent}
    # Nothing is seen before it was sent. How long after depends on who else has
    # the machine, but a client that reads late or counts chunks wrongly does it
    # to all 64 requests: for each chunk, the promptest one is within the
    # shortest gap.
    delays_ms = (
        np.array([np.array(t.chunk_ns) - np.array(at) for t, _, at in sent])
        / 1e6
    )
    assert (True, True) == (
        delays_ms.min() >= 0,
        delays_ms.min(axis=0).max() < 5,
    )
    ttfts = (
        np.array(
            [
                request_times.ttft_ns(t) - (at[0] - received)
                for t, received, at in sent
            ]
        )
        / 1e6
    )
    assert (True, True) == (ttfts.min() >= 0, ttfts.min() < 5)


def test_the_prompts_arrive_as_built(engine):
    """Token ids are sent as they are, one request each."""
    engine.set()
    run(engine)

    wanted = {r.prompt_token_ids for r in build_requests(WORKLOAD, 0, 1000)}
    assert wanted == {tuple(log["prompt"]) for log in engine.sent()}


def test_closed_loop_never_exceeds_its_cap(engine):
    """At most max_concurrency requests are in flight; slots are refilled until all are sent."""
    engine.set(ttft_s=0.02, itl_s=0.005)
    good = read_all(
        run(engine, msgspec.structs.replace(WORKLOAD, num_prompts=20))
    )
    edges = sorted(
        [(t.sent_ns, 1) for t in good] + [(t.end_ns, -1) for t in good]
    )

    assert 20 == len(good)
    assert 4 == max(np.cumsum([step for _, step in edges]))


def test_open_loop_does_not_wait_for_answers(engine):
    """Requests leave when they are due, though earlier ones are not done.

    How late each left is recorded.
    """
    engine.set(ttft_s=2.0, itl_s=0.005)
    workload = msgspec.structs.replace(
        WORKLOAD, max_concurrency=None, request_rate=40.0
    )
    recording = run(engine, workload)
    good = read_all(recording)

    # all eight within 0.2 s, no answer before 2 s
    assert max(t.sent_ns for t in good) < min(t.first_ns for t in good)
    dues = [
        recording.start_ns + r.arrival_ns
        for r in build_requests(workload, 0, 1000)
    ]
    assert dues == [t.due_ns for t in good]
    # uvloop's timers count in ms and may be half of one early
    assert min(t.sent_ns - t.due_ns for t in good) > -1_000_000


def test_cap_on_an_open_loop(engine):
    """A request that finds no slot is due when one becomes free."""
    engine.set(ttft_s=0.1, itl_s=0.001)
    good = read_all(
        run(
            engine,
            msgspec.structs.replace(
                WORKLOAD, request_rate=1000.0, max_concurrency=1
            ),
        )
    )
    order = sorted(good, key=lambda t: t.sent_ns)

    assert [t.end_ns for t in order[:-1]] == [t.due_ns for t in order[1:]]


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("http_400", "HTTP 400: {"),
        ("http_503", "HTTP 503: overloaded"),
        ("redirect", "HTTP 307: redirected to http://127.0.0.1:9/elsewhere"),
        ("cut", "connection closed before the answer was complete"),
        ("cut_at_once", "connection closed before the answer was complete"),
        ("bad_json", "invalid JSON in the stream"),
        ("not_sse", "not a stream of completion events"),
        ("error_event", "the server reported an error in the stream"),
        ("no_tokens", "the stream had no token"),
        ("no_usage", "the server reported no usage"),
        ("no_done", "the stream ended after 6 chunks without [DONE]"),
    ],
)
def test_each_fault_is_a_failed_request_with_its_reason(engine, fault, reason):
    """The faulty requests fail with a reason; the others are not touched; none is dropped."""
    engine.set(ttft_s=0.01, itl_s=0.002, fault=fault, fault_serials=[1, 4])
    found = read_all(run(engine))

    assert list(range(8)) == [t.index for t in found]
    assert 6 == sum(t.error is None for t in found)
    assert {True} == {t.error.startswith(reason) for t in found if t.error}


def test_silence_ends_at_the_requests_deadline(engine):
    """A server that accepts and says nothing costs the deadline, not the session."""
    engine.set(fault="silence", fault_serials=[2])
    found = read_all(run(engine, request_timeout_s=3.0))

    assert ["no complete answer within 3 s (0 reads)"] == [
        t.error for t in found if t.error
    ]


def test_endless_stream_is_cut_off(engine):
    """More than twice what was asked is not waited for."""
    engine.set(itl_s=0.001, fault="endless", fault_serials=[2])
    errors = [t.error for t in read_all(run(engine)) if t.error]

    assert 1 == len(errors)
    assert errors[0].startswith("endless: ")


def test_the_whole_run_has_a_deadline(engine):
    """What is in flight and what was not sent yet fail when the run's time is over."""
    engine.set(fault="silence")
    began = time.monotonic()
    found = read_all(
        run(engine, run_timeout_s=0.5)
    )  # each request would have 60 s

    assert {"not complete at the run's timeout of 0.5 s"} == {
        t.error for t in found
    }
    assert 4 == sum(t.sent_ns is None for t in found)
    assert time.monotonic() - began < 50


def test_a_server_that_dies_ends_the_run():
    """Requests in flight, waiting and to come fail at once; none hangs."""
    with FakeEngine(
        "--die-after-requests", "3", ttft_s=0.02, itl_s=0.005
    ) as engine:
        found = read_all(
            run(engine, is_alive=lambda: engine.process.poll() is None)
        )

    assert 8 == len(found)
    # three are answered before it dies; what a busy client has not read by then
    # is lost with the server
    assert 5 <= sum(t.error is not None for t in found) <= 8


def test_no_server_at_all():
    """Each request says that it could not connect."""
    with FakeEngine() as engine:
        pass
    found = read_all(run(engine))

    assert 8 == len(found)
    assert {True} == {t.error.startswith("cannot connect") for t in found}


def test_events_split_over_writes(engine):
    """An event in two packets counts when it is complete."""
    engine.set(split_writes=True, ttft_s=0.02, itl_s=0.01)
    found = read_all(run(engine))

    assert {(None, 6)} == {(t.error, len(t.chunk_ns)) for t in found}


def test_progress_is_told():
    """The caller hears how far it is, ending before or at the total."""
    steps = []
    with FakeEngine(ttft_s=0.2, itl_s=0.05) as engine:
        run(engine, progress=lambda done, total: steps.append((done, total)))

    assert {8} == {total for _, total in steps}
    assert sorted(steps) == steps


def test_an_interrupt_leaves_no_connection_open(engine):
    """An interrupted load closes its connections.

    The collector's warnings of open ones would hide a Ctrl-C.
    """
    engine.set(ttft_s=30.0)
    sending = Sending(
        url=engine.url + "/v1/completions",
        model="fake",
        max_concurrency=4,
        request_timeout_s=60.0,
    )

    async def broken_off():
        exchanges = [
            Exchange(r, encode(r, sending.url, sending.model, "5e"))
            for r in build_requests(WORKLOAD, 0, 1000)
        ]
        load = Run(exchanges, sending)
        task = asyncio.create_task(load.go())
        while not load.busy:
            await asyncio.sleep(0.01)
        connections = [*load.busy, *load.idle]
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return [connection.transport.is_closing() for connection in connections]

    assert [True] * 4 == asyncio.run(broken_off())


def test_client_gaps_are_absences():
    """Heartbeats 20 ms apart or more are times in which the client did not run."""
    assert ((5_000_000, 26_000_000),) == client_gaps(
        [0, 5_000_000, 26_000_000, 31_000_000]
    )
