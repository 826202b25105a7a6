"""Container limits: what a control group grants of CPU, memory and processes, and OOM kills.

Affinity and the host's memory do not show them: a Kubernetes job is limited by quota.
Both versions of control groups are read, from the group of this process up to the root;
the smallest limit counts.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from perfgate.formatting import count

ROOT = Path("/")
_MOUNT = Path("sys") / "fs" / "cgroup"
# Version 1 writes "no limit" as the largest number of whole pages.
_NO_LIMIT_BYTES = 2**60
_OOM_LINE = re.compile(r"^oom_kill (\d+)$", re.MULTILINE)


@dataclass(frozen=True)
class Limits:
    """What this process may use; None where nothing limits it.

    Attributes:
        cpu_quota_cores: cores by the CPU quota; may be a fraction.
        pids: processes and threads.
        shm_bytes: size of /dev/shm; None where it cannot be read.
    """

    cpu_quota_cores: float | None = None
    memory_bytes: int | None = None
    pids: int | None = None
    shm_bytes: int | None = None


def limits(root: Path = ROOT) -> Limits:
    """The limits of the control group of this process.

    Args:
        root: of the file system, for tests.
    """
    return Limits(
        cpu_quota_cores=_smallest(_quotas(root)),
        memory_bytes=_whole(_smallest(_memory_limits(root))),
        pids=_whole(_smallest(_pid_limits(root))),
        shm_bytes=_shm_bytes(root),
    )


def oom_kills(root: Path = ROOT) -> int | None:
    """Processes of this control group that the kernel killed for memory; None if unknown.

    The nearest group that counts tells it: those above it count other groups as well.
    """
    for folder in _folders(root, "memory"):
        for name in ("memory.events", "memory.oom_control"):
            match = _OOM_LINE.search(_text(folder / name))
            if match:
                return int(match.group(1))
    return None


def usable_cores(root: Path = ROOT) -> float:
    """Cores that this process may use, by affinity and by quota."""
    cores = float(len(os.sched_getaffinity(0)))
    quota = limits(root).cpu_quota_cores
    if quota is None:
        return cores
    return min(cores, quota)


class OomWatch:
    """Watches for processes that the kernel kills for memory, from its making on."""

    def __init__(self, root: Path = ROOT) -> None:
        self._root = root
        self._before = oom_kills(root)
        self._host_before = _host_oom_kills(root)

    def killed_here(self) -> str:
        """Processes of this control group that were killed since, as text; "" if none were."""
        killed = _increase(self._before, oom_kills(self._root))
        if not killed:
            return ""
        processes = count(killed, "process")
        text = f"the kernel killed {processes} of this container for memory"
        limit_bytes = limits(self._root).memory_bytes
        if limit_bytes is None:
            return text
        return f"{text} (limit {limit_bytes / 1e9:.1f} GB)"

    def killed_on_host(self) -> str:
        """Processes of the whole host, which may be another's; "" if none were."""
        killed = _increase(self._host_before, _host_oom_kills(self._root))
        if not killed:
            return ""
        processes = count(killed, "process")
        return (
            f"the kernel of this host killed {processes} for memory meanwhile"
        )


def _increase(before: int | None, now: int | None) -> int:
    if before is None or now is None:
        return 0
    return max(0, now - before)


def _host_oom_kills(root: Path) -> int | None:
    """Processes of the host that the kernel killed for memory; None if unknown."""
    match = _OOM_LINE.search(_text(root / "proc" / "vmstat"))
    if match is None:
        return None
    return int(match.group(1))


def _folders(root: Path, controller: str) -> Iterator[Path]:
    """The folders of this process's group and those above it, of each version."""
    mount = root / _MOUNT
    for line in _text(root / "proc" / "self" / "cgroup").splitlines():
        number, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        if number == "0" and not names:
            mounts = [mount, mount / "unified"]
        elif controller in names.split(","):
            mounts = [mount / names, mount / controller]
        else:
            continue
        base = next((folder for folder in mounts if folder.is_dir()), None)
        if base is not None:
            yield from _upwards(base, path)


def _upwards(base: Path, path: str) -> Iterator[Path]:
    """A group's folder and those above it.

    In a container without a namespace of its own the path is the host's, and the
    container's group is mounted at the base.
    """
    folder = base / path.strip("/")
    while folder != base and folder.is_relative_to(base):
        if folder.is_dir():
            yield folder
        folder = folder.parent
    yield base


def _quotas(root: Path) -> Iterator[float]:
    """Cores: quota over period, both in microseconds."""
    for folder in _folders(root, "cpu"):
        words = _text(folder / "cpu.max").split()
        if not words:
            words = [
                _text(folder / "cpu.cfs_quota_us").strip(),
                _text(folder / "cpu.cfs_period_us").strip(),
            ]
        if len(words) == 2 and words[0].isdigit() and words[1].isdigit():
            quota_us, period_us = map(int, words)
            if quota_us and period_us:
                yield quota_us / period_us


def _memory_limits(root: Path) -> Iterator[float]:
    for folder in _folders(root, "memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            text = _text(folder / name).strip()
            if text.isdigit() and int(text) < _NO_LIMIT_BYTES:
                yield float(text)


def _pid_limits(root: Path) -> Iterator[float]:
    for folder in _folders(root, "pids"):
        text = _text(folder / "pids.max").strip()
        if text.isdigit():
            yield float(text)


def _shm_bytes(root: Path) -> int | None:
    try:
        system = os.statvfs(root / "dev" / "shm")
    except OSError:
        return None
    return system.f_frsize * system.f_blocks


def _smallest(numbers: Iterator[float]) -> float | None:
    return min(numbers, default=None)


def _whole(number: float | None) -> int | None:
    if number is None:
        return None
    return int(number)


def _text(path: Path) -> str:
    """A file of the kernel; "" where it is absent or not readable."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
