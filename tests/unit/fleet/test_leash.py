"""Leash: a session ends with the worker that started it, whatever ended that."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from perfgate.fleet.leash import LIMIT_STATUS

SLEEP = "import time, os; print(os.getpid(), flush=True); time.sleep(600)"


def leashed(folder, code, limit_s="60"):
    """A Python on a leash, and its log."""
    log = folder / "log" / "pytest.log"
    command = [sys.executable, "-m", "perfgate.fleet.leash", limit_s, str(log)]
    leash = subprocess.Popen(
        [*command, sys.executable, "-c", code], stdin=subprocess.PIPE
    )
    return leash, log


def until(is_so, patience_s=20.0):
    """Wait for something."""
    end = time.monotonic() + patience_s
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.02)


def is_alive(pid):
    """Whether there is such a process, and no zombie of it."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
        return text.rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("code", [0, 1, 3])
def test_the_status_is_the_sessions(tmp_path, code):
    """What it prints is in its log."""
    leash, log = leashed(tmp_path, f"print('done'); raise SystemExit({code})")

    assert code == leash.wait(30)
    assert "done" in log.read_text()
    leash.stdin.close()


@pytest.mark.parametrize("how", ["pipe", "kill", "term"])
def test_the_session_is_gone_with_its_worker(tmp_path, how):
    """The worker's end closes the pipe; a killed leash takes the session along."""
    leash, log = leashed(tmp_path, SLEEP)
    until(lambda: log.exists() and log.read_text().endswith("\n"))
    pid = int(log.read_text())
    assert is_alive(pid)

    if how == "pipe":
        leash.stdin.close()
    else:
        number = signal.SIGKILL if how == "kill" else signal.SIGTERM
        os.kill(leash.pid, number)
    leash.wait(10)

    until(lambda: not is_alive(pid), 5.0)
    leash.stdin.close()


def test_a_session_that_takes_too_long_is_ended(tmp_path):
    """With a status of its own."""
    leash, log = leashed(tmp_path, SLEEP, limit_s="1")

    assert LIMIT_STATUS == leash.wait(30)
    until(lambda: not is_alive(int(log.read_text())), 5.0)
    leash.stdin.close()
