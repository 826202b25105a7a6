"""Head of a run: the first fields of its file, read without the rest.

A store of runs is searched by it: a run on GPUs has megabytes, of which its id, its
hardware and whether it is complete stand in the first few kilobytes.
"""

from __future__ import annotations

import zlib
from pathlib import Path

import msgspec

from perfgate.files import read_start
from perfgate.results import journal

MOST_BYTES = 2**16
END = b',\n "servers": '  # the first field that is not read


class Machine(msgspec.Struct, frozen=True):
    """The kind of hardware of a run."""

    kind: str
    name: str


class RunHead(msgspec.Struct, frozen=True, kw_only=True):
    """What identifies a run."""

    run_id: str
    complete: bool
    hardware: Machine


def read(path: Path) -> RunHead | None:
    """The head of a results.json, packed or not; None where only the whole file tells.

    A session that still measures, or was killed, has a journal that may say otherwise.
    """
    try:
        start = read_start(path, MOST_BYTES)
        text, found, _ = start.partition(END)
        if not found or journal.beside(path).exists():
            return None
        return msgspec.json.decode(text + b"}", type=RunHead)
    except (OSError, EOFError, zlib.error, msgspec.DecodeError):
        return None
