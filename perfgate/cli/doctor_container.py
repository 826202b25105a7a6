"""Doctor's findings about the limits of a container: quota, memory, /dev/shm, processes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from perfgate.cli.finding import Finding
from perfgate.errors import describe_error
from perfgate.machine.container import Limits

_GIB = 2**30
# NCCL's advice; vLLM's message queue of one server with two ranks takes 160 MiB.
ENOUGH_SHM_BYTES = _GIB
# Two servers' threads: a rank starts some for each core, and tokenizers their own.
ENOUGH_PIDS = 1024
_SHM_REMEDY = (
    "servers of several ranks need more: --shm-size=2g or --ipc=host (docker), or an "
    "emptyDir of medium Memory at /dev/shm (Kubernetes)"
)


def examine(limits: Limits) -> Iterator[Finding]:
    """The limits that matter here; none where nothing is limited."""
    cores = len(os.sched_getaffinity(0))
    quota = limits.cpu_quota_cores
    if quota is not None and quota < cores:
        yield Finding(
            "container",
            "CPU quota",
            f"{quota:g} of {cores} cores; it is in the label of the baselines",
        )
    if limits.memory_bytes is not None:
        memory_gb = limits.memory_bytes / 1e9
        yield Finding(
            "container", "memory limit", f"{memory_gb:.1f} GB for all processes"
        )
    if limits.shm_bytes is not None:
        yield _shm(limits.shm_bytes)
    if limits.pids is not None and limits.pids < ENOUGH_PIDS:
        yield Finding(
            "container",
            "process limit",
            f"{limits.pids} processes and threads",
            f"engines start hundreds of threads: allow {ENOUGH_PIDS} (--pids-limit)",
        )


def examine_folders(
    home: Path, temporary: Callable[[], str]
) -> Iterator[Finding]:
    """Folders in which engines keep caches and sockets; none where they can be written.

    Args:
        temporary: finds the temporary folder, as `tempfile.gettempdir`.
    """
    if not (home.is_dir() and os.access(home, os.W_OK)):
        yield Finding(
            "container",
            "home folder",
            f"{home} cannot be written",
            "engines keep caches there: set HOME to a folder that can be written",
        )
    try:
        temporary()
    except OSError as error:
        yield Finding(
            "container",
            "temporary folder",
            f"none can be written ({describe_error(error)})",
            "set TMPDIR to a folder that can be written",
        )


def _shm(size_bytes: int) -> Finding:
    mib = size_bytes / 2**20
    seen = f"{mib:.0f} MiB"
    if size_bytes >= _GIB:
        seen = f"{size_bytes / _GIB:.0f} GiB"
    remedy = None
    if size_bytes < ENOUGH_SHM_BYTES:
        remedy = _SHM_REMEDY
    return Finding("container", "/dev/shm", seen, remedy)
