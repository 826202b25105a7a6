"""Instructions of an engine's work, counted by valgrind's callgrind, in which the engine runs.

Run by the suite with the engine's Python: ``python -m perfgate_instructions PROGRAM ...``
becomes ``valgrind python -m PROGRAM ...``. The engine's process then asks callgrind, by
client requests, to count while a batch is answered. Loaded by the engines, never by the
suite.
"""

from __future__ import annotations

import ctypes
import gc
import mmap
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

Answered = dict[str, Any]
# The folder and the name of callgrind's files, without their numbers.
COUNTS = "PERFGATE_CALLGRIND"
STDOUT = Path("/proc/self/fd/1")
TOTAL = re.compile(r"^totals: (\d+)$", re.MULTILINE)
# <valgrind/callgrind.h>: requests of the tool "CT".
DUMP, ZERO, START, STOP = (0x43540000 + number for number in (0, 1, 4, 5))
# int64 request(int64 *arguments): <valgrind/valgrind.h> on x86-64. Without valgrind the
# rotations by 128 bits in all change nothing, and the request answers 0.
CODE = bytes.fromhex(
    "4889f8 31d2 48c1c703 48c1c70d 48c1c73d 48c1c733 4887db 4889d0 c3"
)
WORDS = 6  # of a request
# The first batches compile, allocate and import.
UNCOUNTED = 2


class Callgrind:
    """Client requests of this process to callgrind.

    Args:
        counts: the folder and the name of its files.
    """

    def __init__(self, counts: Path) -> None:
        self._counts = counts
        self._page = mmap.mmap(
            -1,
            mmap.PAGESIZE,
            prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC,
        )
        self._page.write(CODE)
        address = ctypes.addressof(ctypes.c_char.from_buffer(self._page))
        kind = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p)
        self._call = kind(address)

    def request(self, number: int) -> None:
        """Make a request without arguments."""
        words = (ctypes.c_int64 * WORDS)(number)
        self._call(ctypes.addressof(words))

    def count(self, work: Callable[[], Answered]) -> tuple[int, Answered]:
        """Instructions that this process takes for some work, and what it returns."""
        self.request(START)
        self.request(ZERO)
        try:
            answered = work()
        finally:
            self.request(DUMP)
            self.request(STOP)
        return total_of(self._take()), answered

    def _take(self) -> str:
        """The file that callgrind has just written; it is removed."""
        name = f"{self._counts.name}.*"
        (path,) = self._counts.parent.glob(name)
        text = path.read_text(encoding="utf-8", errors="replace")
        path.unlink()
        return text


def total_of(text: str) -> int:
    """The sum of all instructions in a file of callgrind's."""
    (total,) = TOTAL.findall(text)
    return int(total)


def instructions(
    answer: Callable[[], Answered],
    count: Callable[[Callable[[], Answered]], tuple[int, Answered]],
) -> Answered:
    """Instructions of a batch, answered some times before.

    The garbage collector would run at times of its own.

    Args:
        count: instructions of some work, and what it returns.
    """
    for _ in range(UNCOUNTED):
        answered = answer()
    gc.collect()
    gc.disable()
    try:
        total, again = count(answer)
    finally:
        gc.enable()
    return {
        "instructions": total,
        "tokens": again["tokens"],
        "answers": again["answers"],
        "repeats": answered["answers"] == again["answers"],
    }


def command(counts: Path, words: list[str]) -> list[str]:
    """The words by which valgrind runs a module of this Python."""
    return [
        "valgrind",
        "--tool=callgrind",
        "--instr-atstart=no",
        f"--callgrind-out-file={counts}",
        sys.executable,
        "-m",
        *words,
    ]


def main(words: list[str]) -> None:
    """Become valgrind; its files lie beside the log, which is the standard output."""
    log = STDOUT.resolve()
    counts = log.with_name(f"{log.name}.callgrind")
    os.environ[COUNTS] = str(counts)
    # The order of a set of words follows the seed, and with it what is done.
    os.environ["PYTHONHASHSEED"] = "0"
    argv = command(counts, words)
    os.execvp(argv[0], argv)


if __name__ == "__main__":
    main(sys.argv[1:])
