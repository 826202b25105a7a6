"""Cores: how busy those of this process were, and with whose work.

The kernel counts the time of each core, and of each process. What neither a server nor
its client used was somebody else's, time that a hypervisor took included.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass

import psutil


@dataclass(frozen=True)
class Usage:
    """CPU time until one moment, in s.

    Attributes:
        at_s: monotonic.
        cores: that this process may run on.
        idle_s: of all of these cores.
        own_s: of each process that counts as ours.
    """

    at_s: float
    cores: int
    idle_s: float
    own_s: dict[int, float]


@dataclass(frozen=True)
class Shares:
    """Of the time of all cores, between two moments.

    Attributes:
        idle: nobody's.
        others: neither idle nor ours.
    """

    idle: float
    others: float


def usage(pids: Iterable[int]) -> Usage | None:
    """The counts now, of these processes, of this one and of its descendants.

    None where the kernel does not count the cores one by one.
    """
    affinity = os.sched_getaffinity(0)
    times = psutil.cpu_times(percpu=True)
    if max(affinity) >= len(times):
        return None
    idle_s = 0.0
    for core in affinity:
        idle_s += times[core].idle + getattr(times[core], "iowait", 0.0)
    this = psutil.Process()
    ours = {this.pid, *pids}
    ours.update(child.pid for child in this.children(recursive=True))
    own_s = {}
    for pid in ours:
        spent_s = _spent_s(pid)
        if spent_s is not None:
            own_s[pid] = spent_s
    return Usage(time.monotonic(), len(affinity), idle_s, own_s)


def _spent_s(pid: int) -> float | None:
    """CPU time of a process; None where it has ended or belongs to somebody else."""
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error:
        return None
    return float(times.user + times.system)


def shares(before: Usage, after: Usage) -> Shares | None:
    """Whose the time between two moments was; None where there was none."""
    whole_s = (after.at_s - before.at_s) * after.cores
    if whole_s <= 0 or before.cores != after.cores:
        return None
    idle_s = after.idle_s - before.idle_s
    own_s = 0.0
    for pid, spent_s in after.own_s.items():
        own_s += spent_s - before.own_s.get(pid, 0.0)
    others_s = whole_s - idle_s - own_s
    return Shares(_within(idle_s / whole_s), _within(others_s / whole_s))


def _within(share: float) -> float:
    return min(1.0, max(0.0, share))
