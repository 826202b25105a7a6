"""Streams of other servers: ends of lines, several data lines, errors of other forms."""

import json
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perfgate.load.http import RequestRecord
from perfgate.load.reads import Reads
from perfgate.load.response import read

CHUNK = {"choices": [{"index": 0, "text": " a"}]}
USAGE = {"choices": [], "usage": {"prompt_tokens": 4, "completion_tokens": 3}}
EVENTS = [*[json.dumps(CHUNK)] * 3, json.dumps(USAGE), "[DONE]"]
ENDS = {"LF": b"\n", "CRLF": b"\r\n", "CR": b"\r"}


def event(data, end=b"\n", name=b""):
    """One event; each line of the data is a data line."""
    lines = [b"event: " + name] if name else []
    lines += [b"data: " + line.encode() for line in data.split("\n")]
    return end.join([*lines, b"", b""])


def answer(data, cuts=(), status=200):
    """A record whose reads end at these places, each at the ns of its end."""
    edges = [0, *sorted(set(cuts)), len(data)]
    reads = Reads.of_pairs((b, data[a:b]) for a, b in pairwise(edges))
    return RequestRecord(
        index=0,
        input_tokens=4,
        asked_tokens=3,
        due_ns=0,
        sent_ns=1,
        end_ns=10**6,
        status=status,
        reads=reads,
    )


def pretty(text):
    """The same document on several lines."""
    if text == "[DONE]":
        return text
    return json.dumps(json.loads(text), indent=1)


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("form", [str, pretty])
def test_cut_at_every_byte(end, form):
    """A chunk has the time of the read that ends its empty line, wherever reads are cut."""
    sent = [event(form(text), ENDS[end]) for text in EVENTS]
    data = b"".join(sent)
    complete = [sum(map(len, sent[: k + 1])) for k in range(3)]
    if end == "CRLF":
        complete = [at - 1 for at in complete]  # the CR ends it already
    for cut in range(1, len(data)):
        t = read(answer(data, [cut]))
        expected = tuple(cut if at <= cut else len(data) for at in complete)

        assert (None, expected) == (t.error, tuple(t.chunk_ns)), cut


@settings(deadline=None, max_examples=200)
@given(
    st.sampled_from(sorted(ENDS)),
    st.sampled_from([str, pretty]),
    st.lists(st.integers(1, 10_000), max_size=40),
)
def test_cut_anywhere_any_number_of_times(end, form, places):
    """What is read does not depend on the reads, and times never go back."""
    data = b"".join(event(form(text), ENDS[end]) for text in EVENTS)
    t = read(answer(data, [1 + place % (len(data) - 1) for place in places]))

    assert (None, 3, 3) == (t.error, t.output_tokens, len(t.chunk_ns))
    assert sorted(t.chunk_ns) == list(t.chunk_ns)


def test_a_crlf_that_the_network_splits_costs_no_time():
    """Each chunk has its own time although its last LF comes with the next one."""
    sent = [event(text, b"\r\n") for text in EVENTS]
    cuts = [sum(map(len, sent[: k + 1])) - 1 for k in range(5)]

    assert tuple(cuts[:3]) == tuple(read(answer(b"".join(sent), cuts)).chunk_ns)


def test_documents_without_an_empty_line_between_them():
    """Some servers forget it: each line is a document then."""
    data = event("\n".join(EVENTS))

    assert (None, 3) == (
        read(answer(data)).error,
        len(read(answer(data)).chunk_ns),
    )


def test_a_byte_order_mark_is_skipped():
    """As the standard says."""
    data = b"\xef\xbb\xbf" + b"".join(map(event, EVENTS))

    assert 3 == len(read(answer(data)).chunk_ns)


@pytest.mark.parametrize(
    ("error", "name", "said"),
    [
        ('{"error":{"message":"engine is dead","code":500}}', b"", "engine is"),
        ('{"error":"engine is dead"}', b"", "engine is dead"),
        (
            '{"object":"error","message":"engine is dead"}',
            b"",
            "engine is dead",
        ),
        ('{"message":"engine is dead","code":500}', b"", "engine is dead"),
        ('{"detail":"engine is dead"}', b"", "engine is dead"),
        ('{"message":"engine is dead"}', b"error", "engine is dead"),
        ("engine is dead", b"error", "engine is dead"),
        (
            '{"error":{"message":"\\u001b[2J\\n::error::x"}}',
            b"",
            r"\x1b[2J ::er",
        ),
        ('{"error":{"message":"no key sk-abcdef12345"}}', b"", "no key ***"),
    ],
)
def test_an_error_in_a_stream_is_told_in_the_servers_words(error, name, said):
    """Whatever its form; and what it says is text."""
    data = event(EVENTS[0]) + event(error, name=name) + event("[DONE]")
    reason = read(answer(data)).error

    assert "the server reported an error in the stream: " in reason
    assert said in reason
    assert "\n" not in reason


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ('{"choices":3}', "an event of another form than a completion's"),
        ('{"choices":[{"text":' + "[" * 100_000, "an event of another form"),
        ('{"error":' + "[" * 100_000, "invalid JSON"),
        ('{"usage":{"prompt_tokens":1.5}}', "an event of another form"),
    ],
)
def test_what_is_no_completion_is_told_as_it_is(data, reason):
    """JSON of another form is not called invalid; nesting without end is no crash."""
    assert read(answer(event(data))).error.startswith(reason)


def test_no_choices_at_all_is_no_error():
    """Null in place of an empty list."""
    usage = json.dumps(USAGE | {"choices": None})
    data = b"".join(map(event, [*EVENTS[:3], usage, "[DONE]"]))

    assert None is read(answer(data)).error


def test_the_body_of_a_refusal_is_one_line_of_text():
    """Colours, commands and secrets of a front stay harmless."""
    body = b"\x1b[31mno\n::error::Bearer abc.123\n```\n  do:   run X"
    reason = read(answer(body, status=500)).error

    assert r"HTTP 500: \x1b[31mno ::error::Bearer *** ``` do: run X" == reason
