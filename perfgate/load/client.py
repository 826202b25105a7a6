"""Load client: sends the requests of one measurement, with timeouts, and records every read.

Requests go in, a `Recording` comes out. Garbage collection is off while it runs, the
event loop is uvloop's, and the answers are only written down (`perfgate.load.http`).
Each read has the time at which the kernel received it (`perfgate.load.stamped_socket`).
Where the kernel gives none, or the clock that it uses was set meanwhile, the times are
those at which the client read, and the recording says so.

Connections are kept alive and opened before the start: as many as will be in flight at
once, so that no handshake falls into a measured time. An idle connection is not used
again after `IDLE_S`: servers close theirs after 5 s, and a request written into a
closing connection would be lost.

Every request has a deadline, the whole run has one, and a stream that goes on beyond
twice what was asked is cut off. Whatever happens, each request gives one record, whose
`error` has what went wrong.
"""

from __future__ import annotations

import asyncio
import gc
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from urllib.parse import urlsplit

import msgspec
import uvloop

from perfgate import web
from perfgate.errors import Failure, describe_error, exhausted
from perfgate.load import stamped_socket
from perfgate.load.clock import ClockOffset
from perfgate.load.http import Connection, Exchange, RequestRecord, encode
from perfgate.load.stamped_socket import (
    NoReceiveTimes,
    Poller,
    StampedTransport,
)
from perfgate.load.workload import NS, Request

IDLE_S = 2.0
CONNECT_S = 10.0
WATCH_S = 0.1  # how often deadlines are looked at
HEARTBEAT_S = 0.01  # how often the client notes that it runs
ABSENT_NS = 20_000_000
# Begins the reason of a request that the client could not send.
STARVED = "the client is "
CLIENT_TIMES = "the kernel was not asked"
# How old a token may be that shows that the server lives.
LIFE_NS = 1_000_000_000
Progress = Callable[[int, int], None]


def no_progress(_done: int, _total: int) -> None:
    """For a caller that shows none."""


class ClientStarved(Failure):
    """The client's process is out of descriptors or memory."""


class Recording(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """Everything one run wrote down.

    Attributes:
        start_ns: when arrival 0 was due.
        end_ns: when the last answer was complete.
        client_busy: CPU time of the client's process over wall time, the busiest
            process if there are several.
        client_gaps: (start_ns, end_ns) in which the client itself did not run for at
            least 20 ms.
        hang: how the server hung: no stream sent a token within the silence timeout;
            None if it did not hang.
        no_kernel_times: why the times are those at which the client read; "" if they are
            those at which the kernel received.
    """

    start_ns: int
    end_ns: int
    requests: tuple[RequestRecord, ...]
    client_busy: float
    client_gaps: tuple[tuple[int, int], ...]
    processes: int = 1
    hang: str | None = None
    no_kernel_times: str = CLIENT_TIMES


@dataclass(frozen=True)
class Sending:
    """How requests are sent.

    Attributes:
        url: of the completions endpoint.
        max_concurrency: most requests in flight, None for no limit.
        request_timeout_s: from being sent to being complete.
        run_timeout_s: for all requests together.
        silence_timeout_s: where no stream sends anything for so long, the server hangs,
            and the run ends.
        is_alive: called ten times a second; once it is false, what is in flight fails.
        death_reason: why, then.
        note_life: called while tokens come: they are life as well.
        authorization: value of the header; "" sends none.
        progress: called with (done, total), ten times a second at most.
        start_ns: arrival 0; None starts at once.
        kernel_times: whether to ask the kernel when data came.
    """

    url: str
    model: str
    max_concurrency: int | None = None
    request_timeout_s: float = 600.0
    run_timeout_s: float = 3600.0
    silence_timeout_s: float = 120.0
    start_ns: int | None = None
    is_alive: Callable[[], bool] = lambda: True
    progress: Progress = no_progress
    death_reason: str = "the server process is gone"
    note_life: Callable[[], None] = lambda: None
    authorization: str = ""
    kernel_times: bool = True


class Run:
    """All requests of one measurement, from the first timer to the last answer.

    A freed slot is filled in the very callback that freed it, on the same connection,
    so a closed loop loses no turn of the event loop between an answer and the next
    request.
    """

    def __init__(
        self,
        exchanges: Sequence[Exchange],
        sending: Sending,
        clock: ClockOffset | None = None,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.sending = sending
        self.exchanges = exchanges
        self.coming = deque(exchanges)
        self.waiting: deque[Exchange] = deque()
        self.busy: set[Connection] = set()
        self.idle: list[Connection] = []
        self.connecting: set[asyncio.Task[None]] = set()
        self.in_flight = self.done = 0
        self.hang: str | None = None
        self.all_done = self.loop.create_future()
        self.beats: list[int] = []
        self.beat_timer: asyncio.TimerHandle | None = None
        self.watch_timer: asyncio.TimerHandle | None = None
        parts = urlsplit(sending.url)
        self.address = (parts.hostname or "127.0.0.1", web.port_of(parts))
        self.tls = None
        if parts.scheme == "https":
            self.tls = web.tls()
        self.clock = clock or ClockOffset()
        self.no_kernel_times = self.lacks_kernel_times()
        self.poller: Poller | None = None

    def lacks_kernel_times(self) -> str:
        """Why the kernel will not say when data came; "" if it will."""
        if not self.sending.kernel_times:
            return CLIENT_TIMES
        if self.tls is not None:
            return "the connections are encrypted (https)"
        if not stamped_socket.is_supported():
            return "this platform gives no receive times"
        return ""

    async def open_connections(self) -> None:
        """Open as many as are needed at the start; further ones when they are needed."""
        at_once = sum(
            exchange.request.arrival_ns == 0 for exchange in self.exchanges
        )
        count = max(1, min(at_once, self.sending.max_concurrency or at_once))
        for _ in range(count):
            try:
                self.idle.append(await self.connect())
            except OSError:
                return  # each request will try for itself and say why it failed

    async def connect(self) -> Connection:
        """A new connection.

        Raises:
            OSError: refused, or not accepted within `CONNECT_S` (TimeoutError is one).
        """
        limit = asyncio.timeout(CONNECT_S)
        try:
            async with limit:
                return await self.open_one()
        except TimeoutError:
            if not limit.expired():
                raise
            text = f"not accepted within {CONNECT_S:g} s"
            raise TimeoutError(text) from None

    async def open_one(self) -> Connection:
        """A new connection, however long it takes.

        Raises:
            OSError: refused.
        """
        if self.poller is not None:
            opened = await self.poller.connect(*self.address)
            connection = Connection(self)
            connection.transport = StampedTransport(
                self.poller, opened, connection
            )
            return connection
        _, connection = await self.loop.create_connection(
            lambda: Connection(self), *self.address, ssl=self.tls
        )
        return connection

    async def go(self) -> None:
        """Send everything."""
        if not self.no_kernel_times:
            try:
                self.poller = Poller(self.loop, self)
            except NoReceiveTimes as error:
                self.no_kernel_times = str(error)
        await self.open_connections()
        self.start_ns = self.sending.start_ns or time.monotonic_ns()
        cpu_s = time.process_time()
        timers = [
            self.loop.call_soon(self.beat),
            self.loop.call_soon(self.watch),
        ]
        try:
            self.arrive()
            await self.all_done
            self.cpu_s = time.process_time() - cpu_s
        finally:
            # When interrupted, too: warnings of open connections hide the interrupt.
            for timer in (*timers, self.beat_timer, self.watch_timer):
                if timer is not None:
                    timer.cancel()
            for connection in (*self.idle, *self.busy):
                connection.transport.abort()
            if self.poller is not None:
                self.poller.close()
        self.clock.check()

    def arrive(self) -> None:
        """Begin, or queue, every request that is due; call again when the next is."""
        now_ns = time.monotonic_ns()
        while self.coming:
            exchange = self.coming[0]
            due_ns = self.start_ns + exchange.request.arrival_ns
            if due_ns > now_ns:
                break
            self.coming.popleft()
            exchange.due_ns = due_ns
            slots = self.sending.max_concurrency
            if slots is None or self.in_flight < slots:
                self.begin(exchange)
            else:
                self.waiting.append(exchange)
        if self.coming:
            due_ns = self.start_ns + self.coming[0].request.arrival_ns
            delay_s = max(0.0, (due_ns - time.monotonic_ns()) / NS)
            self.loop.call_later(delay_s, self.arrive)

    def streams(self) -> int:
        """How many requests are being answered."""
        return len(self.busy)

    def spare_s(self) -> float:
        """How long nothing is to be sent, as far as is known."""
        if self.waiting:
            return 0.0  # an answer that ends frees a slot
        if not self.coming:
            return WATCH_S
        due_ns = self.start_ns + self.coming[0].request.arrival_ns
        return (due_ns - time.monotonic_ns()) / NS

    def begin(self, exchange: Exchange) -> None:
        """Send it on a connection that is surely open, or open one."""
        self.in_flight += 1
        while self.idle:
            connection = self.idle.pop()
            idle_ns = time.monotonic_ns() - connection.idle_since_ns
            if idle_ns < IDLE_S * NS and not connection.transport.is_closing():
                self.busy.add(connection)
                connection.send(exchange)
                return
            connection.transport.abort()
        task = self.loop.create_task(self.connect_and_send(exchange))
        self.connecting.add(task)
        task.add_done_callback(self.connecting.discard)

    async def connect_and_send(self, exchange: Exchange) -> None:
        """For a request that found no connection open."""
        try:
            connection = await self.connect()
        except OSError as error:
            exchange.error = f"cannot connect: {error}"
            lacking = exhausted(error)
            if lacking:
                exchange.error = f"{STARVED}{lacking}"
            exchange.end_ns = time.monotonic_ns()
            self.finished(exchange, None)
            return
        self.busy.add(connection)
        connection.send(exchange)

    def finished(
        self, exchange: Exchange, connection: Connection | None
    ) -> None:
        """One request is over, well or not; the next one takes its slot."""
        self.done += 1
        self.in_flight -= 1
        if connection is not None:
            self.busy.discard(connection)
            self.idle.append(connection)
        if self.waiting:
            following = self.waiting.popleft()
            following.due_ns = exchange.end_ns
            following.predecessor = exchange
            self.begin(following)
        if self.done == len(self.exchanges) and not self.all_done.done():
            self.all_done.set_result(None)

    def lost(self, connection: Connection) -> None:
        """A connection is gone, whether in use or not."""
        self.busy.discard(connection)
        if connection in self.idle:
            self.idle.remove(connection)

    def beat(self) -> None:
        """Note that the client runs: its own absences are not the server's silence."""
        self.beats.append(time.monotonic_ns())
        self.beat_timer = self.loop.call_later(HEARTBEAT_S, self.beat)

    def watch(self) -> None:
        """Enforce the deadlines."""
        now_ns = time.monotonic_ns()
        self.clock.check()
        self.sending.progress(self.done, len(self.exchanges))
        end_reason = self.reason_to_end(now_ns)
        if end_reason is not None:
            self.abandon(end_reason)
        for connection in list(self.busy):
            reason = end_reason or self.overdue(connection, now_ns)
            if reason is not None:
                connection.fail(reason)
        self.watch_timer = self.loop.call_later(WATCH_S, self.watch)

    def reason_to_end(self, now_ns: int) -> str | None:
        """Why the whole run must end, if it must; notes a hang."""
        sending = self.sending
        if self.received_lately(now_ns):
            sending.note_life()
        if not sending.is_alive():
            return sending.death_reason
        if now_ns - self.start_ns > sending.run_timeout_s * NS:
            return f"not complete at the run's timeout of {sending.run_timeout_s:g} s"
        if self.silent_ns(now_ns) > sending.silence_timeout_s * NS:
            self.hang = (
                f"no token from any stream for {sending.silence_timeout_s:g} s"
            )
            return self.hang
        return None

    def received_lately(self, now_ns: int) -> bool:
        """Whether a token came since about the last time that deadlines were looked at."""
        for connection in self.busy:
            exchange = connection.exchange
            if exchange is None or not exchange.log.client_ns:
                continue
            if now_ns - exchange.log.client_ns[-1] < LIFE_NS:
                return True
        return False

    def silent_ns(self, now_ns: int) -> int:
        """How long no request in flight received anything; 0 if none is in flight."""
        latest = None
        for connection in self.busy:
            exchange = connection.exchange
            if exchange is None or exchange.sent_ns is None:
                continue
            at_ns = exchange.sent_ns
            if exchange.log.client_ns:
                at_ns = exchange.log.client_ns[-1]
            if latest is None or at_ns > latest:
                latest = at_ns
        if latest is None:
            return 0
        return now_ns - latest

    def overdue(self, connection: Connection, now_ns: int) -> str | None:
        """Why the request on this connection should be given up, if it should."""
        exchange = connection.exchange
        if exchange is None or exchange.sent_ns is None:
            return None
        reads = len(exchange.log.client_ns)
        tokens = exchange.request.output_len_tokens
        timeout_s = self.sending.request_timeout_s
        if now_ns - exchange.sent_ns > timeout_s * NS:
            return f"no complete answer within {timeout_s:g} s ({reads} reads)"
        most = 2 * tokens + 64
        if reads > most and exchange.count_events() > most:
            return f"endless: {exchange.events} events for {tokens} tokens"
        size = exchange.excess_bytes()
        if size:
            return f"endless: {size / 2**20:.0f} MiB for {tokens} tokens"
        if exchange.is_head_endless(connection.read_ns, now_ns):
            return "the headers of the answer have no end"
        return None

    def abandon(self, reason: str) -> None:
        """Fail what was not sent yet."""
        for exchange in (*self.waiting, *self.coming):
            exchange.error = reason
            exchange.end_ns = time.monotonic_ns()
            if not exchange.due_ns:
                exchange.due_ns = self.start_ns + exchange.request.arrival_ns
            self.done += 1
        self.waiting.clear()
        self.coming.clear()
        if self.done == len(self.exchanges) and not self.all_done.done():
            self.all_done.set_result(None)


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """A collection stops the world for tens of ms in a process that holds a test session.

    What lives is looked through once: it stays frozen for later measurements.
    """
    enabled = gc.isenabled()
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def client_gaps(beats: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """Times between two heartbeats at least 20 ms apart, twice HEARTBEAT_S."""
    gaps = []
    for earlier, later in pairwise(beats):
        if later - earlier >= ABSENT_NS:
            gaps.append((earlier, later))
    return tuple(gaps)


def send(requests: Sequence[Request], sending: Sending) -> Recording:
    """Send all requests in this process; blocks until the last answer is over.

    Raises:
        ClientStarved: this process has no descriptors or memory for it.
    """
    # Engines refuse a request whose id is running, and an aborted one may still run.
    sender = secrets.token_hex(6)
    exchanges = []
    for request in requests:
        payload = encode(
            request, sending.url, sending.model, sender, sending.authorization
        )
        exchanges.append(Exchange(request, payload))

    async def main() -> Run:
        run = Run(exchanges, sending)
        await run.go()
        return run

    try:
        with (
            no_garbage_collection(),
            asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
        ):
            run = runner.run(main())
    except OSError as error:
        raise ClientStarved(
            tried=f"sending {len(requests)} requests",
            seen=describe_error(error),
            remedy=exhausted(error) or "look at the limits of this process",
        ) from error
    return recording_of(run)


def recording_of(run: Run) -> Recording:
    """What a run wrote down, with the kernel's times where they can be used."""
    reason = run.no_kernel_times or unusable_times(run)
    offset_ns = None
    if not reason:
        offset_ns = run.clock.start_ns
    records = tuple(exchange.record(offset_ns) for exchange in run.exchanges)
    end_ns = max(record.end_ns for record in records)
    wall_s = max(1e-3, (end_ns - run.start_ns) / NS)
    return Recording(
        start_ns=run.start_ns,
        end_ns=end_ns,
        requests=records,
        client_busy=run.cpu_s / wall_s,
        client_gaps=client_gaps(run.beats),
        hang=run.hang,
        no_kernel_times=reason,
    )


def unusable_times(run: Run) -> str:
    """Why the kernel's times cannot be used after all; "" if they can."""
    if run.clock.set_by_ns:
        step_ms = run.clock.set_by_ns / 1e6
        return f"the system clock was set by {step_ms:+.1f} ms meanwhile"
    reads = missing = 0
    for exchange in run.exchanges:
        stamps = exchange.log.kernel_ns
        reads += len(stamps)
        missing += stamps.count(0)
    if missing:
        return f"{missing} of {reads} reads have no time of the kernel"
    return ""
