"""Stamped sockets: reads by `recvmsg` with the time at which the kernel received the data.

The kernel stamps each packet when it arrives (SO_TIMESTAMPNS), whether or not the client
runs. All sockets are in one epoll set, which the event loop watches, so that a look at
many of them costs one callback. As the times are not later for it, the client pauses
after a look where streams send evenly, one by one: it then reads several sockets at
once, for half of the CPU. A burst (streams in step) is read as it comes.

A read returns everything that one socket has. Where that is several packets (chunks of
one stream that came before the client looked, or packets that the network card merged),
they have the time of the last one.
"""

from __future__ import annotations

import asyncio
import select
import socket
import struct
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, Protocol

# linux/socket.h of every architecture but sparc and parisc; Python does not name it.
SO_TIMESTAMPNS = 35
READ_BYTES = 65536
MOST_PAUSE_S = 0.004
PAUSE_SHARE = 0.25  # of the time between two chunks of a stream
EVEN = 4.0  # factor of a time that is about another
MOST_READS = 256  # in one look, or little more: then timers have their turn
HOLD_OFF_NS = 100_000_000  # the first time
WINDOW_NS = 50_000_000  # of the rate by which the pause is chosen
START_S = 1.0
_TIMESPEC = struct.Struct("@ll")
ANCILLARY_BYTES = 64  # more than the header of a control message and a timespec
_NS = 1_000_000_000


class Receiver(Protocol):
    """What a stamped socket tells its events."""

    def data_received(self, data: bytes, kernel_ns: int = 0) -> None:
        """Some bytes, with the CLOCK_REALTIME of their arrival; 0 if the kernel has none."""

    def connection_lost(self, error: Exception | None) -> None:
        """The connection is gone."""


class NoReceiveTimes(OSError):
    """The kernel does not say when data came."""


def is_supported() -> bool:
    """Whether this platform may have receive times, and has epoll."""
    return sys.platform == "linux"


def ask_for_times(connection: socket.socket) -> None:
    """Have the kernel say when it receives data of this socket."""
    connection.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)


def arrival_ns(ancillary: Sequence[tuple[int, int, bytes]]) -> int:
    """The CLOCK_REALTIME of what came with these control messages; 0 if the kernel has none."""
    if not ancillary:
        return 0
    seconds, ns = _TIMESPEC.unpack(ancillary[0][2])
    return int(seconds * _NS + ns)


def start_stamping() -> tuple[socket.socket, socket.socket]:
    """A connection of this process to itself on which data is stamped; keep it open.

    The kernel stamps from some ms after the first socket asks for it until the last one
    is closed.

    Raises:
        NoReceiveTimes: nothing is stamped within `START_S`.
    """
    with ExitStack() as opened:
        try:
            server = opened.enter_context(
                socket.create_server(("127.0.0.1", 0))
            )
            sender = opened.enter_context(
                socket.create_connection(server.getsockname())
            )
            receiver = opened.enter_context(server.accept()[0])
            server.close()
            ask_for_times(receiver)
        except OSError as error:
            raise NoReceiveTimes(f"no receive times: {error}") from error
        deadline_s = time.monotonic() + START_S
        while time.monotonic() < deadline_s:
            sender.send(b"x")
            _, ancillary, _, _ = receiver.recvmsg(READ_BYTES, ANCILLARY_BYTES)
            if arrival_ns(ancillary):
                opened.pop_all()
                return sender, receiver
            time.sleep(0.001)
    raise NoReceiveTimes("the kernel gives no receive times")


def pause_s(reads: int, streams: int, during_ns: int) -> float:
    """How long to pause between two looks; 0 where that would join fewer than two reads.

    Args:
        reads: of all sockets, in the time `during_ns`.
        streams: that are answered.
    """
    if not reads:
        return 0.0
    between_s = during_ns / _NS / reads
    pause = min(MOST_PAUSE_S, PAUSE_SHARE * streams * between_s)
    if pause < 2 * between_s:
        return 0.0
    return pause


def is_even(taken_ns: float, expected_ns: float) -> bool:
    """Whether reads took about as long as so many usually do: no burst, nor its first."""
    return expected_ns <= EVEN * taken_ns and taken_ns <= EVEN * expected_ns


class Sender(Protocol):
    """Who sends on the sockets, and knows what is next."""

    def streams(self) -> int:
        """How many requests are being answered."""

    def spare_s(self) -> float:
        """How long nothing is to be sent, as far as is known."""


class Poller:
    """All stamped sockets of one run.

    Args:
        sender: for whom the client does not pause too long.

    Raises:
        NoReceiveTimes: the kernel stamps nothing.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, sender: Sender) -> None:
        self.stamping = start_stamping()
        self.loop = loop
        self.sender = sender
        self.pause_s = 0.0
        self.between_ns = 0.0
        self.pause_from_ns = 0
        self.hold_off_ns = HOLD_OFF_NS
        self.window_reads = 0
        self.window_ns = self.looked_ns = time.monotonic_ns()
        self.epoll = select.epoll()
        self.by_descriptor: dict[int, StampedTransport] = {}
        self.addresses: list[Any] = []
        loop.add_reader(self.epoll.fileno(), self.look)

    def look(self) -> None:
        """Read what has come; pause where more comes evenly."""
        reads = self.read_ready()
        now_ns = time.monotonic_ns()
        since_ns = now_ns - self.looked_ns
        self.looked_ns = now_ns
        self.window_reads += reads
        if now_ns - self.window_ns > WINDOW_NS:
            self.choose_pause(now_ns)
        if not self.pause_s or now_ns < self.pause_from_ns:
            return
        if reads >= MOST_READS:  # more is there already
            return
        if is_even(since_ns, reads * self.between_ns):
            self.pause(now_ns)

    def pause(self, now_ns: int) -> None:
        """Let further sockets get something.

        A pause that lasts too long shows that others want the core. There the client
        does not give it away for a while, for longer each time: it would read several
        chunks of a stream together.
        """
        seconds = max(0.0, min(self.pause_s, self.sender.spare_s()))
        time.sleep(seconds)
        woken_ns = time.monotonic_ns()
        if woken_ns - now_ns > (seconds + self.pause_s) * _NS:
            self.pause_from_ns = woken_ns + self.hold_off_ns
            self.hold_off_ns *= 2

    def read_ready(self) -> int:
        """Read every socket that has something, again while a burst goes on; how many."""
        reads = 0
        while reads < MOST_READS:
            ready = self.epoll.poll(0, MOST_READS)
            if not ready:
                break
            reads += len(ready)
            for descriptor, events in ready:
                transport = self.by_descriptor.get(descriptor)
                # An earlier one of this look may have closed it.
                if transport is not None:
                    transport.ready(events)
        return reads

    def choose_pause(self, now_ns: int) -> None:
        """By the rate since the last time."""
        during_ns = now_ns - self.window_ns
        self.between_ns = during_ns / max(1, self.window_reads)
        streams = self.sender.streams()
        self.pause_s = pause_s(self.window_reads, streams, during_ns)
        self.window_ns = now_ns
        self.window_reads = 0

    def close(self) -> None:
        """Close the sockets that are open."""
        for transport in list(self.by_descriptor.values()):
            transport.abort()
        self.loop.remove_reader(self.epoll.fileno())
        self.epoll.close()
        for end in self.stamping:
            end.close()

    async def connect(self, host: str, port: int) -> socket.socket:
        """A connected socket that asks for receive times.

        Raises:
            OSError: the name has no address, or none of its addresses accepts.
        """
        if not self.addresses:
            self.addresses = await self.loop.getaddrinfo(
                host, port, type=socket.SOCK_STREAM
            )
        failure = OSError(f"{host} has no address")
        for family, kind, protocol, _, address in self.addresses:
            try:
                connection = socket.socket(family, kind, protocol)
                return await self._connected(connection, address)
            except OSError as error:
                # The kernel may lack a family, such as IPv6.
                failure = error
        raise failure

    async def _connected(
        self, connection: socket.socket, address: Any
    ) -> socket.socket:
        """The socket, connected to the address; closed where that fails."""
        try:
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            ask_for_times(connection)
            await self.loop.sock_connect(connection, address)
        except BaseException:  # also cancelled: too late, or interrupted
            connection.close()
            raise
        return connection


class StampedTransport:
    """What a connection needs of an `asyncio.Transport`, on a stamped socket."""

    def __init__(
        self, poller: Poller, connection: socket.socket, receiver: Receiver
    ) -> None:
        self.poller = poller
        self.socket = connection
        self.recvmsg = connection.recvmsg
        self.receiver = receiver
        self.unsent = memoryview(b"")
        self.descriptor = connection.fileno()
        poller.by_descriptor[self.descriptor] = self
        poller.epoll.register(self.descriptor, select.EPOLLIN)

    def ready(self, events: int) -> None:
        """The socket can be read, or written, or is broken, which reading tells."""
        if events & select.EPOLLOUT:
            self.write_more()
        try:
            data, ancillary, _, _ = self.recvmsg(READ_BYTES, ANCILLARY_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self.lose(error)
            return
        if data:
            self.receiver.data_received(data, arrival_ns(ancillary))
        else:
            self.lose(None)

    def write(self, data: bytes) -> None:
        """Send it; what the socket does not take now follows when it can."""
        self.unsent = memoryview(data)
        self.write_more()

    def write_more(self) -> None:
        """Send what is left."""
        try:
            sent = self.socket.send(self.unsent)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            # Not at once: the caller has not yet noted what it sends.
            self.poller.loop.call_soon(self.lose, error)
            return
        self.unsent = self.unsent[sent:]
        events = select.EPOLLIN
        if self.unsent:
            events |= select.EPOLLOUT
        self.poller.epoll.modify(self.descriptor, events)

    def lose(self, error: Exception | None) -> None:
        """Close it and say so."""
        if not self.is_closing():
            self._close()
            self.receiver.connection_lost(error)

    def abort(self) -> None:
        """Close it; the receiver hears of it afterwards."""
        if not self.is_closing():
            self._close()
            self.poller.loop.call_soon(self.receiver.connection_lost, None)

    close = abort  # what is left of an answered request need not be sent

    def get_write_buffer_size(self) -> int:
        """How many bytes the socket has not taken yet."""
        return len(self.unsent)

    def is_closing(self) -> bool:
        """Whether it is closed."""
        return self.socket.fileno() < 0

    def _close(self) -> None:
        self.poller.epoll.unregister(self.descriptor)
        del self.poller.by_descriptor[self.descriptor]
        self.socket.close()
