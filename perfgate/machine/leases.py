"""Leases: file locks that reserve GPUs or the CPU for one session, machine-wide.

Each device has a lock file named after its UUID, because one index means
different GPUs under different CUDA_VISIBLE_DEVICES. The kernel drops a lock
with its last descriptor, so a killed owner leaves no stale lock. The supervisor
inherits the descriptor, so a lease outlives its owner until the server's memory
is free.

flock(2) is called directly: filelock, which is built on it, empties the file that it
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

from perfgate.errors import Failure, describe_error
from perfgate.foreign_text import one_line, without_secrets

# Not the temporary directory, which CI gives each job anew.
LEASES = Path("/tmp/perfgate-leases")
# The first that can be used, so that all sessions of a machine choose the same.
PLACES = (
    LEASES,
    Path("/var/tmp/perfgate-leases"),
    Path("/dev/shm/perfgate-leases"),
)
CPU = "cpu"
_POLL_S = 0.5
_PROGRESS_EVERY_S = 15.0


class NotLeased(Failure):
    """Other sessions held the devices for too long, or leases cannot be written here."""


class NoLockFile(NotLeased):
    """A lock file cannot be opened, made or locked: no other session is the cause."""


class LeaseExpired(Failure):
    """The lease has reached its announced end."""


class Holder(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """The session that holds a device, written into the lock file for those who wait.

    Its times are those of `clock_s`, which all processes of a machine share.
    """

    pid: int
    user: str
    command: str
    since_s: float
    until_s: float

    def __str__(self) -> str:
        start = _clock_time(self.since_s)
        end = _clock_time(self.until_s)
        text = (
            f"pid {self.pid} of {self.user} ({self.command}) since {start}, until "
            f"{end} at most"
        )
        late_s = clock_s() - self.until_s
        if late_s > 0:
            text += f", overdue by {late_s / 60:.0f} min"
        return text


def clock_s() -> float:
    """Seconds since the machine started, which no setting of its clock or sleep moves."""
    return time.monotonic()


def _clock_time(at_s: float) -> str:
    """A moment of `clock_s` as the time of day."""
    unix_s = time.time() - clock_s() + at_s
    return time.strftime("%H:%M:%S", time.localtime(unix_s))


class Lease:
    """The right to use some devices; made by `acquire`.

    Attributes:
        devices: UUIDs, in the order of the candidates.
        descriptors: of the lock files; a process that inherits one keeps the
            lease alive.
    """

    def __init__(
        self,
        devices: tuple[str, ...],
        descriptors: tuple[int, ...],
        until_s: float,
    ) -> None:
        self.devices = devices
        self.descriptors = descriptors
        self._until_s = until_s

    def check(self) -> None:
        """Raise LeaseExpired after the end that was announced to those who wait."""
        late_s = clock_s() - self._until_s
        if late_s > 0:
            raise LeaseExpired(
                tried=f"used {', '.join(self.devices)}",
                seen=f"the lease ended {late_s / 60:.0f} min ago",
                remedy=(
                    "select fewer tests with -k, and resume the run for the others: "
                    "--run-dir=DIR --resume"
                ),
            )

    def release(self) -> None:
        """Release the devices; a second call does nothing.

        They stay locked until a supervisor that still ends a server is done.
        """
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
    """Lease `count` of the candidate devices.

    It is all or none, so that two sessions never wait for each other.

    Args:
        candidates: UUIDs (`CPU` on the CPU), the preferred first.
        count: devices to lease.
        wait_s: longest time to wait for them.
        hold_s: announced length of the lease.
        progress: called every 15 s with the sessions that this one waits for.
        folder: the machine's lock files.

    Raises:
        NoLockFile: leases cannot be written in the folder.
        NotLeased: there are too few candidates, or other sessions kept them.
    """
    if count > len(candidates):
        raise NotLeased(
            tried=f"leased {count} devices",
            seen=f"there are {len(candidates)}: {', '.join(candidates)}",
            remedy="ask for fewer GPUs per server, or run where there are more",
        )
    deadline_s = time.monotonic() + wait_s
    next_progress_s = time.monotonic()
    while True:
        lease, holders = _try(candidates, count, hold_s, folder)
        if lease is not None:
            return lease
        now_s = time.monotonic()
        if now_s >= deadline_s:
            raise NotLeased(
                tried=f"waited {wait_s:.0f} s for {count} of {', '.join(candidates)}",
                seen=holders,
                remedy=(
                    "wait for longer (--lease-wait), end that session, or use other "
                    "GPUs (CUDA_VISIBLE_DEVICES)"
                ),
            )
        if now_s >= next_progress_s:
            progress(f"waiting for {holders}")
            next_progress_s = now_s + _PROGRESS_EVERY_S
        time.sleep(min(_POLL_S, deadline_s - now_s))


def _try(
    candidates: Sequence[str], count: int, hold_s: float, folder: Path
) -> tuple[Lease | None, str]:
    """One attempt: the lease, or None and the holders of the devices."""
    locked: dict[str, int] = {}
    holders: list[str] = []
    try:
        for device in candidates:
            if len(locked) == count:
                break
            descriptor = _open(folder, device)
            if _lock(descriptor, folder, device):
                locked[device] = descriptor
                continue
            holders.append(f"{device}: {_holder(descriptor)}")
            os.close(descriptor)
        if len(locked) == count:
            return _sign(locked, hold_s), ""
    except BaseException:
        _close(locked)
        raise
    _close(locked)
    return None, "; ".join(holders)


def _lock(descriptor: int, folder: Path, device: str) -> bool:
    """Lock a device's file; False where another session has it.

    Raises:
        NoLockFile: the file system has no locks.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        os.close(descriptor)
        raise _no_lock_file("locking", folder, device, error) from None
    return True


def _sign(locked: dict[str, int], hold_s: float) -> Lease:
    """Write the holder into the lock files."""
    now_s = clock_s()
    holder = Holder(
        pid=os.getpid(),
        user=user_name(),
        command=without_secrets(shlex.join(sys.orig_argv))[:200],
        since_s=now_s,
        until_s=now_s + hold_s,
    )
    text = msgspec.json.encode(holder)
    for descriptor in locked.values():
        os.ftruncate(descriptor, 0)
        # The lock holds without a signature, on a full disk for instance.
        with contextlib.suppress(OSError):
            os.pwrite(descriptor, text, 0)
    devices = tuple(locked)
    descriptors = tuple(locked.values())
    return Lease(devices, descriptors, holder.until_s)


def user_name() -> str:
    """Name of the user, or "uid 12345" where the system knows none (an arbitrary UID)."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return f"uid {os.getuid()}"


def usable_folder(places: Sequence[Path] = PLACES) -> Path:
    """The first place where this user can make leases; the first of all if there is none."""
    for place in places:
        existing = place
        if not place.exists():
            existing = place.parent
        if existing.is_dir() and os.access(existing, os.W_OK | os.X_OK):
            return place
    return places[0]


def _holder(descriptor: int) -> str:
    text = os.pread(descriptor, 4096, 0)
    try:
        holder = msgspec.json.decode(text, type=Holder)
        return one_line(str(holder))
    # Another user may have written anything, a time beyond all calendars too.
    except (msgspec.MsgspecError, ValueError, OverflowError, OSError):
        return "a session that has not written its name yet"


def _open(folder: Path, device: str) -> int:
    """Open a device's lock file.

    Raises:
        NoLockFile: it can neither be opened nor made.
    """
    try:
        return _open_or_make(folder, device)
    except OSError as error:
        raise _no_lock_file("opening", folder, device, error) from None


def _no_lock_file(
    step: str, folder: Path, device: str, error: OSError
) -> NoLockFile:
    return NoLockFile(
        tried=f"{step} the lease of {device} in {folder}",
        seen=describe_error(error),
        remedy=(
            "set PERFGATE_LEASES_DIR to a folder that every user of this machine "
            "can write"
        ),
    )


def _open_or_make(folder: Path, device: str) -> int:
    """The lock file is shared by all users of the machine and never removed."""
    if not folder.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o1777)
    name = re.sub(r"[^A-Za-z0-9-]", "_", device)
    path = folder / f"{name}.lock"
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        # Without O_CREAT first: fs.protected_regular forbids it on another user's file
        # in a directory like /tmp.
        return os.open(path, flags)
    except FileNotFoundError:
        descriptor = os.open(path, flags | os.O_CREAT, 0o666)
        os.fchmod(descriptor, 0o666)  # whatever the umask
        return descriptor


def _close(locked: dict[str, int]) -> None:
    for descriptor in locked.values():
        os.close(descriptor)
