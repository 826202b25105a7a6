"""Fake engine that leaves files, memory and processes behind when it is killed.

The fake engine, after it has mapped shared memory, bound a socket, and sent a
daemon away that no parent knows of. All three bear the tag that it finds in
SURVIVOR_TAG.
"""

from __future__ import annotations

import mmap
import os
import runpy
import socket
import time
from pathlib import Path


def shared_memory_of(tag: str) -> Path:
    """The file that the engine maps."""
    return Path(f"/dev/shm/hoard-{tag}")


def socket_of(tag: str) -> Path:
    """The socket that the engine binds."""
    return Path(f"/tmp/hoard-{tag}.sock")


def _daemonise(tag: str) -> None:
    """Leave a process behind as daemons do: own session, no parent, cleared environment."""
    if os.fork():
        return
    os.setsid()
    if os.fork():
        os._exit(0)
    os.execve("/bin/sleep", [f"hoard-{tag}", "600"], {})


def _hoard(tag: str) -> tuple[mmap.mmap, socket.socket]:
    with shared_memory_of(tag).open("w+b") as file:
        file.truncate(4096)
        kept = mmap.mmap(file.fileno(), 4096)
        kept[:1] = b"x"  # memory is taken by what is written
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(socket_of(tag)))
    listener.listen()
    _daemonise(tag)
    time.sleep(0.1)
    return kept, listener


if __name__ == "__main__":
    hoard = _hoard(os.environ["SURVIVOR_TAG"])
    runpy.run_path(
        str(Path(__file__).with_name("fake_engine.py")), run_name="__main__"
    )
