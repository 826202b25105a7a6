"""Run lock: one session at a time uses a run directory, for as long as it lives."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from perfgate.errors import Failure, describe_error
from perfgate.files import RunDataError
from perfgate.machine.leases import Lease, NoLockFile, NotLeased, acquire

NAME = "session"
FILE = f"{NAME}.lock"
# Shown to a session that is refused; nothing is ended by it.
_LONGEST_S = 24 * 3600.0


class RunInUse(Failure):
    """Another session uses the run directory."""


class Reservation:
    """The right of one session to write into a run directory; made by `reserve`.

    Args:
        made: folders that were made for it, the innermost first.
    """

    def __init__(self, run_dir: Path, lease: Lease, made: list[Path]) -> None:
        self._run_dir = run_dir
        self._lease = lease
        self._made = made

    def release(self) -> None:
        """Let others in; folders in which nothing was written are removed again."""
        if not self._lease.descriptors:
            return
        with contextlib.suppress(OSError):
            (self._run_dir / FILE).unlink()
            for folder in self._made:
                folder.rmdir()  # fails where anything is in it
        self._lease.release()


def reserve(run_dir: Path) -> Reservation:
    """Reserve a run directory; it is made if needed.

    The kernel ends the reservation with this process, however that ends.

    Raises:
        RunInUse: another session has it. RunDataError: it cannot be written.
    """
    made = [run_dir, *run_dir.parents]
    made = [folder for folder in made if not folder.exists()]
    try:
        while True:
            run_dir.mkdir(parents=True, exist_ok=True)
            lease = _lock(run_dir)
            if _is_current(run_dir, lease):
                return Reservation(run_dir, lease, made)
            # Its last owner has removed the file in between.
            lease.release()
    except NoLockFile as failure:
        raise _unusable(run_dir, failure.seen) from failure
    except NotLeased as failure:
        holder = failure.seen.removeprefix(f"{NAME}: ")
        raise RunInUse(
            tried=f"using the run directory {run_dir}",
            seen=f"another session uses it: {holder}",
            remedy="wait until that session ends, or use another --run-dir",
        ) from None
    except OSError as error:
        raise _unusable(run_dir, describe_error(error)) from error


def _unusable(run_dir: Path, seen: str) -> RunDataError:
    return RunDataError(
        tried=f"reserving the run directory {run_dir}",
        seen=seen,
        remedy=(
            "free space on the disk or make the folder writable, or use another "
            "--run-dir"
        ),
    )


def _lock(run_dir: Path) -> Lease:
    return acquire(
        [NAME],
        1,
        wait_s=0.0,
        hold_s=_LONGEST_S,
        progress=lambda _: None,
        folder=run_dir,
    )


def _is_current(run_dir: Path, lease: Lease) -> bool:
    """Whether the locked file is the one that others would open."""
    (descriptor,) = lease.descriptors
    try:
        named = (run_dir / FILE).stat()
    except FileNotFoundError:
        return False
    return named.st_ino == os.fstat(descriptor).st_ino
