"""Mirror: the files of a run on a host, copied to the driver while they grow.

The journal of a run is appended to, so its new end travels alone. results.json is
replaced as a whole, and seldom.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from perfgate.errors import describe_error
from perfgate.files import PUBLIC_MODE, RunDataError, write_atomically
from perfgate.fleet.orders import Gone, Piece
from perfgate.results import journal
from perfgate.results.schema import RESULTS_FILE

JOURNAL = journal.beside(Path(RESULTS_FILE)).name
# What is copied at the end besides: of each file the last bytes.
LOGS, MOST_LOG_BYTES = ("logs", "pytest.log"), 256 * 1024
# In one message; a larger piece would hold the driver up.
MOST_BYTES = 8 * 2**20


class Mirror:
    """What has been sent of a run directory, and what is new in it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._whole: tuple[int, int, int] | None = None
        self._sent_bytes = 0
        self._first_bytes = b""

    def news(self) -> Iterator[Piece | Gone]:
        """The pieces that are new since the last call.

        The journal goes first: a results.json that was written meanwhile holds it all.
        """
        steps = self._read(JOURNAL)
        mark = _mark(self._folder / RESULTS_FILE)
        if mark is not None and mark != self._whole:
            content = self._read(RESULTS_FILE)
            if content is not None:
                self._whole = mark
                yield from _pieces(RESULTS_FILE, content)
        if steps is None:
            if self._sent_bytes:
                self._sent_bytes, self._first_bytes = 0, b""
                yield Gone(path=JOURNAL)
            return
        yield from self._steps(steps)

    def _steps(self, steps: bytes) -> Iterator[Piece]:
        """The new end of the journal; all of it where it is another one."""
        first, _, _ = steps.partition(b"\n")
        if first != self._first_bytes or len(steps) < self._sent_bytes:
            self._sent_bytes, self._first_bytes = 0, first
        new = steps[self._sent_bytes :]
        if new:
            yield from _pieces(JOURNAL, new, self._sent_bytes)
            self._sent_bytes = len(steps)

    def logs(self) -> Iterator[Piece]:
        """The ends of the logs."""
        for name in LOGS:
            top = self._folder / name
            files = sorted(top.rglob("*")) if top.is_dir() else [top]
            for path in files:
                if path.is_file():
                    content = path.read_bytes()[-MOST_LOG_BYTES:]
                    relative = path.relative_to(self._folder)
                    yield Piece(path=str(relative), offset=0, content=content)

    def _read(self, name: str) -> bytes | None:
        try:
            return (self._folder / name).read_bytes()
        except FileNotFoundError:
            return None


def _pieces(path: str, content: bytes, offset: int = 0) -> Iterator[Piece]:
    for start in range(0, len(content), MOST_BYTES):
        part = content[start : start + MOST_BYTES]
        yield Piece(path=path, offset=offset + start, content=part)


def _mark(path: Path) -> tuple[int, int, int] | None:
    """What changes when a file is replaced; None where there is none."""
    try:
        facts = path.stat()
    except FileNotFoundError:
        return None
    return facts.st_ino, facts.st_mtime_ns, facts.st_size


def apply(folder: Path, news: Piece | Gone) -> None:
    """Bring a copy up to date.

    Raises:
        RunDataError: it cannot be written.
    """
    path = folder / news.path
    if not path.resolve().is_relative_to(folder.resolve()):
        raise RunDataError(
            tried=f"copying {news.path} of a host into {folder}",
            seen="it lies outside of the run directory",
            remedy="run the same version of perfgate on the driver and on all hosts",
        )
    if isinstance(news, Gone):
        path.unlink(missing_ok=True)
    elif not news.offset:
        write_atomically(path, news.content)
    else:
        _append(path, news)


def _append(path: Path, piece: Piece) -> None:
    flags = os.O_RDWR | os.O_CREAT
    try:
        with open(os.open(path, flags, PUBLIC_MODE), "r+b") as file:  # noqa: PTH123
            file.seek(piece.offset)
            file.write(piece.content)
            file.truncate()
    except OSError as error:
        raise RunDataError(
            tried=f"writing {path}",
            seen=describe_error(error),
            remedy="free space on the disk of the driver, then resume the run",
        ) from error
