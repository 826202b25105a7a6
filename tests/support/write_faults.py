"""Faults of writing files, and a list of what was acknowledged, in a session's process.

$PERFGATE_WRITE_FAULT is "N:KIND": the N-th write of the process is cut off. KIND is one
of `KINDS`. $PERFGATE_ACKNOWLEDGED names a file that takes a line for each step that was
recorded; a file CAME is beside it once a fault came. $PERFGATE_TAKEN_PORT is chosen for
the first server, and $PERFGATE_CLOCK_JUMP moves the clock by so many seconds.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

from perfgate.results import schema
from perfgate.results.recorder import Recorder
from perfgate.results.schema import RunResults
from perfgate.run import launch_planner

FAULT = "PERFGATE_WRITE_FAULT"
ACKNOWLEDGED = "PERFGATE_ACKNOWLEDGED"
TAKEN_PORT = "PERFGATE_TAKEN_PORT"
CLOCK_JUMP = "PERFGATE_CLOCK_JUMP"
CAME = "fault"
KINDS = ("interrupt", "sigkill", "torn", "disk-full", "io-error")
# Of these the end of what was written is missing.
TORN = ("torn", "disk-full")


def enter() -> None:
    """Do as the environment says, from now on in this process."""
    if os.environ.get(FAULT):
        number, _, kind = os.environ[FAULT].partition(":")
        _fail_at(int(number), kind)
    if os.environ.get(ACKNOWLEDGED):
        _acknowledge(Path(os.environ[ACKNOWLEDGED]))
    if os.environ.get(TAKEN_PORT):
        _take_port(int(os.environ[TAKEN_PORT]))
    if os.environ.get(CLOCK_JUMP):
        _jump(float(os.environ[CLOCK_JUMP]))


def _take_port(port: int) -> None:
    """The first launch is planned on this port; a plan before it tells its environment."""
    ports = [port, port]
    free_port = launch_planner.free_port
    launch_planner.free_port = lambda: ports.pop() if ports else free_port()


def _jump(by_s: float) -> None:
    """Move the wall clock with the third file that is written."""
    clock, sync = time.time, os.fsync
    count = 0

    def fsync(descriptor: int) -> None:
        nonlocal count
        count += 1
        sync(descriptor)

    os.fsync = fsync
    time.time = lambda: clock() + (by_s if count >= 3 else 0.0)


def _fail_at(number: int, kind: str) -> None:
    """A full disk stays full; the other faults come once."""
    sync = os.fsync
    count = 0

    def fsync(descriptor: int) -> None:
        nonlocal count
        count += 1
        if count == number or (count > number and kind == "disk-full"):
            _fail(kind, descriptor)
        sync(descriptor)

    os.fsync = fsync


def _fail(kind: str, descriptor: int) -> None:
    Path(os.environ[ACKNOWLEDGED]).with_name(CAME).touch()
    if kind in TORN:
        os.ftruncate(descriptor, os.fstat(descriptor).st_size - 7)
    if kind == "interrupt":
        raise KeyboardInterrupt
    if kind in ("sigkill", "torn"):
        os.kill(os.getpid(), signal.SIGKILL)
    code = {"disk-full": errno.ENOSPC, "io-error": errno.EIO}[kind]
    raise OSError(code, os.strerror(code))


def _acknowledge(path: Path) -> None:
    def note(results: RunResults) -> None:
        with path.open("a") as lines:
            lines.write(json.dumps(facts(results)) + "\n")

    save, update, finish = schema.save, Recorder.update, Recorder.finish

    def acknowledged(results: RunResults, *args: Any, **more: Any) -> Path:
        saved = save(results, *args, **more)
        note(results)
        return saved

    def updated(recorder: Recorder, **changes: Any) -> None:
        update(recorder, **changes)
        note(recorder.results)

    def finished(recorder: Recorder, **changes: Any) -> None:
        finish(recorder, **changes)
        note(recorder.results)

    schema.save = acknowledged
    Recorder.update = updated
    Recorder.finish = finished


def facts(results: RunResults) -> dict[str, Any]:
    """What a run says was measured and decided."""
    repetitions = {}
    for row in results.measurements:
        name = f"{row.server}/{row.launch}/{row.workload}"
        repetitions[name] = len(row.repetitions)
    return {
        "pid": os.getpid(),
        "repetitions": repetitions,
        "verdicts": [row.case for row in results.verdicts],
        "measured": [
            f"{row.server}/{row.index}"
            for row in results.launches
            if row.measured
        ],
    }
