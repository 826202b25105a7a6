"""Cores: how busy those of this process were, and with whose work.

The kernel counts the time of each core, and of each process. What neither a server nor
its client used was somebody else's, time that a hypervisor took included.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import psutil

PROC = Path("/proc")
# A core of /proc/stat: its number, then ticks of user, nice, system, idle and iowait.
_CORE_LINE = re.compile(r"^cpu(\d+) +\d+ +\d+ +\d+ +(\d+) +(\d+)", re.MULTILINE)


@dataclass(frozen=True)
class Usage:
    """CPU time until one moment, in s.

    Attributes:
        at_s: monotonic.
        cores: that this process may run on.
        idle_s: of all of these cores.
        own_s: of each process that counts as ours.
        children_s: of its children that have ended, as the kernel adds them up.
    """

    at_s: float
    cores: int
    idle_s: float
    own_s: dict[int, float]
    children_s: dict[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Shares:
    """Of the time of all cores, between two moments.

    Attributes:
        idle: nobody's.
        others: neither idle nor ours.
    """

    idle: float
    others: float


def usage(pids: Iterable[int], proc: Path = PROC) -> Usage | None:
    """The counts now, of these processes, of this one and of its descendants.

    None where the kernel does not count each of the cores.
    """
    affinity = os.sched_getaffinity(0)
    idle_by_core_s = _idle_by_core_s(proc)
    if not affinity <= idle_by_core_s.keys():
        return None
    idle_s = sum(idle_by_core_s[core] for core in affinity)
    this = psutil.Process()
    ours = {this.pid, *pids}
    ours.update(child.pid for child in this.children(recursive=True))
    own_s, children_s = {}, {}
    for pid in ours:
        # It may have ended, or belong to somebody else.
        with contextlib.suppress(psutil.Error):
            times = psutil.Process(pid).cpu_times()
            own_s[pid] = float(times.user + times.system)
            children_s[pid] = float(times.children_user + times.children_system)
    return Usage(time.monotonic(), len(affinity), idle_s, own_s, children_s)


def _idle_by_core_s(proc: Path) -> dict[int, float]:
    """Idle time of each core by its number; cores that are switched off have none."""
    try:
        text = (proc / "stat").read_text()
    except OSError:
        return {}
    ticks_per_s = os.sysconf("SC_CLK_TCK")
    idle_s = {}
    for number, idle, waiting in _CORE_LINE.findall(text):
        idle_s[int(number)] = (int(idle) + int(waiting)) / ticks_per_s
    return idle_s


def shares(before: Usage, after: Usage) -> Shares | None:
    """Whose the time between two moments was; None where there was none."""
    whole_s = (after.at_s - before.at_s) * after.cores
    if whole_s <= 0 or before.cores != after.cores:
        return None
    idle_s = after.idle_s - before.idle_s
    own_s = _increase(before.own_s, after.own_s) + _ended_s(before, after)
    others_s = whole_s - idle_s - own_s
    return Shares(_within(idle_s / whole_s), _within(others_s / whole_s))


def _increase(before: dict[int, float], after: dict[int, float]) -> float:
    """Of all processes that are there now; new ones had nothing before."""
    return sum(now_s - before.get(pid, 0.0) for pid, now_s in after.items())


def _ended_s(before: Usage, after: Usage) -> float:
    """What processes of ours used between two moments that have ended since.

    A load's further client processes begin and end in between.
    """
    earlier_s = 0.0
    for pid in before.own_s.keys() - after.own_s.keys():
        earlier_s += before.own_s[pid] + before.children_s.get(pid, 0.0)
    ended_s = _increase(before.children_s, after.children_s)
    return max(0.0, ended_s - earlier_s)


def _within(share: float) -> float:
    return min(1.0, max(0.0, share))
