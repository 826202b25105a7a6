"""Supervisor client: starts a process under a daemon, so that it cannot outlive pytest.

The suite's side of `perfgate.servers.supervisor.daemon`; standard library only, as all
of this package.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from perfgate.servers.supervisor.cleanup import Cleanup
from perfgate.servers.supervisor.processes import (
    Ending,
    Processes,
    RemovedFile,
    end,
    family,
    look_up,
    running_processes,
)

# The folder that holds the package: the daemon's interpreter knows no site-packages.
_ROOT = Path(__file__).resolve().parents[3]
_BOOT = (
    "import sys; sys.path.append(sys.argv[1]); from "
    "perfgate.servers.supervisor.daemon import main; main()"
)
# Begins the last argument of a daemon, which ignores it; it tells daemons apart in a
# list of processes.
DAEMON_ARGUMENT = "for-pid-"
# The daemon answers at once; this is for a machine that is swapping.
_ANSWER_S = 30.0
_KILL_S = 5.0
_CLOSE_S = 1.0
_SLICE_S = 0.5
_READ_BYTES = 65536


class Launched:
    """A supervised process, in a group of its own, its output in a file.

    Args:
        argv: command and arguments.
        env: the whole environment.
        log: absolute path of the file that takes its output.
        owners: pids whose death ends the process, besides this one.
        keep_open: descriptors that the daemon and the process hold: a lock on one of
            them stays locked until both are gone.
        waits: whether the process begins by waiting for a line on its stdin, see `go`.

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
        waits: bool = False,
    ) -> None:
        self.mark = uuid.uuid4().hex
        self._lock = threading.Lock()
        self._pending = b""
        self._is_closed = False
        self._exit: int | None = None
        self._ending: Ending | None = None
        self._answers: dict[str, Any] = {}
        own_pid = os.getpid()
        cleanup = Cleanup()
        order = {
            "argv": list(argv),
            "env": dict(env),
            "cwd": os.getcwd(),  # noqa: PTH109
            "log": str(log),
            "mark": self.mark,
            "owners": _start_times((own_pid, *owners)),
            "keep_open": list(keep_open),
            "waits": waits,
        }
        self._orders, self._status = _start_daemon(keep_open)
        text = json.dumps(order)
        try:
            self._send(text.encode())
            self._await("pid", "error")
        except BaseException:
            self._close()  # to the daemon it means that pytest is gone
            raise
        if "pid" not in self._answers:
            self._close()
            text = self._answers.get("error", "the supervisor died at once")
            number = self._answers.get("errno", 0)
            raise OSError(number, text, self._answers.get("path"))
        self.pid: int = self._answers["pid"]
        self.daemon_pid: int = self._answers["daemon"]
        self._process = look_up(self.pid)
        self._daemon = look_up(self.daemon_pid)
        self._seen: Processes = frozenset()
        # The daemon has its own: this one is for a server that outlives it.
        self._cleanup = cleanup

    def exit_code(
        self, wait_s: float = 0.0, or_readable: int | None = None
    ) -> int | None:
        """Return the exit status (-N: killed by signal N), or None while it runs.

        Args:
            wait_s: how long to wait for its end.
            or_readable: a descriptor that ends the wait too when it can be read.
        """
        deadline = time.monotonic() + wait_s
        while self._exit is None and self._ending is None:
            remaining_s = max(0.0, deadline - time.monotonic())
            # In slices, for another thread may have read the answer.
            is_readable = self._listen(min(_SLICE_S, remaining_s), or_readable)
            if is_readable or time.monotonic() >= deadline:
                break
        return self._exit

    def is_running(self) -> bool:
        """Whether the process runs.

        Known at once, while its exit status takes the daemon some milliseconds.
        """
        if self.exit_code() is not None or self._ending is not None:
            return False
        if self._process is None:
            return False
        return self._process.is_running()

    def members(self) -> Processes:
        """All its processes that run now."""
        self._seen = family(
            self.mark, self.pid, ancestors=(self.daemon_pid,), known=self._seen
        )
        return self._seen

    def go(self) -> None:
        """Send the line for which the process waits."""
        self._send(b"go")

    def note_ready(self) -> None:
        """Tell the daemon that start-up is over; it does not read /proc from then on."""
        self._sample(self.members())
        self._send(b"ready")

    def _sample(self, members: Processes) -> None:
        """Note what these processes hold now."""
        self._cleanup.sample(member.pid for member in members)

    def stop(self, grace_s: float) -> Ending:
        """End it and everything it started; the second call returns the first's result.

        Args:
            grace_s: what SIGTERM may take before SIGKILL.
        """
        if self._ending is None:
            self._wake_daemon()
            self._send(f"stop {grace_s}".encode())
            self._await("report", timeout_s=grace_s + _KILL_S + _ANSWER_S)
            if "report" in self._answers:
                self._ending = _ending(self._answers["report"])
            else:
                self._ending = self._end_without_daemon(grace_s)
            # Until the daemon is gone, and has closed the descriptors that it keeps.
            self._await("nothing more", timeout_s=_CLOSE_S)
            self._close()
        return self._ending

    def _wake_daemon(self) -> None:
        """Let a daemon that somebody stopped (SIGSTOP) go on, for it would hear nothing."""
        if self._daemon is not None and self._daemon.is_running():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(self.daemon_pid, signal.SIGCONT)

    def _end_without_daemon(self, grace_s: float) -> Ending:
        def find() -> Processes:
            members = family(self.mark, self.pid, known=self._seen)
            self._sample(members)
            return members

        ending = end(find, self.pid, lambda: grace_s)
        removed = self._cleanup.remove(running_processes())
        return dataclasses.replace(ending, removed=removed)

    def _await(self, *names: str, timeout_s: float = _ANSWER_S) -> None:
        """Wait for an answer of one of these names, or the end of the daemon."""
        deadline = time.monotonic() + timeout_s
        while not self._is_closed:
            if any(name in self._answers for name in names):
                return
            remaining_s = deadline - time.monotonic()
            if remaining_s <= 0:
                return
            self._listen(remaining_s)

    def _listen(self, wait_s: float, or_readable: int | None = None) -> bool:
        """Read the daemon's answers; whether the other descriptor can be read."""
        poll = select.poll()
        if or_readable is not None:
            poll.register(or_readable, select.POLLIN)
        if not self._is_closed:
            poll.register(self._status, select.POLLIN)
        elif self._process is None or not self._process.is_running():
            if self._exit is None:
                self._exit = -9  # the kernel kills it with its daemon
            return False
        ready = []
        for number, _ in poll.poll(wait_s * 1000):
            ready.append(number)
        with self._lock:
            if self._status in ready and not self._is_closed:
                # Another thread may have read the answer.
                with contextlib.suppress(BlockingIOError):
                    data = os.read(self._status, _READ_BYTES)
                    self._take(data)
        return or_readable in ready

    def _take(self, data: bytes) -> None:
        self._is_closed = not data
        self._pending += data
        *lines, self._pending = self._pending.split(b"\n")
        for line in lines:
            answer = json.loads(line)
            self._answers.update(answer)
        self._exit = self._answers.get("exit", self._exit)

    def _send(self, line: bytes) -> None:
        # A broken pipe is found out by listening.
        with contextlib.suppress(BrokenPipeError):
            view = memoryview(line + b"\n")
            while view:
                count = os.write(self._orders, view)
                view = view[count:]

    def _close(self) -> None:
        with self._lock:
            self._is_closed = True
            for number in {self._orders, self._status} - {-1}:
                os.close(number)
            self._orders = self._status = -1


def _start_times(pids: Sequence[int]) -> list[tuple[int, int]]:
    """(pid, start in ticks) of those that run."""
    times = []
    for pid in pids:
        process = look_up(pid)
        if process is not None:
            times.append((process.pid, process.started_ticks))
    return times


def _ending(report: Mapping[str, Any]) -> Ending:
    """The daemon's report, which came as JSON."""
    removed = []
    for file in report["removed"]:
        removed.append(RemovedFile(**file))
    return Ending(
        seconds=report["seconds"],
        signals=tuple(report["signals"]),
        killed=tuple(report["killed"]),
        removed=tuple(removed),
        survivors=tuple(report["survivors"]),
    )


def _start_daemon(keep_open: Sequence[int]) -> tuple[int, int]:
    """Start a daemon; return descriptors of its stdin, to write, and stdout, to read."""
    daemon_in, orders = os.pipe()
    status, daemon_out = os.pipe()
    python = [sys.executable, "-I", "-S"]
    command = [*python, "-c", _BOOT, str(_ROOT)]
    command.append(f"{DAEMON_ARGUMENT}{os.getpid()}")
    try:
        first = subprocess.Popen(
            command,
            stdin=daemon_in,
            stdout=daemon_out,
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
        os.close(daemon_in)
        os.close(daemon_out)
    first.wait()  # it forks and exits
    os.set_blocking(status, False)
    return orders, status
