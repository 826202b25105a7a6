"""Health check: whether a server answers, and which processes listen on a port."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import time
from collections.abc import Callable
from pathlib import Path

from perfgate.servers.supervisor.processes import command_of, running_processes

_CONNECT_S = 1.0
_TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
_MOST_HEAD_BYTES = 64 * 1024  # a status line without end is none


def is_healthy(
    address: tuple[str, int],
    path: str,
    patience_s: float,
    ended: Callable[[float, int], bool],
) -> bool:
    """GET `path`; whether the status is 200.

    `patience_s` bounds all of it, also where the server accepts and then sends nothing,
    or sends it byte by byte.

    Args:
        address: host and port.
        path: what to GET.
        patience_s: for connecting and answering together.
        ended: called with seconds and a descriptor: waits so long, or until that can be
            read, or until the server has ended; returns whether it has.
    """
    deadline = time.monotonic() + patience_s
    host = address[0]
    request = (
        f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    )
    connect_s = min(_CONNECT_S, patience_s)
    try:
        with socket.create_connection(address, timeout=connect_s) as connection:
            connection.sendall(request.encode())
            connection.setblocking(False)
            status_line = _status_line(connection, deadline, ended)
    except OSError:
        return False
    return status_line.split()[1:2] == [b"200"]


def _status_line(
    connection: socket.socket,
    deadline: float,
    ended: Callable[[float, int], bool],
) -> bytes:
    """Read up to the first end of line: b"HTTP/1.1 200 OK"."""
    head = b""
    while b"\n" not in head:
        if len(head) > _MOST_HEAD_BYTES:
            raise ConnectionAbortedError
        remaining_s = deadline - time.monotonic()
        if remaining_s <= 0 or ended(remaining_s, connection.fileno()):
            raise TimeoutError
        with contextlib.suppress(BlockingIOError):
            data = connection.recv(4096)
            if not data:
                raise ConnectionResetError
            head += data
    return head.partition(b"\n")[0]


def listeners(port: int) -> dict[int, str]:
    """Pids that listen on a TCP port, with their command lines.

    Without those of other users, where their sockets may not be read.
    """
    sockets = set()
    for table in _TABLES:
        with contextlib.suppress(OSError):
            sockets |= _listening(table.read_bytes(), port)
    commands: dict[int, str] = {}
    if not sockets:
        return commands
    for pid in running_processes():
        if sockets & _descriptors(pid):
            commands[pid] = command_of(pid)
    return commands


def _listening(table: bytes, port: int) -> set[str]:
    """Sockets that listen on a port, as links of descriptors name them.

    Args:
        table: content of /proc/net/tcp, which has a line for each closed connection,
            too.
    """
    # Number, local and remote address, state (0A: LISTEN), five fields, inode.
    line = rb"^ *\d+: [0-9A-F]+:%04X [0-9A-F:]+ 0A(?: +\S+){5} +(\d+) "
    inodes = re.findall(line % port, table, re.MULTILINE)
    return {f"socket:[{inode.decode()}]" for inode in inodes}


def _descriptors(pid: int) -> set[str]:
    """What the descriptors of a process are links to; nothing where it may not be read."""
    links = set()
    folder = f"/proc/{pid}/fd"
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):  # noqa: PTH208 (Path takes twice as long)
            with contextlib.suppress(OSError):
                links.add(os.readlink(f"{folder}/{name}"))  # noqa: PTH115
    return links


def is_taken(address: tuple[str, int]) -> bool:
    """Whether a server could not listen there.

    A port that was just closed (TIME_WAIT) is free.
    """
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
            probe.listen(1)
        except OSError:
            return True
    return False
