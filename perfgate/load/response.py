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
from dataclasses import dataclass
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
        output_tokens, input_tokens: as counted by the server; what was asked for, where
            the request failed.
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


def read(record: RequestRecord, only_text: bool = False) -> Transcript:
    """What the bytes of one answer mean; never raises for anything a server may send.

    Args:
        record: the bytes.
        only_text: count only chunks whose text is not empty, as some clients do.

    """
    chunks: list[int] = []
    usage: Usage | None = None
    last: Choice | None = None
    done = False
    error = record.error or status_error(record)
    reads = record.reads if error is None else ()
    try:
        for at_ns, data in events(reads):
            if data == b"[DONE]":
                done = True
                continue
            event = DECODE.decode(data)
            if event.error is not None:
                text = str(event.error)[:300]
                error = f"the server reported an error in the stream: {text}"
                break
            usage = event.usage or usage
            if event.choices and (event.choices[0].text or not only_text):
                chunks.append(at_ns)
                last = event.choices[0]
    except (msgspec.DecodeError, UnicodeDecodeError) as problem:
        error = f"invalid JSON in the stream: {problem}"
    if usage and last and ends_without_token(len(chunks), usage, last):
        chunks.pop()
    error = error or incomplete(record, chunks, usage, done)
    input_tokens = record.input_tokens
    output_tokens = record.asked_tokens
    if usage is not None:
        input_tokens = usage.prompt_tokens
        output_tokens = usage.completion_tokens
    return Transcript(
        index=record.index,
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        sent_tokens=record.input_tokens,
        asked_tokens=record.asked_tokens,
        due_ns=record.due_ns,
        sent_ns=record.sent_ns,
        end_ns=record.end_ns,
        chunk_ns=tuple(chunks),
        error=error,
    )


def ends_without_token(chunks: int, usage: Usage, last: Choice) -> bool:
    """Whether the last chunk has only the finish reason, which some engines send apart."""
    if chunks != usage.completion_tokens + 1:
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


def incomplete(
    record: RequestRecord, chunks: list[int], usage: Usage | None, done: bool
) -> str | None:
    """What a complete answer has and this one lacks; None if it lacks nothing."""
    if not done and not chunks:
        start = body_start(record, 80)
        return f"not a stream of completion events: it starts {start!r}"
    if not done:
        return f"the stream ended after {len(chunks)} chunks without [DONE]"
    if not chunks:
        return "the stream had no token"
    if usage is None:
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
