"""Server-sent events (SSE): parse a streamed response into tokens with timestamps.

Turns the bytes of a `RequestRecord` into a `Transcript`, after the measurement:
events are put together, JSON is read, tokens are counted by the server's own
`usage`. A content chunk is an event with choices, whatever its text: the text
of a token may be empty (special tokens, halves of a character), so clients that
wait for a non-empty one (`sglang.bench_serving`) see the first token late. The
event carries the time of the read that completed it.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from perfgate.errors import NOT_JSON
from perfgate.foreign_text import one_line, without_secrets
from perfgate.load.reads import Reads, Timed

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
    """One event of the stream.

    Attributes:
        error, object, message, detail: how different servers report an error.
    """

    choices: list[Choice] | None = None
    usage: Usage | None = None
    error: Any = None
    object: Any = None
    message: Any = None
    detail: Any = None

    @property
    def complaint(self) -> Any:
        """What the server says is wrong; None where nothing is."""
        if self.error is not None:
            return self.error
        if self.object == "error":
            return self.message or self.detail or "no words"
        if not self.choices and self.usage is None:
            return self.message or self.detail
        return None


DECODE = msgspec.json.Decoder(Event)
BODY_BYTES = 2400  # of an error's body that is read for a message
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class Incoming(NamedTuple):
    """An event of the stream as it was sent.

    Attributes:
        at_ns: when it was complete.
        name: its kind; completion servers name none but "error".
        data: its data lines, joined.
    """

    at_ns: int
    name: bytes
    data: bytes


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
    chunk_ns: Sequence[int]
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

    chunk_ns: array[int] = field(default_factory=lambda: array("q"))
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
    error = failure_of(record)
    if error is None:
        plain = plain_stream(record.reads, only_text)
        if plain is None:
            error = read_events(record.reads, stream, only_text)
        else:
            stream = plain
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
        chunk_ns=stream.chunk_ns,
        error=error,
    )


def plain_stream(reads: Reads, only_text: bool) -> Stream | None:
    """The stream where it is as engines send it, read three times as fast; else None.

    Each event is then one data line, and nothing is an error. All others are read by
    `read_events`, with the same result for these.
    """
    body = reads.body
    lines = body.split(b"\n\n")
    if lines.pop() or b"\r" in body or body.count(b"\n") != 2 * len(lines):
        return None
    stream = Stream()
    read_at = zip(reads.ends, reads.at_ns, strict=True)
    arrived = at_ns = end = 0
    for line in lines:
        end += len(line) + 2
        while arrived < end:
            arrived, at_ns = next(read_at)
        if line == b"data: [DONE]":
            stream.is_done = True
            continue
        if not line.startswith(b"data: "):
            return None
        try:
            event = DECODE.decode(line[6:])
        except NOT_JSON:
            return None
        if event.complaint is not None:
            return None
        add_event(event, at_ns, stream, only_text)
    return stream


def read_events(
    reads: Iterable[Timed], stream: Stream, only_text: bool
) -> str | None:
    """Add the events of an answer to `stream`; returns why they cannot be read."""
    for arrived in events(reads):
        if arrived.name == b"error":
            return in_stream(words_of(arrived.data))
        try:
            documents = decoded(arrived.data)
        except msgspec.ValidationError as problem:
            return f"an event of another form than a completion's: {problem}"
        except NOT_JSON as problem:
            return f"invalid JSON in the stream: {problem}"
        for event in documents:
            if event is None:
                stream.is_done = True
            elif event.complaint is not None:
                return in_stream(event.complaint)
            else:
                add_event(event, arrived.at_ns, stream, only_text)
    return None


def add_event(
    event: Event, at_ns: int, stream: Stream, only_text: bool
) -> None:
    """Add what one document says to `stream`."""
    if event.usage is not None:
        stream.usage = event.usage
    choices = event.choices
    if choices and (choices[0].text or not only_text):
        stream.chunk_ns.append(at_ns)
        stream.last = choices[0]


def decoded(data: bytes) -> list[Event | None]:
    """The documents of one event, None for the end mark.

    Data lines are one document. Some servers forget the empty line between two.

    Raises:
        msgspec.DecodeError: it is no JSON, or of another form.
    """
    if data == b"[DONE]":
        return [None]
    try:
        return [DECODE.decode(data)]
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError:
        lines = [line for line in data.split(b"\n") if line]
        if len(lines) < 2:
            raise
        documents: list[Event | None] = []
        for line in lines:
            documents += decoded(line)
        return documents


def in_stream(complaint: Any) -> str:
    """The reason of a request that failed within its stream."""
    return f"the server reported an error in the stream: {words(complaint)}"


def words_of(data: bytes) -> Any:
    """The complaint in the data of an event that is named "error"."""
    try:
        return DECODE.decode(data).complaint or data
    except NOT_JSON:
        return data


def words(complaint: Any) -> str:
    """What a server says is wrong, on one line: its message, where it has one."""
    if isinstance(complaint, dict):
        complaint = complaint.get("message") or complaint
    if isinstance(complaint, bytes):
        complaint = complaint.decode(errors="replace")
    return one_line(str(complaint))


def ends_without_token(stream: Stream) -> bool:
    """Whether the last chunk has only the finish reason, which some engines send alone."""
    usage, last = stream.usage, stream.last
    if usage is None or last is None:
        return False
    if len(stream.chunk_ns) != usage.completion_tokens + 1:
        return False
    return not last.text and bool(last.finish_reason)


def failure_of(record: RequestRecord) -> str | None:
    """Why there is no stream to read: what the server said, and how the request ended."""
    if record.status in (None, 200):
        return record.error
    refusal = status_error(record)
    if record.error is None:
        return refusal
    return f"{refusal}; {record.error}"


def status_error(record: RequestRecord) -> str:
    """What is wrong with an answer that is not a 200."""
    if record.location is not None:
        target = (
            f"redirected to {one_line(record.location)}, which is not followed"
        )
        return f"HTTP {record.status}: {target}"
    start = body_start(record, BODY_BYTES).decode(errors="replace")
    return f"HTTP {record.status}: {one_line(start) or 'no body'}"


def body_start(record: RequestRecord, count: int) -> bytes:
    """The first bytes of the body, for messages."""
    return record.reads.body[:count]


def incomplete(record: RequestRecord, stream: Stream) -> str | None:
    """What a complete answer has and this one lacks; None if it lacks nothing."""
    chunks = len(stream.chunk_ns)
    if not stream.is_done and not chunks:
        start = without_secrets(repr(body_start(record, 80)))
        return f"not a stream of completion events: it starts {start}"
    if not stream.is_done:
        return f"the stream ended after {chunks} chunks without [DONE]"
    if not chunks:
        return "the stream had no token"
    if stream.usage is None:
        return "the server reported no usage: its tokens cannot be counted"
    if record.sent_ns is None or stream.chunk_ns[0] < record.sent_ns:
        return "the first token came before the request was sent"
    return None


def events(reads: Iterable[Timed]) -> Iterator[Incoming]:
    """Each event at the time of the read that completed it.

    A line ends with LF, CR or CRLF, which may lie in two reads. Comments and other
    fields are skipped.
    """
    rest = b""
    at_ns = 0
    after_cr = False
    for at_ns, data in reads:
        if b"\r" in data or after_cr:
            # An event is complete with its CR; the LF that belongs to it adds no line.
            ends_with_cr = data.endswith(b"\r")
            if after_cr:
                data = data.removeprefix(b"\n")
            after_cr = ends_with_cr
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        rest += data
        while True:
            event, separator, after = rest.partition(b"\n\n")
            if not separator:
                break
            rest = after
            yield from incoming(at_ns, event)
    yield from incoming(at_ns, rest)


def incoming(at_ns: int, event: bytes) -> Iterator[Incoming]:
    """The event of these lines; none where they have no data."""
    lines = []
    name = b""
    for line in event.removeprefix(BYTE_ORDER_MARK).split(b"\n"):
        field, _, value = line.partition(b":")
        if field == b"data":
            lines.append(value.strip())
        elif field == b"event":
            name = value.strip()
    if lines:
        yield Incoming(at_ns, name, b"\n".join(lines))
