"""Daemon of the supervisor: launches one server, and ends it when pytest is gone.

A small process of its own. It outlives pytest and ends the server on order, or when
pytest is gone by whatever cause: a normal end, a signal, SIGKILL, lack of memory. There
is one way out for all of them, so the rare one is as well tested as the common one.

It leaves pytest's session, process group and process tree, and has none of its
environment, because a cancelled CI job is found and killed by those. It is the parent
of the server, and the kernel hands it every process that the server orphans
(PR_SET_CHILD_SUBREAPER), so it finds all that the server starts. If the daemon is
killed, the kernel kills the process that it launched (PR_SET_PDEATHSIG), and the suite
ends the rest (`perfgate.servers.server`).

Only the standard library is imported, without site-packages: it starts in 0.1 s and
takes 10 MB.

Orders arrive on stdin, a line each: the order in JSON, then "ready" or "stop
<seconds>", and "go" for a server that waits for a line on its own stdin. The end of stdin
means that pytest is gone. Answers leave on stdout, one JSON object a line: {"pid"},
{"error"}, {"exit"}, {"report"}.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from perfgate.servers.supervisor.cleanup import Cleanup
from perfgate.servers.supervisor.processes import (
    MARK,
    Process,
    Processes,
    end,
    family,
    look_up,
    running_processes,
)

# After pytest's death everything is gone within 10 s: this, 5 s for SIGKILL to work,
# and time to look at /proc.
ORPHAN_GRACE_S = 3.0
POLL_S = 0.5
# A server makes its shared memory while it starts; later samples would read /proc
# during a measurement.
SAMPLE_S = 2.0
_STDIN, _STDOUT = 0, 1
_READ_BYTES = 65536
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


class Supervisor:
    """The daemon's state: one server, and the processes whose death ends it."""

    def __init__(self, order: Mapping[str, Any], wake: int) -> None:
        self._order = order
        self._log = Path(order["log"])
        self._mark: str = order["mark"]
        self._owners = []
        for pid, started_ticks in order["owners"]:
            owner = Process(pid, parent=0, group=0, started_ticks=started_ticks)
            self._owners.append(owner)
        self._wake = wake
        self._cleanup = Cleanup()
        self._exit: int | None = None
        self._sampled_at = 0.0
        self._is_waiting: bool = order["waits"]
        self._is_starting = True
        self._input = b""
        self.leader = self._launch()

    def _launch(self) -> int:
        env = dict(self._order["env"])
        env[MARK] = self._mark
        source = subprocess.DEVNULL
        if self._is_waiting:
            source = subprocess.PIPE
        with self._log.open("ab") as log:
            # The object is kept, for its destructor would wait for the child.
            self._child = subprocess.Popen(
                self._order["argv"],
                stdin=source,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=env,
                cwd=self._order["cwd"],
                process_group=0,
                pass_fds=self._order["keep_open"],
                preexec_fn=die_with_parent,
            )
        return self._child.pid

    def members(self) -> Processes:
        """The server's processes; ended orphans are reaped first.

        An orphan that has ended is a zombie until its new parent waits for it.
        """
        for pid in _zombie_children(excluded=self.leader):
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        daemon_pid = os.getpid()
        return family(self._mark, self.leader, ancestors=(daemon_pid,))

    def watch(self) -> float:
        """Wait until the server must end; return the seconds that SIGTERM may take."""
        while True:
            ready, _, _ = select.select([_STDIN, self._wake], [], [], POLL_S)
            grace_s = self._read_end(ready)
            if grace_s is not None:
                return grace_s
            if self._is_orphaned():
                return ORPHAN_GRACE_S
            self._note_exit()
            age_s = time.monotonic() - self._sampled_at
            # One that waits does so beside a measurement, and makes no files.
            is_sampled = self._is_starting and not self._is_waiting
            if is_sampled and age_s > SAMPLE_S:
                self._sample()

    def _read_end(self, ready: list[int]) -> float | None:
        """The grace of a signal or an order to end the server; None if there is none."""
        if self._wake in ready:
            signals = os.read(self._wake, 4096)
            if signal.SIGTERM in signals:
                return ORPHAN_GRACE_S
        if _STDIN not in ready:
            return None
        return self._obey(os.read(_STDIN, _READ_BYTES))

    def _is_orphaned(self) -> bool:
        return not all(owner.is_running() for owner in self._owners)

    def _obey(self, data: bytes) -> float | None:
        """Follow orders; return the grace in seconds of one that ends the server."""
        if not data:
            return ORPHAN_GRACE_S
        self._input += data
        *lines, self._input = self._input.split(b"\n")
        for line in lines:
            if line == b"ready":
                self._sample()
                self._is_starting = False
            elif line == b"go":
                self._let_go()
            elif line.startswith(b"stop "):
                _, grace_s = line.split()
                return float(grace_s)
        return None

    def _let_go(self) -> None:
        """Tell a server that waits to serve."""
        self._is_waiting = False
        assert self._child.stdin is not None
        # It may have ended meanwhile.
        with contextlib.suppress(BrokenPipeError), self._child.stdin as words:
            words.write(b"go\n")

    def _note_exit(self) -> None:
        if self._exit is not None:
            return
        # It stays a zombie on purpose: its pid and group cannot be reused before the
        # cleanup is done.
        options = os.WEXITED | os.WNOHANG | os.WNOWAIT
        result = os.waitid(os.P_PID, self.leader, options)
        if result is None:
            return
        status = result.si_status
        self._exit = status if result.si_code == os.CLD_EXITED else -status
        send(exit=self._exit)

    def _sample(self) -> Processes:
        members = self.members()
        self._cleanup.sample(member.pid for member in members)
        self._sampled_at = time.monotonic()
        return members

    def finish(self, grace_s: float) -> None:
        """End the server, clean up after it, and report."""
        if self._is_starting:
            # There is nothing to save, and a start that ignores SIGTERM would make more
            # files.
            grace_s = 0.0

        def remaining_grace_s() -> float:
            # The owner that allowed the grace may die during it.
            if self._is_orphaned():
                return min(grace_s, ORPHAN_GRACE_S)
            return grace_s

        ending = end(self._sample, self.leader, remaining_grace_s)
        self._note_exit()
        removed = self._cleanup.remove(running_processes())
        ending = dataclasses.replace(ending, removed=removed)
        report = dataclasses.asdict(ending)
        text = json.dumps(report)
        with contextlib.suppress(OSError), self._log.open("a") as log:
            log.write(f"[supervisor] ended the server: {text}\n")
        send(report=report)


def send(**message: object) -> None:
    """Answer on stdout; pytest may not listen any more."""
    line = json.dumps(message) + "\n"
    # One call of the system may write a part only.
    with (
        contextlib.suppress(OSError),
        open(_STDOUT, "wb", closefd=False) as output,
    ):
        output.write(line.encode())


def _zombie_children(excluded: int) -> list[int]:
    """Children of this process that have ended, less the launched one."""
    path = Path(f"/proc/self/task/{os.getpid()}/children")
    text = path.read_text()
    zombies = []
    for field in text.split():
        pid = int(field)
        if pid != excluded and look_up(pid) is None:
            zombies.append(pid)
    return zombies


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent ends."""
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _read_order() -> dict[str, Any]:
    """Read the first line of stdin; nothing follows it before it was answered."""
    line = b""
    while not line.endswith(b"\n"):
        data = os.read(_STDIN, 1 << 20)
        if not data:
            raise SystemExit(0)  # pytest died before it had ordered anything
        line += data
    order: dict[str, Any] = json.loads(line)
    return order


def _wake_pipe() -> int:
    """Descriptor on which SIGCHLD and SIGTERM can be read as bytes."""
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    # Handlers, for the server would inherit signals that are ignored.
    for number in (
        signal.SIGCHLD,
        signal.SIGTERM,
        signal.SIGINT,
        signal.SIGHUP,
    ):
        signal.signal(number, lambda *_: None)
    return read_end


def main() -> None:
    """Leave the process tree, launch one server, and stay until it is gone."""
    if os.fork():
        os._exit(0)
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    wake = _wake_pipe()
    order = _read_order()
    try:
        supervisor = Supervisor(order, wake)
    except OSError as error:
        text = error.strerror or str(error)
        send(error=text, errno=error.errno or 0, path=error.filename)
        raise SystemExit(0) from None
    # Only now, so that the server is in pytest's session: Linux shares the processor
    # between sessions (autogroup), and a server that spins in one of its own starved
    # the client for up to a second (vLLM at TP=2 on two cores).
    os.setsid()
    send(pid=supervisor.leader, daemon=os.getpid())
    supervisor.finish(supervisor.watch())
    sys.exit(0)
