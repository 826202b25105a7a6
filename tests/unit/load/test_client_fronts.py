"""The load client against servers and fronts that speak HTTP in other ways."""

import contextlib
import json
import socket
import time

import pytest

from perfgate import web
from perfgate.load import client
from perfgate.load.client import Sending, send
from perfgate.load.response import read
from perfgate.load.workload import Request
from tests.support import raw_server
from tests.support.raw_server import endless, pieces, serving, whole

CHUNK = b'data: {"choices":[{"text":" a"}]}\n\n'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":2,"completion_tokens":3}}\n\n'
BODY = CHUNK * 3 + USAGE + b"data: [DONE]\n\n"
OLD = b"HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
INTERIM = b"HTTP/1.1 103 Early Hints\r\nContent-Length: 0\r\nLink: </x>\r\n\r\n"


def sent(url, requests=2, **how):
    """Records of some requests, one after the other."""
    drawn = [Request(k, (1, 2), 3, 0) for k in range(requests)]
    settings = Sending(
        url=f"{url}/v1/completions", model="m", max_concurrency=1, **how
    )
    return send(drawn, settings).requests


@pytest.mark.parametrize(
    "answer",
    [
        pieces(OLD, CHUNK, CHUNK, CHUNK, USAGE, b"data: [DONE]\n\n"),
        pieces(OLD.replace(b"1.0", b"1.1"), BODY),
        pieces(b"HTTP/1.1 100 Continue\r\n\r\n", OLD, BODY, pause_s=0.01),
        pieces(INTERIM + OLD + BODY),
        whole(BODY),
    ],
)
def test_whole_answers(answer):
    """A body that ends with the connection, and interim answers in front of one."""
    with serving(answer) as server:
        transcripts = [read(record) for record in sent(server.url)]

    assert [(None, 3)] * 2 == [(t.error, len(t.chunk_ns)) for t in transcripts]


def test_events_in_many_pieces_are_a_whole_answer():
    """A front may cut each of them anywhere: in its name, and in a character."""
    event = CHUNK.replace(b" a", "ä".encode())
    halves = event.index("ä".encode()) + 1
    parts = [event[:3], event[3:halves], event[halves:]] * 100
    usage = USAGE.replace(b"3}", b"100}")
    with serving(
        pieces(OLD, *parts, usage, b"data: [DONE]\n\n", pause_s=0.003)
    ) as server:
        request = Request(0, (1, 2), 100, 0)
        settings = Sending(url=f"{server.url}/v1/completions", model="m")
        (record,) = send([request], settings).requests
    t = read(record)

    assert (None, 100) == (t.error, len(t.chunk_ns))


def test_a_body_that_ends_too_early_is_no_answer():
    """The end of the connection ends a body, and [DONE] alone makes it whole."""
    with serving(pieces(OLD, CHUNK)) as server:
        (record,) = sent(server.url, 1)

    assert "the stream ended after 1 chunks without [DONE]" == (
        read(record).error
    )


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        (b"HTTP/1.0 503 Busy\r\n\r\n", "HTTP 503: full"),
        (b"HTTP/1.1 503 Busy\r\nConnection: close\r\n\r\n", "HTTP 503: full"),
        (
            b"HTTP/1.0 307 Moved\r\nLocation: /new\r\n\r\n",
            "HTTP 307: redirected to /new, which is not followed",
        ),
        (
            b"HTTP/1.1 500 Broken\r\nContent-Length: 99\r\n\r\n",
            "HTTP 500: full; connection closed before the answer was complete "
            "(no error given)",
        ),
    ],
)
def test_a_refusal_is_told_however_its_body_ends(head, reason):
    """Of a front that closes the connection, too."""
    with serving(pieces(head, b"full")) as server:
        (record,) = sent(server.url, 1)

    assert reason == read(record).error


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (endless(OLD, b": x" * 9999), "endless: "),
        (endless(b"HTTP/1.1 200 OK\r\n", b"a: b\r\n" * 9999), "the headers"),
        (endless(b"HTTP/1.1 200 OK\r\nX: ", b"x" * 65536), "the headers"),
        (endless(OLD, b"x", 0.3), "no complete answer within 5 s"),
        (
            pieces(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\nxx"),
            "",
        ),
        (pieces(b"SSH-2.0-x\r\n"), "not HTTP"),
    ],
)
def test_an_answer_without_end_is_given_up(answer, reason):
    """In bytes, in lines and in time; nothing raises."""
    timeout_s = 5 if reason.startswith("no complete") else 60
    with serving(answer) as server:
        (record,) = sent(server.url, 1, request_timeout_s=timeout_s)

    assert read(record).error.startswith(reason)


def test_requests_of_two_repetitions_have_no_id_in_common():
    """An engine refuses an id that still runs."""
    with serving(whole(BODY)) as server:
        sent(server.url)
        sent(server.url)
        ids = {
            line
            for request in server.asked
            for line in request.split(b"\r\n")
            if line.startswith(b"x-request-id: perfgate-")
        }

    assert 4 == len(ids)


def test_a_key_is_sent_with_each_request():
    """And no user stands in the Host header."""
    with serving(whole(BODY)) as server:
        url = server.url.replace("//", "//me:pw@")
        sent(url, authorization="Bearer k1")

    for request in server.asked:
        assert b"\r\nauthorization: Bearer k1\r\n" in request
        assert f"\r\nhost: 127.0.0.1:{server.port}\r\n".encode() in request
        assert b"me:pw" not in request


@pytest.mark.skipif(not raw_server.has_openssl(), reason="needs openssl")
def test_https_is_spoken_by_the_load(tmp_path, monkeypatch):
    """With the certificate that a variable names; an unknown one is said to be so."""
    path = raw_server.certificate(tmp_path)
    with serving(pieces(OLD, BODY), path) as server:
        web.tls.cache_clear()
        (refused,) = sent(server.url, 1)
        monkeypatch.setenv("SSL_CERT_FILE", str(path))
        web.tls.cache_clear()
        records = sent(server.url)
        web.tls.cache_clear()

    assert "certificate verify failed" in refused.error
    assert [None, None] == [read(record).error for record in records]


def test_a_server_that_sends_tokens_lives():
    """The client says so while they come, whatever a health check says."""
    noted = []
    slow = pieces(OLD, *[CHUNK] * 3, USAGE, b"data: [DONE]\n\n", pause_s=0.15)
    with serving(slow) as server:
        (record,) = sent(
            server.url,
            1,
            is_alive=lambda: not noted or time.monotonic() - noted[-1] < 5,
            note_life=lambda: noted.append(time.monotonic()),
        )

    assert None is read(record).error
    assert noted


def test_a_dead_server_is_told_by_its_own_reason():
    """Of an attached one nobody knows a process."""
    with serving(pieces(OLD, pause_s=30)) as server:
        (record,) = sent(
            server.url, 1, is_alive=lambda: False, death_reason="no answer"
        )

    assert "no answer" == record.error


def test_nothing_listens():
    """The reason of the system is the reason of the request."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    (record,) = sent(f"http://127.0.0.1:{port}", 1)

    assert record.error.startswith("cannot connect: ")


def test_a_server_that_accepts_no_connection(monkeypatch):
    """Its queue is full: the time that it had is the reason."""
    monkeypatch.setattr(client, "CONNECT_S", 0.3)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server:
        address = server.getsockname()
        with contextlib.ExitStack() as waiting:
            for _ in range(3):
                queued = waiting.enter_context(socket.socket())
                queued.setblocking(False)
                queued.connect_ex(address)
            (record,) = sent(f"http://127.0.0.1:{address[1]}", 1)

    assert "cannot connect: not accepted within 0.3 s" == record.error


def test_what_is_sent_is_json():
    """For the record: the body is the last of the request."""
    with serving(whole(BODY)) as server:
        sent(server.url, 1)

    body = server.asked[0].partition(b"\r\n\r\n")[2]
    assert [1, 2] == json.loads(body)["prompt"]
