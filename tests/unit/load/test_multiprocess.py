"""Several client processes: together they send what one process would send."""

import errno
import signal
import subprocess
import threading
import time

import msgspec
import pytest

from perfgate.load import measurement, multiprocess
from perfgate.load.client import Sending, send
from perfgate.load.measurement import measure
from perfgate.load.multiprocess import (
    SenderFailed,
    common_gaps,
    finish,
    send_with,
    share,
)
from perfgate.load.response import read
from perfgate.load.workload import Synthetic, Workload, build_requests
from tests.support.fake_launch import FakeEngine
from tests.support.load_targets import target_of

WORKLOAD = Workload(
    name="many",
    num_prompts=10,
    max_concurrency=4,
    prompts=Synthetic(output_len_tokens=5),
)


@pytest.fixture(scope="module")
def engine():
    """One fake engine for the tests of this module."""
    with FakeEngine(ttft_s=0.05, itl_s=0.01) as engine:
        yield engine


def test_every_request_is_sent_once(engine):
    """Three processes send all requests, none twice, from one common start."""
    engine.set()
    requests = build_requests(WORKLOAD, 0, 1000)
    recording = send_with(
        3,
        requests,
        Sending(
            url=engine.url + "/v1/completions", model="fake", max_concurrency=4
        ),
    )
    transcripts = [read(record) for record in recording.requests]

    assert 3 == recording.processes
    assert [(k, None) for k in range(10)] == [
        (t.index, t.error) for t in transcripts
    ]
    assert {r.prompt_token_ids for r in requests} == {
        tuple(log["prompt"]) for log in engine.sent()
    }
    # the first wave is due at the common start
    assert 4 == sum(t.due_ns == recording.start_ns for t in transcripts)


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_long_recording_is_handed_over_whole(engine, monkeypatch, unbuffered):
    """Whatever its size: a pipe holds 64 KiB, and a write may end before its bytes do."""
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    engine.set(ttft_s=0.01, itl_s=0.001)
    workload = msgspec.structs.replace(
        WORKLOAD,
        num_prompts=64,
        max_concurrency=64,
        prompts=Synthetic(output_len_tokens=64),
    )
    requests = build_requests(workload, 0, 1000)
    recording = send_with(
        2,
        requests,
        Sending(
            url=engine.url + "/v1/completions", model="fake", max_concurrency=64
        ),
    )

    assert 64 == len(recording.requests)
    size = sum(len(record.reads.body) for record in recording.requests)
    assert size > 4 * 65536


def test_a_damaged_recording_is_an_error():
    """It says what to do, and ends no session by a traceback."""
    with subprocess.Popen(
        ["printf", "half"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as worker:
        requests = build_requests(WORKLOAD, 0, 1000)
        sending = Sending(url="u", model="m")
        with pytest.raises(SenderFailed, match="no recording"):
            finish(worker, share(0, 1, requests, sending, 0))


def test_a_process_that_cannot_start_is_named(engine, monkeypatch):
    """Those that were started before it are ended."""
    started = []

    def popen(*arguments, **options):
        if started:
            raise OSError(errno.EMFILE, "Too many open files")
        started.append(start(*arguments, **options))
        return started[0]

    start = subprocess.Popen
    monkeypatch.setattr(multiprocess.subprocess, "Popen", popen)
    requests = build_requests(WORKLOAD, 0, 1000)
    settings = Sending(url=f"{engine.url}/v1/completions", model="fake")

    with pytest.raises(SenderFailed, match="ulimit -n"):
        send_with(2, requests, settings)

    assert -signal.SIGKILL == started[0].returncode


def test_requests_and_slots_are_dealt_out():
    """Ten requests and four slots over three processes: 4, 3, 3 and 2, 1, 1."""
    requests = build_requests(WORKLOAD, 0, 1000)
    shares = [
        share(k, 3, requests, Sending(url="u", model="m", max_concurrency=4), 0)
        for k in range(3)
    ]

    assert [4, 3, 3] == [len(part.requests) for part in shares]
    assert [2, 1, 1] == [part.max_concurrency for part in shares]


def test_an_interrupt_ends_all_processes_at_once(engine):
    """Nothing waits for the rest of the load, and nothing goes on sending."""
    engine.set(itl_s=0.1)
    workload = msgspec.structs.replace(
        WORKLOAD, prompts=Synthetic(output_len_tokens=600)
    )
    requests = build_requests(workload, 0, 1000)
    main = threading.main_thread().ident

    def interrupt():
        while len(engine.sent()) < 4:
            time.sleep(0.05)
        signal.pthread_kill(main, signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    began_s = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        send_with(
            2,
            requests,
            Sending(
                url=engine.url + "/v1/completions",
                model="fake",
                max_concurrency=4,
            ),
        )

    assert time.monotonic() - began_s < 40


def test_a_process_whose_session_is_gone_stops_sending(engine):
    """A killed session leaves no load behind on a server that it did not launch."""
    engine.set(itl_s=0.1)
    url = engine.url + "/v1/completions"
    requests = build_requests(WORKLOAD, 0, 1000)
    part = share(0, 1, requests, Sending(url=url, model="fake"), 0)
    assert not part.is_wanted()  # no process is its own parent
    recording = send(part.requests, part.sending())

    assert {"the session that sends is gone"} == {
        read(record).error for record in recording.requests
    }


def test_the_client_is_absent_only_where_all_are():
    """One process of several that is scheduled away silences only its own streams."""
    assert ((5, 10), (25, 30)) == common_gaps(
        ((0, 10), (20, 30)), ((5, 12), (25, 40))
    )


def test_result_says_how_many_processes(engine):
    """A workload that asks for two is sent by two, and the result says so."""
    engine.set()
    target = target_of(engine, device="cpu")
    result = measure(
        target, msgspec.structs.replace(WORKLOAD, client_processes=2), 0
    )

    assert (10, 2.0) == (result.completed, result.client_values["processes"])
    assert (
        "sent by 2 client processes: as the workload declares (client_processes)"
        in result.notes
    )


def test_a_client_too_busy_is_helped(engine, monkeypatch):
    """Where one process is too busy, all is sent again with other prompts by several."""
    monkeypatch.setattr(measurement, "CLIENT_TOO_BUSY", 1e-6)
    engine.set()
    target = target_of(engine, device="cpu")
    begun = []
    result = measure(target, WORKLOAD, 0, begin=lambda: begun.append(1))

    # what was read at the beginning of the first attempt does not count
    assert 2 == len(begun)
    assert (10.0, 50.0) == (
        result.server_values["requests"],
        result.server_values["generation_tokens"],
    )
    assert 8 >= result.client_values["processes"] > 1
    # both attempts arrived, and share no prompt
    assert 20 == len({tuple(log["prompt"]) for log in engine.sent()})
    # even so it is above this absurd limit, which then is a reason
    assert any(
        why.startswith("the client was too busy") for why in result.invalid
    ), result.invalid
