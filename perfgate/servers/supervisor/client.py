"""Client of the supervisor: starts a process under a guardian, so that it cannot be left behind.

The suite's side of `perfgate.servers.supervisor.daemon`; standard library only, as all
of this package.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from perfgate.servers.supervisor.processes import Ending, Process, end, family, look_up

# The folder that holds the package: the guardian's interpreter knows no site-packages.
_ROOT = Path(__file__).resolve().parents[3]
_BOOT = (
    "import sys; sys.path.append(sys.argv[1]); from "
    "perfgate.servers.supervisor.daemon import main; main()"
)
# The guardian answers at once; this is for a machine that is swapping.
_ANSWER_S = 30.0
_KILL_S = 5.0
_SLICE_S = 0.5


class Launched:
    """A process under guard, in a group of its own, its output in a file.

    Args:
        argv: command and arguments.
        env: the whole environment.
        log: absolute path of the file that takes its output.
        owners: pids whose death ends the process, besides this one.
        keep_open: descriptors that the guardian holds until the process is gone: a lock
            on one of them stays locked.

    Raises:
        OSError: the command or the log cannot be opened.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        log: Path,
        owners: Sequence[int] = (),
        keep_open: Sequence[int] = (),
    ) -> None:
        self.mark = uuid.uuid4().hex
        self._lock = threading.Lock()
        self._pending = b""
        self._is_deaf = False
        self._exit: int | None = None
        self._ended: Ending | None = None
        self._heard: dict[str, Any] = {}
        self._orders, self._status = _start_guardian(keep_open)
        try:
            alive = [p for p in map(look_up, (os.getpid(), *owners)) if p is not None]
            order = {
                "argv": list(argv),
                "env": dict(env),
                "cwd": os.getcwd(),  # noqa: PTH109
                "log": str(log),
                "mark": self.mark,
                "owners": [(p.pid, p.started_ticks) for p in alive],
            }
            self._send(json.dumps(order).encode())
            self._await("pid", "error")
        except BaseException:
            self._hang_up()  # which the guardian takes for our death
            raise
        if "pid" not in self._heard:
            self._hang_up()
            raise OSError(
                self._heard.get("errno", 0),
                self._heard.get("error", "the guardian died at once"),
            )
        self.pid: int = self._heard["pid"]
        self.guardian_pid: int = self._heard["guardian"]
        self._process = look_up(self.pid)

    def exit_code(
        self, wait_s: float = 0.0, or_readable: int | None = None
    ) -> int | None:
        """Return the exit status (-N: killed by signal N), or None while it runs.

        Args:
            wait_s: how long to wait for its end.
            or_readable: a descriptor that ends the wait too when it can be read.
        """
        until = time.monotonic() + wait_s
        while self._exit is None and self._ended is None:
            # In slices, for another thread may have taken the news.
            is_readable = self._listen(
                min(_SLICE_S, max(0.0, until - time.monotonic())), or_readable
            )
            if is_readable or time.monotonic() >= until:
                break
        return self._exit

    def is_running(self) -> bool:
        """Whether the process runs; known at once, while its exit status takes the guardian some milliseconds."""
        return (
            self.exit_code() is None
            and self._ended is None
            and bool(self._process and self._process.is_running())
        )

    def members(self) -> frozenset[Process]:
        """All its processes that run now."""
        return family(self.mark, self.pid, ancestors=(self.guardian_pid,))

    def note_ready(self) -> None:
        """Tell the guardian that start-up is over, after which it stays out of the way."""
        self._send(b"ready")

    def stop(self, grace_s: float) -> Ending:
        """End it and everything it started; the second call returns what the first did."""
        if self._ended is None:
            self._send(f"stop {grace_s}".encode())
            self._await("report", patience_s=grace_s + _KILL_S + _ANSWER_S)
            self._ended = self._told() or self._end_without_guardian(grace_s)
            self._await(
                "nothing more", patience_s=1.0
            )  # then the guardian has let go of the descriptors it keeps
            self._hang_up()
        return self._ended

    def _told(self) -> Ending | None:
        report = self._heard.get("report")
        if report is None:
            return None
        return Ending(
            seconds=report["seconds"],
            signals=tuple(report["signals"]),
            killed=tuple(report["killed"]),
            removed=tuple(report["removed"]),
            left=tuple(report["left"]),
        )

    def _end_without_guardian(self, grace_s: float) -> Ending:
        return end(lambda: family(self.mark, self.pid), self.pid, lambda: grace_s)

    def _await(self, *names: str, patience_s: float = _ANSWER_S) -> None:
        until = time.monotonic() + patience_s
        while (
            not self._is_deaf
            and not any(name in self._heard for name in names)
            and time.monotonic() < until
        ):
            self._listen(max(0.0, until - time.monotonic()))

    def _listen(self, wait_s: float, or_readable: int | None = None) -> bool:
        """Take what the guardian says; whether the other descriptor can be read."""
        poll = select.poll()
        if or_readable is not None:
            poll.register(or_readable, select.POLLIN)
        if not self._is_deaf:
            poll.register(self._status, select.POLLIN)
        elif self._process is None or not self._process.is_running():
            self._exit = (
                self._exit if self._exit is not None else -9
            )  # the kernel kills it with its guardian
            return False
        ready = [number for number, _ in poll.poll(wait_s * 1000)]
        with self._lock:
            if self._status in ready and not self._is_deaf:
                with contextlib.suppress(BlockingIOError):  # another thread was faster
                    self._take(os.read(self._status, 65536))
        return or_readable in ready

    def _take(self, data: bytes) -> None:
        self._is_deaf = not data
        *lines, self._pending = (self._pending + data).split(b"\n")
        for line in lines:
            self._heard.update(json.loads(line))
        self._exit = self._heard.get("exit", self._exit)

    def _send(self, line: bytes) -> None:
        with contextlib.suppress(BrokenPipeError):  # then it is found out by listening
            view = memoryview(line + b"\n")
            while view:
                view = view[os.write(self._orders, view) :]

    def _hang_up(self) -> None:
        with self._lock:
            self._is_deaf = True
            for number in {self._orders, self._status} - {-1}:
                os.close(number)
            self._orders = self._status = -1


def _start_guardian(keep_open: Sequence[int]) -> tuple[int, int]:
    """Start a guardian; return the descriptors of its stdin, to write, and stdout, to read."""
    their_in, orders = os.pipe()
    status, their_out = os.pipe()
    try:
        first = subprocess.Popen(
            [
                sys.executable,
                "-I",
                "-S",
                "-c",
                _BOOT,
                str(_ROOT),
                f"for-pid-{os.getpid()}",
            ],
            stdin=their_in,
            stdout=their_out,
            stderr=subprocess.DEVNULL,
            env={"PATH": os.defpath},
            cwd="/",
            pass_fds=tuple(keep_open),
        )
    except BaseException:
        os.close(orders)
        os.close(status)
        raise
    finally:
        os.close(their_in)
        os.close(their_out)
    first.wait()  # it forks and exits
    os.set_blocking(status, False)
    return orders, status
