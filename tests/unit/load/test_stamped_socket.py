"""Stamped sockets: the kernel's time of each read, and what happens to a connection."""

import asyncio
import errno
import socket
import time
from contextlib import closing
from types import SimpleNamespace

import pytest

from perfgate.load import stamped_socket
from perfgate.load.stamped_socket import (
    NoReceiveTimes,
    Poller,
    StampedTransport,
    is_even,
    pause_s,
)


class Idle:
    """A sender that has nothing to send, for as long as a test says."""

    spare = 1.0

    def streams(self):
        """Two are answered."""
        return 2

    def spare_s(self):
        """As a test says."""
        return self.spare


class Told:
    """Keeps what a socket tells."""

    def __init__(self):
        self.reads = []
        self.lost = []
        self.event = asyncio.Event()

    def data_received(self, data, kernel_ns=0):
        """Some bytes."""
        self.reads.append((data, kernel_ns))
        self.event.set()

    def connection_lost(self, error):
        """The end."""
        self.lost.append(error)
        self.event.set()

    async def more(self):
        """Wait until it is told something more."""
        await asyncio.wait_for(self.event.wait(), 30)
        self.event.clear()


class Pair:
    """A connection to a server that the test itself plays."""

    def __init__(self, poller, transport, told, peer):
        self.poller, self.transport = poller, transport
        self.told, self.peer = told, peer


def sleeping_by(sleep):
    """The time module as the client sees it: other threads of the process sleep as ever."""
    return SimpleNamespace(
        monotonic=time.monotonic, monotonic_ns=time.monotonic_ns, sleep=sleep
    )


def played(script):
    """Run a test's script on a connected pair."""

    async def play():
        poller = Poller(asyncio.get_running_loop(), Idle())
        told = Told()
        with socket.create_server(("127.0.0.1", 0)) as server:
            host, port = server.getsockname()
            opened = await poller.connect(host, port)
            peer, _ = server.accept()
            with peer, closing(poller):
                transport = StampedTransport(poller, opened, told)
                await script(Pair(poller, transport, told, peer))

    asyncio.run(play())


def test_a_read_has_the_time_of_its_arrival():
    """However late the client looks."""

    async def script(pair):
        before_ns = time.time_ns()
        pair.peer.sendall(b"x")
        time.sleep(0.05)  # the client does not run
        late_ns = time.time_ns()
        await pair.told.more()
        ((data, kernel_ns),) = pair.told.reads

        assert b"x" == data
        assert before_ns <= kernel_ns <= late_ns

    played(script)


def test_packets_of_one_read_have_the_time_of_the_last():
    """What came before the client looked is one read, and its time is the latest."""

    async def script(pair):
        pair.peer.sendall(b"a")
        time.sleep(0.02)
        between_ns = time.time_ns()
        pair.peer.sendall(b"b")
        await pair.told.more()
        ((data, kernel_ns),) = pair.told.reads

        assert b"ab" == data
        assert between_ns <= kernel_ns

    played(script)


def test_a_long_request_is_sent_whole():
    """What the socket does not take at once follows when it can."""
    payload = bytes(range(256)) * 100_000

    async def script(pair):
        pair.transport.write(payload)
        received = bytearray()
        while len(received) < len(payload):
            piece = await asyncio.to_thread(pair.peer.recv, 1 << 20)
            received += piece

        assert payload == received
        assert not pair.transport.unsent

    played(script)


@pytest.mark.parametrize("linger", [None, b"\1\0\0\0\0\0\0\0"])
def test_the_end_of_a_connection_is_told_once(linger):
    """Closed by the server, or reset; what came before is read first."""

    async def script(pair):
        pair.peer.sendall(b"x")
        await pair.told.more()
        if linger is not None:
            pair.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        pair.peer.close()
        await pair.told.more()
        pair.transport.abort()
        await asyncio.sleep(0)

        assert 1 == len(pair.told.lost)
        assert (linger is None) == (pair.told.lost[0] is None)
        assert pair.transport.is_closing()

    played(script)


def test_an_abort_is_told_afterwards():
    """As asyncio's transports do: the caller is not called back within its call."""

    async def script(pair):
        pair.transport.abort()
        assert not pair.told.lost
        await pair.told.more()

        assert [None] == pair.told.lost

    played(script)


def test_a_request_into_a_reset_connection_fails():
    """The receiver hears of it; nothing is raised where it is written."""

    async def script(pair):
        pair.transport.socket.shutdown(socket.SHUT_WR)
        pair.transport.write(b"x")
        await pair.told.more()

        assert isinstance(pair.told.lost[0], BrokenPipeError)

    played(script)


def test_a_kernel_without_a_family_of_addresses(monkeypatch):
    """The next address of the name is tried: "localhost" is one of IPv6 as well."""
    made = socket.socket

    def without_ipv6(family, *more):
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "no such family")
        return made(family, *more)

    async def play():
        poller = Poller(asyncio.get_running_loop(), Idle())
        with closing(poller), socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            kind = (socket.SOCK_STREAM, socket.IPPROTO_TCP, "")
            poller.addresses = [
                (socket.AF_INET6, *kind, ("::1", port, 0, 0)),
                (socket.AF_INET, *kind, ("127.0.0.1", port)),
            ]
            names = vars(socket) | {"socket": without_ipv6}
            monkeypatch.setattr(
                stamped_socket, "socket", SimpleNamespace(**names)
            )
            with await poller.connect("localhost", port) as connection:
                return connection.getpeername()

    assert "127.0.0.1" == asyncio.run(play())[0]


def test_a_server_that_refuses():
    """The error is that of the last address."""

    async def refused():
        poller = Poller(asyncio.get_running_loop(), Idle())
        with socket.create_server(("127.0.0.1", 0)) as server:
            host, port = server.getsockname()
        try:
            with pytest.raises(ConnectionRefusedError):
                await poller.connect(host, port)
        finally:
            poller.close()

    asyncio.run(refused())


@pytest.mark.parametrize("how", ["arrival_ns", "ask_for_times"])
def test_a_kernel_without_receive_times(monkeypatch, how):
    """It is found before anything is measured, whichever way it says so."""

    def nothing_stamped(_connection):
        if how == "ask_for_times":
            raise OSError("Protocol not available")
        return 0

    monkeypatch.setattr(stamped_socket, how, nothing_stamped)
    monkeypatch.setattr(stamped_socket, "START_S", 0.01)
    with pytest.raises(NoReceiveTimes, match="no receive times"):
        Poller(None, Idle())


@pytest.mark.parametrize(
    ("reads", "streams", "expected_s"),
    [
        (0, 64, 0.0),
        (500, 64, 0.0016),  # 64 streams of 6.4 ms: a quarter of that
        (500, 256, 0.004),  # no longer than that
        (500, 1, 0.0),  # each read is the same stream's
        (5, 64, 0.0),  # 10 ms between two reads: nothing to join
    ],
)
def test_a_pause_joins_streams_and_hardly_chunks(reads, streams, expected_s):
    """Reads of 50 ms: at least two fall into a pause, of each stream one in four pauses."""
    assert expected_s == pytest.approx(pause_s(reads, streams, 50_000_000))


def test_the_client_pauses_no_longer_than_it_may(monkeypatch):
    """What is to be sent is sent in time."""
    paused = []
    monkeypatch.setattr(stamped_socket, "time", sleeping_by(paused.append))
    monkeypatch.setattr(stamped_socket, "is_even", lambda *_times: True)
    monkeypatch.setattr(stamped_socket, "HOLD_OFF_NS", 0)
    monkeypatch.setattr(stamped_socket, "WINDOW_NS", 10**15)

    async def script(pair):
        for spare_s, expected_s in ((1.0, 0.002), (0.001, 0.001), (-1.0, 0.0)):
            pair.poller.sender.spare = spare_s
            paused.clear()
            # After a look that came late it makes no pause.
            for _ in range(100):
                pair.poller.pause_s = 0.002
                pair.poller.look()

            assert {expected_s} == set(paused)

    played(script)


def test_a_client_that_wakes_late_gives_the_core_away_no_more(monkeypatch):
    """Others want it: for a while there is no further pause."""
    paused = []

    def oversleep(seconds):
        paused.append(seconds)
        time.sleep(0.01)

    monkeypatch.setattr(stamped_socket, "time", sleeping_by(oversleep))
    monkeypatch.setattr(stamped_socket, "is_even", lambda *_times: True)
    monkeypatch.setattr(stamped_socket, "HOLD_OFF_NS", 10**15)
    monkeypatch.setattr(stamped_socket, "WINDOW_NS", 10**15)

    async def script(pair):
        pair.poller.pause_s = 0.002
        paused.clear()
        pair.poller.look()
        pair.poller.look()

        assert [0.002] == paused

    played(script)


@pytest.mark.parametrize(
    ("taken_ns", "reads", "even"),
    [
        (100_000, 1, True),  # one by one
        (1_600_000, 14, True),  # after a pause
        (8_000, 1, False),  # within a burst
        (5_900_000, 1, False),  # its first read
        (100_000, 0, False),
    ],
)
def test_only_even_reads_are_waited_for(taken_ns, reads, even):
    """Reads that came 100 us apart on average; a burst is read as it comes."""
    assert even == is_even(taken_ns, reads * 100_000)
