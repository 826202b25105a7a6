"""Whose are the GPUs, for now?

Leases hold for the whole machine, so that two jobs do not measure on one GPU: a lock
file per device, named after its UUID (an index means different GPUs to jobs with
different CUDA_VISIBLE_DEVICES). The kernel drops a lock with the last descriptor of it,
so a killed owner leaves nothing stale; the supervisor inherits the descriptor, so that a
lease outlives its owner until the server's memory is free.

flock(2) is used as it is: filelock, which is built on it, empties the file that it
locks and hides the descriptor.
"""

from __future__ import annotations

import contextlib
import fcntl
import getpass
import os
import re
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

import msgspec

from perfgate.errors import Failure

# Not the temporary directory, which CI gives each job anew.
LEASES = Path("/tmp/perfgate-leases")
CPU = "cpu"
_POLL_S = 0.5
_TELL_S = 15.0


class NotLeased(Failure):
    """Others kept the devices for longer than this session was ready to wait."""


class LeaseExpired(Failure):
    """The devices were held for as long as had been announced."""


class Holder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who holds a device, written into the lock file for those who wait."""

    pid: int
    user: str
    command: str
    since_unix_s: float
    until_unix_s: float

    def __str__(self) -> str:
        times = [
            time.strftime("%H:%M:%S", time.localtime(at))
            for at in (self.since_unix_s, self.until_unix_s)
        ]
        late = (
            f", overdue by {(time.time() - self.until_unix_s) / 60:.0f} min"
            if time.time() > self.until_unix_s
            else ""
        )
        return (
            f"pid {self.pid} of {self.user} ({self.command}) since {times[0]}, until "
            f"{times[1]} at most{late}"
        )


class Lease:
    """The right to use some devices; made by `acquire`.

    Attributes:
        devices: the UUIDs that were got, in the order in which they were asked for.
        descriptors: of the lock files; whoever inherits one keeps the lease alive.
    """

    def __init__(
        self,
        devices: tuple[str, ...],
        descriptors: tuple[int, ...],
        until_unix_s: float,
    ) -> None:
        self.devices = devices
        self.descriptors = descriptors
        self._until_unix_s = until_unix_s

    def check(self) -> None:
        """Raise LeaseExpired when the announced time is over: others were told so."""
        if (late_s := time.time() - self._until_unix_s) > 0:
            raise LeaseExpired(
                f"used {', '.join(self.devices)}",
                f"the lease ended {late_s / 60:.0f} min ago",
                "run again, with fewer tests or a longer lease",
            )

    def release(self) -> None:
        """Give the devices back, or let the supervisor do it once a server has ended."""
        for descriptor in self.descriptors:
            os.close(descriptor)
        self.descriptors = ()

    def __enter__(self) -> Lease:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        _: BaseException | None,
        __: TracebackType | None,
    ) -> None:
        self.release()


def acquire(
    candidates: Sequence[str],
    count: int,
    *,
    wait_s: float,
    hold_s: float,
    progress: Callable[[str], None],
    folder: Path = LEASES,
) -> Lease:
    """Lease `count` of the candidate devices, all or none, so that two sessions never wait for each other.

    Args:
        candidates: UUIDs (`CPU` on the CPU), the preferred first.
        count: how many are needed.
        wait_s: how long to wait for them.
        hold_s: for how long they are wanted; those who wait are told.
        progress: told now and then whom this session waits for.
        folder: where the machine's lock files are.

    Raises:
        NotLeased: there are not so many, or others kept them.
    """
    if count > len(candidates):
        seen = f"there are {len(candidates)}: {', '.join(candidates)}"
        raise NotLeased(
            f"leased {count} devices",
            seen,
            "ask for fewer GPUs per server, or run where there are more",
        )
    deadline, told_at = time.monotonic() + wait_s, -_TELL_S
    while True:
        got, holders = _try(candidates, count, hold_s, folder)
        if got is not None:
            return got
        waited_for = "; ".join(f"{device}: {holder}" for device, holder in holders)
        if time.monotonic() >= deadline:
            remedy = (
                "wait for longer (--lease-wait), end that session, or use other GPUs "
                "(CUDA_VISIBLE_DEVICES)"
            )
            raise NotLeased(
                f"waited {wait_s:.0f} s for {count} of {', '.join(candidates)}",
                waited_for,
                remedy,
            )
        if time.monotonic() - told_at >= _TELL_S:
            progress(f"waiting for {waited_for}")
            told_at = time.monotonic()
        time.sleep(min(_POLL_S, max(0.0, deadline - time.monotonic())))


def _try(
    candidates: Sequence[str], count: int, hold_s: float, folder: Path
) -> tuple[Lease | None, list[tuple[str, str]]]:
    """One attempt: the lease, or who holds what."""
    got: dict[str, int] = {}
    holders: list[tuple[str, str]] = []
    try:
        for device in candidates:
            if len(got) == count:
                break
            descriptor = _open(folder, device)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holders.append((device, _holder(descriptor)))
                os.close(descriptor)
            else:
                got[device] = descriptor
        if len(got) == count:
            return _sign(got, hold_s), []
    except BaseException:
        _close(got)
        raise
    _close(got)
    return None, holders


def _sign(got: dict[str, int], hold_s: float) -> Lease:
    now = time.time()
    holder = Holder(
        pid=os.getpid(),
        user=getpass.getuser(),
        command=shlex.join(sys.orig_argv)[:200],
        since_unix_s=now,
        until_unix_s=now + hold_s,
    )
    for descriptor in got.values():
        os.ftruncate(descriptor, 0)
        with contextlib.suppress(
            OSError
        ):  # a full disk keeps nobody from holding a lock
            os.pwrite(descriptor, msgspec.json.encode(holder), 0)
    return Lease(tuple(got), tuple(got.values()), holder.until_unix_s)


def _holder(descriptor: int) -> str:
    try:
        return str(msgspec.json.decode(os.pread(descriptor, 4096, 0), type=Holder))
    except msgspec.MsgspecError:
        return "a session that has not signed yet"


def _open(folder: Path, device: str) -> int:
    """Open a device's lock file, which all users of the machine share and nobody removes."""
    if not folder.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o1777)
    path = folder / f"{re.sub(r'[^A-Za-z0-9-]', '_', device)}.lock"
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        # Without O_CREAT first: fs.protected_regular forbids it on another user's file
        # in a directory like /tmp.
        return os.open(path, flags)
    except FileNotFoundError:
        descriptor = os.open(path, flags | os.O_CREAT, 0o666)
        os.fchmod(descriptor, 0o666)  # whatever the umask
        return descriptor


def _close(got: dict[str, int]) -> None:
    for descriptor in got.values():
        os.close(descriptor)
