"""Processes and files that survive a killed session.

Sessions are started with a tag in the environment, which every process of
theirs inherits; the supervisor, which has none, names its session's pid on its
command line.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from perfgate.servers.supervisor.processes import command_of, running_processes

ROOT = Path(__file__).resolve().parents[2]
SUPPORT = ROOT / "tests" / "support"


class Session:
    """A `fault_session` in a process and session of its own.

    Args:
        folder: for its logs and leases.
        command: the server's, "{port}" included.
        port: where the server listens.
        wait_s: how long it may wait for a lease.
    """

    def __init__(
        self,
        folder: Path,
        command: tuple[str, ...],
        port: int,
        wait_s: float = 0.0,
    ) -> None:
        self.tag = uuid.uuid4().hex
        self.output = folder / f"session-{self.tag}.txt"
        argv = [
            sys.executable,
            str(SUPPORT / "fault_session.py"),
            str(folder),
            str(port),
            str(wait_s),
            *command,
        ]
        with self.output.open("wb") as out:
            self._process = subprocess.Popen(
                argv,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=os.environ
                | {"PYTHONPATH": str(ROOT), "SURVIVOR_TAG": self.tag},
            )
        self.pid = self._process.pid

    def wait_for(self, text: str, patience_s: float = 60.0) -> None:
        """Wait until it has printed that."""
        self.wait_until(lambda: text in self.output.read_text(), patience_s)

    def wait_until(
        self, condition: Callable[[], bool], patience_s: float = 60.0
    ) -> None:
        """Wait for anything, unless the session ends before."""
        until = time.monotonic() + patience_s
        while not condition():
            if self._process.poll() is not None or time.monotonic() > until:
                self._process.send_signal(signal.SIGUSR1)  # shows where it is
                time.sleep(0.5)
                state = (
                    f"status {self._process.poll()}; running: {self.running()}"
                )
                raise AssertionError(
                    f"it did not happen; {state}; it printed {self.output.read_text()}"
                )
            time.sleep(0.02)

    def send(self, *numbers: signal.Signals) -> None:
        """Send signals to it, 0.2 s apart, and wait until it is gone."""
        for number in numbers:
            self._process.send_signal(number)
            time.sleep(0.2)
        try:
            self._process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self._process.send_signal(signal.SIGUSR1)  # shows where it is
            time.sleep(0.5)
            self._process.kill()
            self._process.wait()
            raise AssertionError(
                f"it goes on after {numbers}; it printed {self.output.read_text()}"
            ) from None

    def send_group(self, number: signal.Signals) -> None:
        """Send a signal to its whole process group, as a CI runner does."""
        os.killpg(self.pid, number)
        self._process.wait(timeout=60)

    def survivors(self, patience_s: float = 60.0) -> list[str]:
        """Return which of its processes remain after that time, at once if none; with daemons."""
        until = time.monotonic() + patience_s
        while (left := self.running()) and time.monotonic() < until:
            time.sleep(0.1)
        return left

    def running(self) -> list[str]:
        """Its processes, each with pid and command."""
        return tagged(self.tag) + [
            f"supervisor {pid}"
            for pid in running_processes()
            if f"for-pid-{self.pid}".encode() in arguments(pid)
        ]


def arguments(pid: int) -> list[bytes]:
    """Its whole command line; what is shown of one elsewhere is cut."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return []


def tagged(tag: str) -> list[str]:
    """Processes that bear a tag in their environment or on their command line."""
    found = []
    for pid in running_processes():
        try:
            environment = Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            continue
        if tag.encode() in environment or tag in command_of(pid):
            found.append(f"pid {pid}: {command_of(pid)}")
    return found
