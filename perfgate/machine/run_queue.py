"""Run queue: CPU time of processes, and how long their threads were ready and had no core.

The kernel counts both for each thread (/proc/PID/task/TID/schedstat). Waiting is the best
witness of neighbours that a process has: a load average tells neither whose the load is,
nor whether anybody waited for it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

PROC = Path("/proc")
NS_PER_S = 1e9
# Of the time, on a core. A thread that does less may wait without anybody noticing.
BUSY = 0.05


@dataclass(frozen=True)
class Counts:
    """What the kernel has counted for one thread since its start, in ns."""

    cpu_ns: int = 0
    waited_ns: int = 0


@dataclass(frozen=True)
class Snapshot:
    """Counts of all threads of some processes at one moment.

    Attributes:
        at_s: monotonic.
        threads: (pid, thread) -> its counts; empty where the kernel counts none.
    """

    at_s: float
    threads: dict[tuple[int, int], Counts] = field(default_factory=dict)


@dataclass(frozen=True)
class Waiting:
    """The thread that waited longest for a core, of those that had work.

    Attributes:
        share: of the elapsed time.
        pid: its process.
        name: of the thread, as the kernel knows it.
    """

    share: float
    pid: int
    name: str


def snapshot(pids: Iterable[int], proc: Path = PROC) -> Snapshot:
    """The counts of these processes now; threads that have just ended are left out."""
    threads = {}
    for pid in pids:
        for task in _tasks(proc / str(pid)):
            counts = _counts(task)
            if counts is not None:
                threads[pid, int(task.name)] = counts
    return Snapshot(time.monotonic(), threads)


def cpu_s(before: Snapshot, after: Snapshot, pid: int | None = None) -> float:
    """CPU time between two snapshots, of all their processes or of one.

    Threads that ended in between are not counted.
    """
    total_ns = 0
    for key, counts in after.threads.items():
        if pid is None or key[0] == pid:
            total_ns += counts.cpu_ns - before.threads.get(key, Counts()).cpu_ns
    return total_ns / NS_PER_S


def longest_wait(
    before: Snapshot, after: Snapshot, proc: Path = PROC
) -> Waiting | None:
    """The longest wait between two snapshots; None where no thread had work."""
    elapsed_ns = (after.at_s - before.at_s) * NS_PER_S
    longest: Waiting | None = None
    for (pid, thread), counts in after.threads.items():
        start = before.threads.get((pid, thread), Counts())
        if counts.cpu_ns - start.cpu_ns < BUSY * elapsed_ns:
            continue
        share = (counts.waited_ns - start.waited_ns) / elapsed_ns
        if longest is None or share > longest.share:
            name = _name(proc / str(pid) / "task" / str(thread))
            longest = Waiting(share, pid, name)
    return longest


def _tasks(process: Path) -> list[Path]:
    try:
        return list((process / "task").iterdir())
    except OSError:  # it has just ended
        return []


def _counts(task: Path) -> Counts | None:
    """The counts of a thread; None if it has ended, or the kernel counts nothing.

    Some kernels write zeros where their counting is off.
    """
    try:
        cpu_ns, waited_ns, _ = (task / "schedstat").read_text().split()
    except (OSError, ValueError):
        return None
    if not int(cpu_ns):
        return None
    return Counts(int(cpu_ns), int(waited_ns))


def _name(task: Path) -> str:
    try:
        return (task / "comm").read_text().strip()
    except OSError:  # it has just ended
        return task.name
