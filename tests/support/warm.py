"""Warm processes: pytest and perfgate in forks of a process that has imported them once.

A program that is started imports for a second before it does anything, and tests start
hundreds. Each fork has its own folder, environment, output and exit code. No test session
ran in the process that is forked, so that one fork cannot see what another did.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import pkgutil
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
PROGRAMS = ("pytest", "perfgate")
# Libraries that are imported within functions.
LIBRARIES = (
    "httptools",
    "jinja2",
    "junitparser",
    "matplotlib.figure",
    "numpy.fft",
    "pytest",
    "requests",
    "rich.live",
    "scipy.special",
    "scipy.stats",
    "tokenizers",
    "uvloop",
    "tests.support.fake_suite",
)
# pytest imports a plugin itself, to rewrite its assertions; the others run elsewhere.
LEFT_OUT = ("perfgate.plugin", "perfgate.run.xdist", "__main__", ".inside")


class TooLong(Exception):
    """A program did not end in time, and was killed."""


@dataclass(frozen=True)
class Ended:
    """A program that has ended, with the files of what it printed."""

    status: int
    stdout: Path
    stderr: Path
    duration_s: float


class Warm:
    """Starts programs as forks of one process."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.warm"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def end(self) -> None:
        """End the process; its last fork has ended."""
        self._process.communicate()

    def run(
        self,
        folder: Path,
        program: str,
        arguments: Sequence[str | os.PathLike[str]],
        environ: Mapping[str, str],
        timeout_s: float,
    ) -> Ended:
        """Run a program in a folder until it ends.

        Args:
            program: one of `PROGRAMS`.
        """
        began_s = time.monotonic()
        files = folder / "stdout", folder / "stderr"
        request = {
            "folder": str(folder),
            "program": program,
            "arguments": [os.fspath(word) for word in arguments],
            "environ": dict(environ),
            "outputs": [str(file) for file in files],
        }
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        self._process.stdin.flush()
        pid = self._answer(None)
        status = self._answer(timeout_s)
        if status is None:
            os.kill(pid, signal.SIGKILL)
            self._answer(None)
            raise TooLong(f"{program} {arguments} took {timeout_s} s")
        return Ended(status, *files, time.monotonic() - began_s)

    def _answer(self, timeout_s: float | None) -> Any:
        """The next line of the process; None where none came in time."""
        output = self._process.stdout
        if not select.select([output], [], [], timeout_s)[0]:
            return None
        return json.loads(output.readline())


@functools.cache
def shared() -> Warm:
    """The one of this process, started at the first use."""
    return Warm()


def end_shared() -> None:
    """End the one of this process, where it was started."""
    if shared.cache_info().currsize:
        shared().end()
        shared.cache_clear()


def import_all() -> None:
    """Import what a session, or a command, imports."""
    for name in LIBRARIES:
        importlib.import_module(name)
    package = importlib.import_module("perfgate")
    for module in pkgutil.walk_packages(package.__path__, "perfgate."):
        if not any(part in module.name for part in LEFT_OUT):
            importlib.import_module(module.name)


def next_request() -> dict[str, Any]:
    """Fork for each request that comes; returns in the forks alone, with theirs."""
    for line in sys.stdin.buffer:
        pid = os.fork()
        if not pid:
            return json.loads(line)
        _say(pid)
        _, status = os.waitpid(pid, 0)
        _say(os.waitstatus_to_exitcode(status))
    sys.exit()


def become(request: Mapping[str, Any]) -> None:
    """Let this process look like one that was started for a request."""
    for descriptor, path in zip((1, 2), request["outputs"], strict=True):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, descriptor)
        os.close(file)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environ"])
    sys.dont_write_bytecode = bool(os.environ.get("PYTHONDONTWRITEBYTECODE"))
    added = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:1] = [request["folder"], *filter(None, added)]
    sys.argv = [request["program"], *request["arguments"]]


def main() -> None:
    """Serve requests; in a fork run the program."""
    import_all()
    gc.freeze()
    request = next_request()
    become(request)
    end(run(request["program"]))


def run(program: str) -> int:
    """Run a program with the arguments of this process; returns its exit code."""
    if program == "pytest":
        return int(pytest.main(sys.argv[1:]))
    perfgate = importlib.import_module("perfgate.cli.main")
    try:
        perfgate.main()
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def end(status: int) -> NoReturn:
    """End like an interpreter, but for tearing down what was imported, which takes 0.1 s."""
    threading._shutdown()  # waits for threads that are no daemons
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _say(value: object) -> None:
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.write(json.dumps(value) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
