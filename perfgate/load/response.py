"""Server-sent events (SSE): parse a streamed response into tokens with timestamps.

Turns the bytes of a `RequestRecord` into a `Transcript`, after the measurement:
events are put together, JSON is read, tokens are counted by the server's own
`usage`. A content chunk is an event with choices, whatever its text: the text
of a token may be empty (special tokens, halves of a character), so clients that
wait for a non-empty one (`sglang.bench_serving`) see the first token late. The
event carries the time of the read that completed it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:  # it loads httptools, which only sending needs
    from perfgate.load.http import RequestRecord


class Choice(msgspec.Struct):
    """One choice of a completion chunk; other fields are not looked at."""

    text: str | None = None
    finish_reason: str | None = None


class Usage(msgspec.Struct):
    """The server's own count."""

    prompt_tokens: int
    completion_tokens: int


class Event(msgspec.Struct):
    """One event of the stream."""

    choices: list[Choice] = []
    usage: Usage | None = None
    error: Any = None


DECODE = msgspec.json.Decoder(Event)
Timed = tuple[int, bytes]  # ns, and what was complete then


@dataclass(frozen=True, slots=True)
class Transcript:
    """One request as it went.

    Attributes:
        output_tokens, input_tokens: as counted by the server; as requested, where the
            request failed.
        sent_ns: None if it never left.
        chunk_ns: when each content chunk was complete.
        error: why the request failed; None if it did not.
    """

    index: int
    input_tokens: int
    output_tokens: int
    sent_tokens: int
    asked_tokens: int
    due_ns: int
    sent_ns: int | None
    end_ns: int
    chunk_ns: tuple[int, ...]
    error: str | None = None

    @property
    def first_ns(self) -> int:
        """When the first token came."""
        return self.chunk_ns[0]

    @property
    def last_ns(self) -> int:
        """When the last token came."""
        return self.chunk_ns[-1]


@dataclass(slots=True)
class Stream:
    """Events of one answer, as far as they were read.

    Attributes:
        chunk_ns: when each content chunk was complete.
        last: the choice of the last content chunk.
        is_done: whether the end mark came.
    """

    chunk_ns: list[int] = field(default_factory=list)
    usage: Usage | None = None
    last: Choice | None = None
    is_done: bool = False


def read(record: RequestRecord, only_text: bool = False) -> Transcript:
    """The transcript of one answer; never raises for anything a server may send.

    Args:
        record: the bytes.
        only_text: count only chunks whose text is not empty, as some clients do.

    """
    stream = Stream()
    error = record.error or status_error(record)
    if error is None:
        error = read_events(record.reads, stream, only_text)
    if ends_without_token(stream):
        stream.chunk_ns.pop()
    error = error or incomplete(record, stream)
    input_tokens = record.input_tokens
    output_tokens = record.asked_tokens
    if stream.usage is not None:
        input_tokens = stream.usage.prompt_tokens
        output_tokens = stream.usage.completion_tokens
    return Transcript(
        index=record.index,
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        sent_tokens=record.input_tokens,
        asked_tokens=record.asked_tokens,
        due_ns=record.due_ns,
        sent_ns=record.sent_ns,
        end_ns=record.end_ns,
        chunk_ns=tuple(stream.chunk_ns),
        error=error,
    )


def read_events(
    reads: Iterable[Timed], stream: Stream, only_text: bool
) -> str | None:
    """Add the events of an answer to `stream`; returns why they cannot be read."""
    try:
        for at_ns, data in events(reads):
            if data == b"[DONE]":
                stream.is_done = True
                continue
            event = DECODE.decode(data)
            if event.error is not None:
                text = str(event.error)[:300]
                return f"the server reported an error in the stream: {text}"
            if event.usage is not None:
                stream.usage = event.usage
            if event.choices and (event.choices[0].text or not only_text):
                stream.chunk_ns.append(at_ns)
                stream.last = event.choices[0]
    except (msgspec.DecodeError, UnicodeDecodeError) as problem:
        return f"invalid JSON in the stream: {problem}"
    return None


def ends_without_token(stream: Stream) -> bool:
    """Whether the last chunk has only the finish reason, which some engines send alone."""
    usage, last = stream.usage, stream.last
    if usage is None or last is None:
        return False
    if len(stream.chunk_ns) != usage.completion_tokens + 1:
        return False
    return not last.text and bool(last.finish_reason)


def status_error(record: RequestRecord) -> str | None:
    """What is wrong with an answer that is not a 200."""
    if record.status == 200:
        return None
    if record.location is not None:
        target = f"redirected to {record.location}, which is not followed"
        return f"HTTP {record.status}: {target}"
    start = body_start(record, 300)
    body = start.decode(errors="replace").strip() or "no body"
    return f"HTTP {record.status}: {body}"


def body_start(record: RequestRecord, count: int) -> bytes:
    """The first bytes of the body, for messages."""
    body = b"".join(data for _, data in record.reads)
    return body[:count]


def incomplete(record: RequestRecord, stream: Stream) -> str | None:
    """What a complete answer has and this one lacks; None if it lacks nothing."""
    chunks = len(stream.chunk_ns)
    if not stream.is_done and not chunks:
        start = body_start(record, 80)
        return f"not a stream of completion events: it starts {start!r}"
    if not stream.is_done:
        return f"the stream ended after {chunks} chunks without [DONE]"
    if not chunks:
        return "the stream had no token"
    if stream.usage is None:
        return "the server reported no usage: its tokens cannot be counted"
    return None


def events(reads: Iterable[Timed]) -> Iterator[Timed]:
    """(ns, data) of each event, at the time of the read that completed it.

    Comments and other fields are skipped.
    """
    rest = b""
    at_ns = 0
    for at_ns, data in reads:
        rest += data.replace(b"\r\n", b"\n")
        while True:
            event, separator, after = rest.partition(b"\n\n")
            if not separator:
                break
            rest = after
            for line in data_of(event):
                yield at_ns, line
    for line in data_of(rest):
        yield at_ns, line


def data_of(event: bytes) -> Iterator[bytes]:
    """The data lines of one event. Completion servers put one JSON document on one line."""
    for line in event.split(b"\n"):
        if line.startswith(b"data:"):
            yield line[5:].strip()
