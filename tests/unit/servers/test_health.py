"""Health checks: a healthy server and one that is not, in bounded time."""

import os
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from perfgate.servers.health import is_healthy, is_taken, listeners
from tests.support.plans import free_port

CLIENT = """
import socket, sys, time
with socket.create_connection((sys.argv[1], int(sys.argv[2]))):
    print("connected", flush=True)
    time.sleep(60)
"""


@contextmanager
def _server(*pieces: bytes, pause_s: float = 0.0) -> Iterator[tuple[str, int]]:
    """Answer one connection with these pieces, and keep it open."""
    done = threading.Event()

    def answer() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(4096)
            for piece in pieces:
                connection.sendall(piece)
                if done.wait(pause_s):
                    return
            done.wait(30)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer)
        thread.start()
        try:
            yield listener.getsockname()
        finally:
            done.set()
            thread.join()


def _never_ends(wait_s: float, descriptor: int) -> bool:
    select.select([descriptor], [], [], wait_s)
    return False


def test_200_is_healthy() -> None:
    """Status 200 says that the server is up."""
    with _server(b"HTTP/1.1 200 OK\r\n\r\n") as address:
        assert is_healthy(address, "/health", 10.0, _never_ends)


def test_503_is_not_healthy() -> None:
    """Any other status says that it is not."""
    with _server(b"HTTP/1.1 503 Service Unavailable\r\n\r\n") as address:
        assert not is_healthy(address, "/health", 10.0, _never_ends)


def test_what_is_no_http_is_not_healthy() -> None:
    """Another protocol on that port is not our server."""
    with _server(b"SSH-2.0-x\r\n") as address:
        assert not is_healthy(address, "/health", 10.0, _never_ends)


def test_nobody_listening_is_not_healthy() -> None:
    """A refused connection is the usual answer of a server that starts."""
    assert not is_healthy(
        ("127.0.0.1", free_port()), "/health", 10.0, _never_ends
    )


def test_silence_is_bounded() -> None:
    """A server that accepts and says nothing takes no longer than it may."""
    began = time.monotonic()
    with _server() as address:
        assert not is_healthy(address, "/health", 0.3, _never_ends)
    assert time.monotonic() - began < 10


def test_trickle_is_bounded() -> None:
    """The bound is on the whole answer, not on each byte of it."""
    began = time.monotonic()
    with _server(*[b"H"] * 200, pause_s=0.1) as address:  # 200 x 0.1 s = 20 s
        assert not is_healthy(address, "/health", 0.5, _never_ends)
    assert time.monotonic() - began < 10


def test_end_of_the_server_ends_the_probe() -> None:
    """A probe that waits does not hide that the server has exited."""
    began = time.monotonic()
    with _server() as address:
        assert not is_healthy(
            address, "/health", 60.0, lambda wait_s, descriptor: True
        )
    assert time.monotonic() - began < 20


@pytest.mark.parametrize(
    ("host", "family"),
    [("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6)],
)
def test_listener_is_named(host, family) -> None:
    """Who holds a port is known by pid and command; who is connected to it does not hold it."""
    with socket.create_server((host, 0), family=family) as listener:
        port = listener.getsockname()[1]
        client = subprocess.Popen(
            [sys.executable, "-c", CLIENT, host, str(port)],
            stdout=subprocess.PIPE,
        )
        with client:
            client.stdout.readline()

            assert [os.getpid()] == list(listeners(port))
            assert is_taken((host, port))
            client.kill()

    assert {} == listeners(port)
    assert not is_taken((host, port))
