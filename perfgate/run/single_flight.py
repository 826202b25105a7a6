"""Who measures this, when several workers want it?

Under pytest-xdist each worker is a session of its own, and a session fixture runs once
in each. What must happen once in all of them together (to launch a configuration and to
measure on it) goes through a folder that they share: the first worker to ask does it,
the others wait, and read what it wrote.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import filelock
import msgspec

from perfgate.errors import Failure, FailureRow
from perfgate.files import write_atomically

_TELL_S = 15.0
# Once, and once more if the first worker was killed while it measured.
_ATTEMPTS = 2


class FailedElsewhere(Failure):
    """Another worker could not do it; the text is that of its own failure."""


class WorkersDied(Failure):
    """Those who tried were killed before they had a result."""


class SharedResults:
    """What is done once in a session of several workers.

    Args:
        folder: the same for all workers of a session, and for no other session.
        progress: told now and then that another worker is waited for.
    """

    def __init__(self, folder: Path, progress: Callable[[str], None]) -> None:
        self._folder = folder
        self._progress = progress
        folder.mkdir(parents=True, exist_ok=True)

    def once(self, key: str, make: Callable[[], bytes]) -> bytes:
        """Return what `make` returned in the first worker that asked for `key`, this one or another.

        Raises:
            FailedElsewhere: it raised a Failure there; it raises the original where it
                happened.
            WorkersDied: those who tried were killed.
        """
        stem = re.sub(r"[^A-Za-z0-9.-]", "_", key)
        with self._locked(key, self._folder / f"{stem}.lock"):
            result, failure = (
                self._folder / f"{stem}.result",
                self._folder / f"{stem}.failure",
            )
            if result.exists():
                return result.read_bytes()
            if failure.exists():
                raise FailedElsewhere.from_row(
                    msgspec.json.decode(failure.read_bytes(), type=FailureRow)
                )
            self._count_attempt(key, self._folder / f"{stem}.attempts")
            try:
                made = make()
            except Failure as error:
                write_atomically(failure, msgspec.json.encode(error.row()))
                raise
            write_atomically(result, made)
            return made

    def _locked(self, key: str, path: Path) -> filelock.BaseFileLock:
        """Lock that key, however long another worker takes; the kernel unlocks it if that one is killed."""
        lock = filelock.FileLock(path)
        while True:
            try:
                lock.acquire(timeout=_TELL_S, poll_interval=0.2)
            except filelock.Timeout:
                self._progress(f"waiting for another worker, which measures {key}")
            else:
                return lock

    def _count_attempt(self, key: str, path: Path) -> None:
        attempts = len(path.read_bytes()) if path.exists() else 0
        if attempts >= _ATTEMPTS:
            raise WorkersDied(
                f"measured {key}",
                f"{attempts} workers were killed while they did",
                (
                    "look for the kernel's out-of-memory killer in `dmesg`, and at "
                    "the servers' logs in the run directory"
                ),
            )
        with path.open("ab") as marks:
            marks.write(b"x")
