"""Single flight: work that several pytest-xdist workers need is done by one of them.

Under pytest-xdist each worker is a session of its own, and a session fixture runs once
in each. Work that must happen once in all of them (launch and measure a configuration)
goes through a folder that they share: the first worker does it, the others wait and
read its result.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import filelock
import msgspec

from perfgate.errors import Failure, FailureRow
from perfgate.files import write_atomically

_REPORT_S = 15.0
# A second one if the first worker was killed while it measured.
_ATTEMPTS = 2


class FailedElsewhere(Failure):
    """The work failed in another worker; the text is that of its failure."""


class WorkersDied(Failure):
    """The workers that tried were killed before they had a result."""


class SharedResults:
    """Results that the workers of one session share.

    Args:
        folder: the same for all workers of a session, and for no other session.
        progress: called with a line of text while another worker is waited for.
    """

    def __init__(self, folder: Path, progress: Callable[[str], None]) -> None:
        self._folder = folder
        self._progress = progress
        folder.mkdir(parents=True, exist_ok=True)

    def run_once(self, key: str, make: Callable[[], bytes]) -> bytes:
        """Call `make` in the first worker that asks for `key`; return its result to all.

        Raises:
            FailedElsewhere: it raised a Failure in another worker. The first worker
                raises the original.
            WorkersDied: the workers that tried were killed.
        """
        stem = re.sub(r"[^A-Za-z0-9.-]", "_", key)
        result = self._folder / f"{stem}.result"
        failure = self._folder / f"{stem}.failure"
        with self._locked(key, self._folder / f"{stem}.lock"):
            if result.exists():
                return result.read_bytes()
            if failure.exists():
                row = msgspec.json.decode(failure.read_bytes(), type=FailureRow)
                raise FailedElsewhere.from_row(row)
            self._count_attempt(key, self._folder / f"{stem}.attempts")
            try:
                content = make()
            except Failure as error:
                write_atomically(failure, msgspec.json.encode(error.row()))
                raise
            write_atomically(result, content)
            return content

    def _locked(self, key: str, path: Path) -> filelock.BaseFileLock:
        """Lock a key, however long another worker takes.

        The kernel unlocks it if that worker is killed.
        """
        lock = filelock.FileLock(path)
        while True:
            try:
                lock.acquire(timeout=_REPORT_S, poll_interval=0.2)
            except filelock.Timeout:
                self._progress(
                    f"waiting for another worker that measures {key}"
                )
            else:
                return lock

    def _count_attempt(self, key: str, path: Path) -> None:
        """Count the marks that attempts left, and leave one."""
        attempts = 0
        if path.exists():
            attempts = len(path.read_bytes())
        if attempts >= _ATTEMPTS:
            raise WorkersDied(
                f"measuring {key}",
                f"{attempts} workers were killed while they measured it",
                "look for the out-of-memory killer in `dmesg`, and read the servers' "
                "logs in the run directory",
            )
        with path.open("ab") as marks:
            marks.write(b"x")
