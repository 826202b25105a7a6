"""Does a server answer, and is it ours?"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable

import psutil

from perfgate.servers.supervisor.processes import command_of

_CONNECT_S = 1.0


def is_healthy(
    address: tuple[str, int],
    path: str,
    patience_s: float,
    ended: Callable[[float, int], bool],
) -> bool:
    """Ask for `path`; whether the status is 200.

    Bounded by `patience_s` as a whole, also where the server accepts and then says
    nothing, or says it byte by byte.

    Args:
        address: host and port.
        path: what to GET.
        patience_s: for connecting and answering together.
        ended: called with seconds and a descriptor: waits so long, or until that can be
            read, or until the server has ended; returns whether it has.
    """
    until = time.monotonic() + patience_s
    try:
        with socket.create_connection(
            address, timeout=min(_CONNECT_S, patience_s)
        ) as connection:
            connection.sendall(
                f"GET {path} HTTP/1.1\r\nHost: {address[0]}\r\nConnection: close\r\n\r\n".encode()
            )
            connection.setblocking(False)
            return _status_line(connection, until, ended).split()[1:2] == [b"200"]
    except OSError:
        return False


def _status_line(
    connection: socket.socket, until: float, ended: Callable[[float, int], bool]
) -> bytes:
    """Read up to the first end of line: b"HTTP/1.1 200 OK"."""
    head = b""
    while b"\n" not in head:
        left_s = until - time.monotonic()
        if left_s <= 0 or ended(left_s, connection.fileno()):
            raise TimeoutError
        with contextlib.suppress(BlockingIOError):
            data = connection.recv(4096)
            if not data:
                raise ConnectionResetError
            head += data
    return head.partition(b"\n")[0]


def listeners(port: int) -> dict[int, str]:
    """Pids that listen on a TCP port, with their command lines; only those that we may see."""
    with contextlib.suppress(psutil.AccessDenied):
        found = [
            c for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN
        ]
        pids = {
            c.pid for c in found if c.pid and getattr(c.laddr, "port", None) == port
        }
        return {pid: command_of(pid) for pid in pids}
    return {}


def is_taken(address: tuple[str, int]) -> bool:
    """Whether a server could not listen there. A port that was just closed (TIME_WAIT) is free."""
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
            probe.listen(1)
        except OSError:
            return True
    return False
