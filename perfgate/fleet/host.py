"""Host: carries out an order of the driver on one machine of a fleet.

It runs pytest as a user would, on a leash (`perfgate.fleet.leash`), and sends what the
session records as it is recorded. What a task has measured stays in a folder of this
machine until the driver has it: an order to measure the same again goes on from there.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from perfgate.errors import Failure
from perfgate.files import remove_temporary
from perfgate.fleet.leash import LIMIT_STATUS
from perfgate.fleet.mirror import Mirror
from perfgate.fleet.orders import (
    Check,
    Ended,
    Kept,
    Listed,
    Measure,
    Message,
    Order,
    Said,
    Sweep,
)
from perfgate.foreign_text import clean
from perfgate.locations import HISTORY_FILE, IMPORT_ROOT
from perfgate.results.schema import load

SPOOL = "PERFGATE_FLEET_DIR"  # variable: where a host keeps what it measures
VISIBLE = "CUDA_VISIBLE_DEVICES"
GPUS_MARK = "@"  # in names of folders, between a task and its GPUs
POLL_S = 0.2
CHECK_LIMIT_S = 300.0
LOG = "pytest.log"
LOG_LINES, MOST_LINE = 12, 200
# Exit statuses of pytest after which there is a run: passed, and failed.
RAN = (0, 1)
# A session on a host is no CI job of its own, and judges nothing that counts.
NOT_INHERITED = ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY", "PERFGATE_GATE")
QUIET = ("-p", "no:cacheprovider", "--perf-report", "no", "--gate", "advisory")


def carry_out(order: Order, env: Mapping[str, str]) -> Iterator[Message]:
    """Carry out an order; the last message is `Ended`.

    Args:
        env: variables of this process, with the GPUs that it may use.
    """
    match order:
        case Check():
            yield from _check(order, env)
        case Measure():
            yield from _measure(order, env)
        case Sweep():
            yield from _sweep(order, env)


def spool_of(env: Mapping[str, str], fleet: str) -> Path:
    """Where this machine keeps what it measures for a fleet's run."""
    named = env.get(SPOOL)
    if named:
        return Path(named) / fleet
    folder = f"perfgate-fleet-{os.getuid()}"
    return Path(tempfile.gettempdir()) / folder / fleet


def _check(order: Check, env: Mapping[str, str]) -> Iterator[Message]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        listed = folder / "units.json"
        command = [*order.arguments, f"--units={listed}"]
        session = _Session(order.project, command, folder, CHECK_LIMIT_S, env)
        with contextlib.closing(session):
            status = session.wait()
        if listed.exists():
            yield Listed(content=listed.read_bytes())
            yield Ended(status=status)
        else:
            yield Ended(status=status, reason=session.reason(status))


def _measure(order: Measure, env: Mapping[str, str]) -> Iterator[Message]:
    folder = spool_of(env, order.fleet) / _folder_name(order.task, env)
    # With "=": pytest takes a folder that exists for one that holds tests.
    command = [*order.arguments, f"--unit={order.unit}"]
    command += [f"--run-dir={folder}", "--resume"]
    command += [f"--history={folder / HISTORY_FILE}"]
    try:
        session = _Session(order.project, command, folder, order.limit_s, env)
    except OSError as error:
        text = f"{folder} cannot be written: {error.strerror}"
        yield Ended(status=1, reason=text)
        return
    mirror = Mirror(folder)
    line = ""
    with contextlib.closing(session):
        while session.is_running():
            yield from mirror.news()
            newest = session.newest_line()
            if newest != line:
                line = newest
                yield Said(line=line)
            time.sleep(POLL_S)
        status = session.wait()
    yield from mirror.news()
    yield from mirror.logs()
    reason = ""
    if status not in RAN or not _is_whole(folder):
        reason = session.reason(status)
    yield Ended(status=status, reason=reason)


def _folder_name(task: str, env: Mapping[str, str]) -> str:
    """Folder of a task on this host; other GPUs are another machine, and begin anew."""
    gpus = env.get(VISIBLE, "").replace("/", "_")
    if not gpus:
        return task
    return f"{task}{GPUS_MARK}{gpus}"


def _sweep(order: Sweep, env: Mapping[str, str]) -> Iterator[Message]:
    spool = spool_of(env, order.fleet)
    left = {}
    for folder in sorted(spool.glob("*")):
        task, _, _ = folder.name.partition(GPUS_MARK)
        is_whole = _is_whole(folder)
        is_delivered = task in order.delivered
        if is_delivered or (task in order.elsewhere and not is_whole):
            shutil.rmtree(folder, ignore_errors=True)
        elif is_whole:
            left[task] = str(folder)
    with contextlib.suppress(OSError):
        spool.rmdir()
    yield Kept(folders=left)
    yield Ended(status=0)


def _is_whole(folder: Path) -> bool:
    """Whether a folder holds a run that measured something, and all of it."""
    try:
        results = load(folder)
    except Failure:
        return False
    return bool(results.launches) and results.is_whole


class _Session:
    """Pytest in a process on a leash; closed, it is gone.

    Raises:
        OSError: its log cannot be written.
    """

    def __init__(
        self,
        project: str,
        arguments: Sequence[str],
        folder: Path,
        limit_s: float,
        env: Mapping[str, str],
    ) -> None:
        self._limit_s = limit_s
        self._log = folder / LOG
        folder.mkdir(parents=True, exist_ok=True)
        remove_temporary(folder)
        self._log.write_bytes(b"")
        command = [sys.executable, "-m", "perfgate.fleet.leash"]
        command += [str(limit_s), str(self._log)]
        command += [sys.executable, "-m", "pytest", *arguments, *QUIET]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=project,
            env=_inherited(env),
        )

    def is_running(self) -> bool:
        return self._process.poll() is None

    def wait(self) -> int:
        return self._process.wait()

    def close(self) -> None:
        """End it, if it has not ended by itself."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait()

    def newest_line(self) -> str:
        """The last line of its progress."""
        lines = self._lines()
        return lines[-1] if lines else ""

    def reason(self, status: int) -> str:
        """Why there is no result: the last lines of its log."""
        if status == LIMIT_STATUS:
            return f"not done after {self._limit_s:.0f} s"
        lines = "\n".join(self._lines()[-LOG_LINES:])
        text = f"not everything was measured; pytest ended with status {status}"
        return f"{text}:\n{lines}"

    def _lines(self) -> list[str]:
        try:
            text = self._log.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return []
        rows = [row.strip() for row in clean(text[-4096:]).splitlines()]
        return [row[:MOST_LINE] for row in rows if row]


def _inherited(env: Mapping[str, str]) -> dict[str, str]:
    """Variables of the session: those of this process, and where perfgate is."""
    kept = {}
    for name, value in env.items():
        if name not in NOT_INHERITED:
            kept[name] = value
    path = [str(IMPORT_ROOT), *filter(None, [env.get("PYTHONPATH")])]
    kept["PYTHONPATH"] = os.pathsep.join(path)
    return kept
