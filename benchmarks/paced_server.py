"""Paced server: starts `paced_server.c`, which knows when it really sent each chunk."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec

from perfgate import web
from perfgate.errors import Failure

SOURCE = Path(__file__).with_suffix(".c")
REAL_TIME = "50"  # priority: a neighbour does not delay what is to be sent


class NoPacedServer(Failure):
    """The server cannot be built or started."""


class SentAnswer(msgspec.Struct, frozen=True):
    """One answer as it was sent, ns of CLOCK_MONOTONIC.

    Attributes:
        due_ns, sent_ns: of each chunk: when it was to leave, and just before it did.
    """

    request_id: str
    received_ns: int
    due_ns: list[int]
    sent_ns: list[int]


class PacedServer:
    """A running server.

    Args:
        port: of 127.0.0.1.
    """

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"

    def pace(self, ttft_s: float, itl_s: float, in_step: bool) -> None:
        """Set how the next answers are sent, and forget those of before."""
        query = (
            f"ttft_ns={ttft_s * 1e9:.0f}&itl_ns={itl_s * 1e9:.0f}"
            f"&step={int(in_step)}"
        )
        web.get(f"{self.url}/pace?{query}", timeout_s=10)
        self.sent()

    def sent(self) -> list[SentAnswer]:
        """The answers since the last call, in the order of their requests."""
        lines = web.get(f"{self.url}/sent", timeout_s=60).splitlines()
        return [msgspec.json.decode(line, type=SentAnswer) for line in lines]


def on_core(core: int, priority: str) -> list[str]:
    """What stands before a command to run it on one core, undisturbed by others."""
    return ["taskset", "-c", str(core), "chrt", "--fifo", priority]


@contextlib.contextmanager
def paced_server(core: int | None = None) -> Iterator[PacedServer]:
    """A running server.

    Args:
        core: that it has for itself, with real-time priority; None runs it as any
            process.

    Raises:
        NoPacedServer: there is no C compiler, or no leave for real-time priority.
    """
    compiler = shutil.which("cc")
    if compiler is None:
        raise NoPacedServer(
            tried=f"compiling {SOURCE.name}",
            seen="no cc on the path",
            remedy="install a C compiler: apt-get install gcc",
        )
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder, SOURCE.stem)
        subprocess.run(
            [compiler, "-O2", "-o", str(program), str(SOURCE)], check=True
        )
        with socket.socket() as chosen:
            chosen.bind(("127.0.0.1", 0))
            port = chosen.getsockname()[1]
        command = [str(program), str(port)]
        if core is not None:
            command = [*on_core(core, REAL_TIME), *command]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            if process.stdout.readline() != b"ready\n":
                raise NoPacedServer(
                    tried=" ".join(command),
                    seen=f"exit code {process.wait()}",
                    remedy="run it as root on a machine of two cores or more",
                )
            try:
                yield PacedServer(port)
            finally:
                process.kill()
