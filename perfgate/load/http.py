"""HTTP client connection: one request on the socket, with two timestamps for each read.

While it measures, a connection does nothing that can wait: it keeps the bytes as they
came (`perfgate.load.reads`), when the kernel received them, where it says so
(`perfgate.load.stamped_socket`), and when the client had them. JSON and server-sent
events are read afterwards (`perfgate.load.response`). It is an `asyncio.Protocol` with
httptools because stream readers and clients built on them spend
more time per token than a large batch on a fast GPU leaves (docs/measuring.md has the
figures).
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import urlsplit

import httptools
import msgspec

from perfgate import web
from perfgate.load.reads import MOST_BYTES, ReadLog, Reads
from perfgate.load.workload import Request

# Of one answer: more than any server needs for its headers, and for a token.
FREE_BYTES = 1024 * 1024
TOKEN_BYTES = 4 * 1024
DATA = b"data:"
HEAD_NS = 2_000_000_000  # from the first byte of the headers to their last


class RequestRecord(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """Raw times of one request, ns of CLOCK_MONOTONIC.

    Attributes:
        due_ns: when the workload wanted it sent: its arrival, or the moment its slot
            became free.
        sent_ns: just before it was written to the socket; None if that never happened.
        reads: the body, and when each read of the socket brought how much of it.
        end_ns: when the answer was complete, or given up.
    """

    index: int
    input_tokens: int
    asked_tokens: int
    due_ns: int
    sent_ns: int | None
    end_ns: int
    status: int | None
    reads: Reads
    error: str | None = None
    location: str | None = None


def encode(
    request: Request, url: str, model: str, sender: str, authorization: str = ""
) -> bytes:
    """The whole HTTP request: greedy, to the full length, with the server's usage at the end.

    Args:
        sender: makes its id unlike those of other repetitions, processes and clients.
        authorization: value of the header; "" sends none.
    """
    parts = urlsplit(url)
    prompt: str | tuple[int, ...] = request.prompt_token_ids
    if request.text is not None:
        prompt = request.text
    body = msgspec.json.encode(
        {
            "model": model,
            "prompt": prompt,
            "max_tokens": request.output_len_tokens,
            "temperature": 0.0,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    )
    head = (
        f"POST {parts.path} HTTP/1.1\r\n"
        f"host: {web.host_header(parts)}\r\n"
        "content-type: application/json\r\n"
        f"x-request-id: perfgate-{sender}-{request.index}\r\n"
        f"content-length: {len(body)}\r\n"
    )
    if authorization:
        head += f"authorization: {authorization}\r\n"
    return f"{head}\r\n".encode() + body


@dataclass(slots=True)
class Exchange:
    """One request on its way.

    Attributes:
        has_length: whether the headers tell where the body ends.
        end_kernel_ns: when the kernel received the end, CLOCK_REALTIME; 0 if not known.
        predecessor: whose end made its slot free; None if it waited for none.
        answer_from_ns: later reads belong to the answer itself.
        head_seen_ns: when its head was first seen to have begun; 0 before.
        events: data lines in the body, as far as they were counted.
    """

    request: Request
    payload: bytes
    due_ns: int = 0
    sent_ns: int | None = None
    end_ns: int = 0
    end_kernel_ns: int = 0
    predecessor: Exchange | None = None
    status: int | None = None
    log: ReadLog = field(default_factory=ReadLog)
    error: str | None = None
    location: str | None = None
    has_length: bool = False
    answer_from_ns: int = 0
    head_seen_ns: int = 0
    events: int = 0
    counted_bytes: int = 0

    def count_events(self) -> int:
        """How many data lines came; reads may be pieces of one."""
        body = self.log.body
        self.events += body.count(DATA, self.counted_bytes)
        # The next one may have begun already.
        self.counted_bytes = max(0, len(body) - len(DATA) + 1)
        return self.events

    def excess_bytes(self) -> int:
        """Bytes of a body that is larger than any answer to this request; else 0."""
        size = len(self.log.body)
        limit = FREE_BYTES + TOKEN_BYTES * self.request.output_len_tokens
        if size > min(limit, MOST_BYTES):
            return size
        return 0

    def is_head_endless(self, read_ns: int, now_ns: int) -> bool:
        """Whether the head of the answer began long ago and has not ended.

        Args:
            read_ns: of the connection's last read.
            now_ns: of this look; the first one that sees a beginning counts.
        """
        if self.status is not None or read_ns <= self.answer_from_ns:
            return False
        self.head_seen_ns = self.head_seen_ns or now_ns
        return now_ns - self.head_seen_ns > HEAD_NS

    @property
    def is_interim(self) -> bool:
        """Whether the answer itself is still to come (100 Continue, 103 Early Hints)."""
        status = self.status
        return status is not None and 100 <= status < 200 and status != 101

    @property
    def ends_with_connection(self) -> bool:
        """Whether nothing but the end of the connection ends the body, as in HTTP/1.0."""
        return self.status is not None and not self.has_length

    def end_by(self, offset_ns: int | None) -> int:
        """When it was complete or given up; for the offset see `ReadLog.reads`."""
        if offset_ns is None or not self.end_kernel_ns:
            return self.end_ns
        return self.end_kernel_ns - offset_ns

    def record(self, offset_ns: int | None = None) -> RequestRecord:
        """What is kept of it, in place of its log; for the offset see `ReadLog.reads`."""
        log, self.log = self.log, ReadLog()
        due_ns = self.due_ns
        if self.predecessor is not None:
            due_ns = self.predecessor.end_by(offset_ns)
        return RequestRecord(
            index=self.request.index,
            input_tokens=len(self.request.prompt_token_ids),
            asked_tokens=self.request.output_len_tokens,
            due_ns=due_ns,
            sent_ns=self.sent_ns,
            end_ns=self.end_by(offset_ns),
            status=self.status,
            reads=log.reads(offset_ns),
            error=self.error,
            location=self.location,
        )


class Transport(Protocol):
    """What a connection needs of its socket."""

    def write(self, data: bytes) -> None:
        """Send it all, now or as soon as possible."""

    def abort(self) -> None:
        """Close it, whatever is left."""

    def close(self) -> None:
        """Close it once everything is sent."""

    def is_closing(self) -> bool:
        """Whether it is closed, or will be."""

    def get_write_buffer_size(self) -> int:
        """How many bytes are still to be sent."""


class Owner(Protocol):
    """Receiver of a connection's events."""

    def finished(
        self, exchange: Exchange, connection: Connection | None
    ) -> None:
        """A request is over; the connection is given back if it can be used again."""

    def lost(self, connection: Connection) -> None:
        """A connection is gone."""


class Connection(asyncio.Protocol):
    """One socket; answers are written down by the parser's callbacks."""

    transport: Transport

    def __init__(self, owner: Owner) -> None:
        self.owner = owner
        self.exchange: Exchange | None = None
        self.read_ns = self.idle_since_ns = time.monotonic_ns()
        self.kernel_ns = 0
        self.log = ReadLog()
        self.parser = httptools.HttpResponseParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Opened."""
        self.transport = transport  # type: ignore[assignment]

    def send(self, exchange: Exchange) -> None:
        """Write the request down and out."""
        self.exchange, self.log = exchange, exchange.log
        exchange.sent_ns = exchange.answer_from_ns = time.monotonic_ns()
        self.transport.write(exchange.payload)

    def data_received(self, data: bytes, kernel_ns: int = 0) -> None:
        """One read; the client's timestamp is taken before anything else is done with it."""
        self.read_ns = time.monotonic_ns()
        self.kernel_ns = kernel_ns
        try:
            self.parser.feed_data(data)
        except (
            httptools.HttpParserError,
            httptools.HttpParserUpgrade,
        ) as error:
            self.fail(f"not HTTP: {error!r}")
        self.log.note(self.read_ns, kernel_ns)

    def on_headers_complete(self) -> None:
        """The status line and the headers are there."""
        if self.exchange:
            self.exchange.status = self.parser.get_status_code()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Where a redirect leads, and whether the end of the body is told."""
        if self.exchange is None:
            return
        name = name.lower()
        if name == b"location":
            self.exchange.location = value.decode("latin-1")
        elif name in (b"content-length", b"transfer-encoding"):
            self.exchange.has_length = True

    def on_body(self, body: bytes) -> None:
        """Some bytes of the body."""
        if self.exchange:
            self.log.body += body

    def on_message_complete(self) -> None:
        """The answer is whole: the connection is free again."""
        exchange = self.exchange
        if exchange is None:
            return
        if exchange.is_interim:
            exchange.status = exchange.location = None
            exchange.has_length = False
            exchange.answer_from_ns, exchange.head_seen_ns = self.read_ns, 0
            return
        self.log.note(self.read_ns, self.kernel_ns)
        self.exchange = None
        exchange.end_ns = self.idle_since_ns = self.read_ns
        exchange.end_kernel_ns = self.kernel_ns
        # What is left of a request that was answered early would precede the next one.
        is_sent = not self.transport.get_write_buffer_size()
        keep = is_sent and self.parser.should_keep_alive()
        # A response parser starts anew with the next status line only if the last
        # message is done with it.
        self.parser = httptools.HttpResponseParser(self)
        if keep:
            self.owner.finished(exchange, self)
        else:
            self.owner.finished(exchange, None)
            self.transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        """The server closed it."""
        self.owner.lost(self)
        exchange = self.exchange
        if exchange is None:
            return
        if error is None and exchange.ends_with_connection:
            self.exchange = None
            exchange.end_ns = self.read_ns
            exchange.end_kernel_ns = self.kernel_ns
            self.owner.finished(exchange, None)
            return
        reason = error or "no error given"
        self.fail(
            f"connection closed before the answer was complete ({reason})"
        )

    def fail(self, reason: str) -> None:
        """Give up the request and the connection."""
        exchange, self.exchange = self.exchange, None
        self.transport.abort()
        if exchange:
            exchange.error, exchange.end_ns = reason, time.monotonic_ns()
            self.owner.finished(exchange, None)
