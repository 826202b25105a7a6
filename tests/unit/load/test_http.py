"""HTTP requests: the bytes that are sent."""

import json

import pytest

from perfgate.load.http import Exchange, encode
from perfgate.load.workload import Request

IDS = Request(3, (5, 6), 7, 0)
TEXT = Request(3, (5, 6), 7, 0, text="zwölf")


@pytest.mark.parametrize(
    ("request_", "prompt"), [(IDS, [5, 6]), (TEXT, "zwölf")]
)
def test_a_request_is_greedy_and_of_full_length(request_, prompt):
    """Ids, or text where there is some; the length of the body is that of its bytes."""
    head, _, body = encode(
        request_, "http://me:pw@h:1/v1/completions", "m", "5e", "Bearer k1"
    ).partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    said = json.loads(body)

    assert "POST /v1/completions HTTP/1.1" == first
    assert ("h:1", str(len(body))) == (
        headers["host"],
        headers["content-length"],
    )
    assert "perfgate-5e-3" == headers["x-request-id"]
    assert "Bearer k1" == headers["authorization"]
    assert (prompt, 7) == (said["prompt"], said["max_tokens"])
    assert (True, 0.0, True) == (
        said["ignore_eos"],
        said["temperature"],
        said["stream"],
    )


def test_what_is_kept_of_an_exchange():
    """Lengths of what was asked, and the reads as they came."""
    exchange = Exchange(IDS, b"", due_ns=1, sent_ns=2, end_ns=9)
    exchange.log.body += b"x"
    exchange.log.note(5)
    record = exchange.record()

    assert (3, 2, 7) == (record.index, record.input_tokens, record.asked_tokens)
    assert (1, 2, 9, ((5, b"x"),)) == (
        record.due_ns,
        record.sent_ns,
        record.end_ns,
        tuple(record.reads),
    )
