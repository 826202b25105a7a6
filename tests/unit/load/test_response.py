"""Streamed responses: events, tokens and times from bytes."""

import json
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perfgate.load.http import RequestRecord
from perfgate.load.reads import Reads
from perfgate.load.response import Stream, plain_stream, read, read_events


def chunk(text=" a", reason=None):
    """A content chunk."""
    return {"choices": [{"index": 0, "text": text, "finish_reason": reason}]}


USAGE = {
    "choices": [],
    "usage": {"prompt_tokens": 4, "completion_tokens": 3, "total_tokens": 7},
}


def sse(*events):
    """Events on the wire; strings are sent as they are."""
    return [
        f"data: {e if isinstance(e, str) else json.dumps(e)}\n\n".encode()
        for e in events
    ]


WHOLE = sse(chunk(), chunk(), chunk(reason="length"), USAGE, "[DONE]")


def answer(pieces, status=200, error=None, location=None, times=None):
    """A record whose reads came at 10, 20, ... ns."""
    times = times or [10 * (k + 1) for k in range(len(pieces))]
    return RequestRecord(
        index=0,
        input_tokens=4,
        asked_tokens=3,
        due_ns=0,
        sent_ns=1,
        end_ns=1000,
        status=status,
        reads=Reads.of_pairs(zip(times, pieces, strict=True)),
        error=error,
        location=location,
    )


def test_a_whole_answer():
    """Each content chunk has the time of its read; tokens are the server's count."""
    t = read(answer(WHOLE))

    assert ((10, 20, 30), 3, 4, None) == (
        tuple(t.chunk_ns),
        t.output_tokens,
        t.input_tokens,
        t.error,
    )


@settings(deadline=None)
@given(
    st.lists(st.integers(1, len(b"".join(WHOLE)) - 1), unique=True, max_size=20)
)
def test_however_it_is_cut_into_reads(cuts):
    """Events split and joined by the network have the time of the read that completed them."""
    whole = b"".join(WHOLE)
    edges = [0, *sorted(cuts), len(whole)]
    pieces = [whole[a:b] for a, b in pairwise(edges)]
    t = read(answer(pieces, times=edges[1:]))

    ends = [sum(len(event) for event in WHOLE[: k + 1]) for k in range(3)]
    # the first read that reaches the event's end
    assert tuple(min(e for e in edges if e >= end) for end in ends) == tuple(
        t.chunk_ns
    )
    assert None is t.error


@settings(deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [
                *WHOLE,
                *sse({"error": "full"}),
                b"\n",
                b"\r\n",
                b": ping\n\n",
                b"x",
            ]
        ),
        max_size=8,
    ),
    st.lists(st.integers(1, 200), max_size=6),
    st.booleans(),
)
def test_plain_streams_are_read_alike_both_ways(parts, cuts, only_text):
    """The fast way gives nothing, or exactly what the general one gives."""
    body = b"".join(parts)
    edges = sorted({0, len(body), *(cut for cut in cuts if cut < len(body))})
    reads = Reads.of_pairs((b, body[a:b]) for a, b in pairwise(edges))
    general = Stream()
    error = read_events(reads, general, only_text)

    assert plain_stream(reads, only_text) in (None, general)
    assert error is None or plain_stream(reads, only_text) is None


def test_an_engine_s_stream_is_read_the_fast_way():
    """What engines send is plain; it stays so wherever it is cut."""
    for reads in (
        WHOLE,
        [b"".join(WHOLE)],
        [b"".join(WHOLE)[:7], b"".join(WHOLE)[7:]],
    ):
        pairs = enumerate(reads)

        assert plain_stream(Reads.of_pairs(pairs), only_text=False) is not None


def test_crlf_and_comments():
    """Comments are skipped, CRLF separates as LF does."""
    t = read(
        answer(
            [
                b": ping\r\n\r\n",
                *(event.replace(b"\n", b"\r\n") for event in WHOLE),
            ]
        )
    )

    assert ((20, 30, 40), None) == (tuple(t.chunk_ns), t.error)


def test_empty_text_is_a_token():
    """Half a character has no text; clients that skip it can be followed with only_text."""
    pieces = sse(chunk(""), chunk(), chunk(), USAGE, "[DONE]")

    assert (10, 20, 30) == tuple(read(answer(pieces)).chunk_ns)
    assert (20, 30) == tuple(read(answer(pieces), only_text=True).chunk_ns)


def test_a_finish_without_text_after_the_last_token_is_none():
    """An engine that sends the reason by itself does not get a token more for it."""
    pieces = sse(
        chunk(), chunk(), chunk(), chunk("", "length"), USAGE, "[DONE]"
    )

    assert (10, 20, 30) == tuple(read(answer(pieces)).chunk_ns)


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (answer([b"overloaded"], status=503), "HTTP 503: overloaded"),
        (answer([], status=400), "HTTP 400: no body"),
        (
            answer([], status=307, location="http://x/"),
            "HTTP 307: redirected to http://x/, which is not followed",
        ),
        (
            answer([b"<html>hello</html>"]),
            "not a stream of completion events: it starts b'<html>hello</html>'",
        ),
        (answer(WHOLE[:2]), "the stream ended after 2 chunks without [DONE]"),
        (answer(sse("[DONE]")), "the stream had no token"),
        (
            answer(sse(chunk(), "[DONE]")),
            "the server reported no usage: its tokens cannot be counted",
        ),
        (answer(WHOLE, error="cut"), "cut"),
        (answer([], status=None, error="cannot connect"), "cannot connect"),
    ],
)
def test_each_failure_has_its_reason(record, reason):
    """What is not a whole answer is a failed request that says why."""
    assert reason == read(record).error


@pytest.mark.parametrize("data", ['{"choices": [{"text": oops', "\\xff"])
def test_invalid_json_is_a_failed_request(data):
    """Broken JSON, and what is none."""
    assert read(answer(sse(chunk(), data, "[DONE]"))).error.startswith(
        "invalid JSON in the stream"
    )


def test_an_error_within_the_stream():
    """An engine may report its errors in the stream with status 200."""
    t = read(
        answer(sse(chunk(), {"error": {"message": "engine is dead"}}, "[DONE]"))
    )

    assert (
        "the server reported an error in the stream: engine is dead" == t.error
    )


@settings(deadline=None)
@given(st.lists(st.binary(max_size=60), max_size=6), st.integers(100, 599))
def test_any_bytes_are_read(pieces, status):
    """Nothing that a server can send raises; nothing of it passes for an answer."""
    assert read(answer(pieces, status=status)).error is not None


def test_an_answer_before_its_request_is_none():
    """A connection that speaks first, or once too often, answers nobody."""
    t = read(answer(WHOLE, times=[0, 20, 30, 40, 50]))

    assert "the first token came before the request was sent" == t.error
