"""Reads: the body of one answer and when each piece of it came, some 20 bytes a piece.

While an answer streams, a `ReadLog` grows: one bytearray for the body, and arrays of
numbers for the reads of the socket that brought it. `Reads` is what is kept.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

Timed = tuple[int, bytes]  # ns, and what came then
_NS: Final = "q"
_OFFSET: Final = "I"
MOST_BYTES = 2**31  # of one body


class Reads(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """A body and the reads that brought it; the numbers are packed arrays.

    Attributes:
        body: all bytes, in order.
        packed_ns: int64 of each read: when it came, ns of CLOCK_MONOTONIC.
        packed_ends: uint32 of each read: how much of the body there was after it.
    """

    body: bytes = b""
    packed_ns: bytes = b""
    packed_ends: bytes = b""

    @classmethod
    def of_pairs(cls, pairs: Iterable[Timed]) -> Reads:
        """Of (ns, bytes) of each read."""
        log = ReadLog()
        for at_ns, data in pairs:
            log.body += data
            log.at_ns.append(at_ns)
            log.ends.append(len(log.body))
        return log.reads()

    def __len__(self) -> int:
        """How many reads brought something."""
        return len(self.at_ns)

    def __iter__(self) -> Iterator[Timed]:
        """(ns, bytes) of each read."""
        start = 0
        for at_ns, end in zip(self.at_ns, self.ends, strict=True):
            yield at_ns, self.body[start:end]
            start = end

    @property
    def at_ns(self) -> memoryview[int]:
        """When each read came."""
        return memoryview(self.packed_ns).cast(_NS)

    @property
    def ends(self) -> memoryview[int]:
        """How much of the body there was after each read."""
        return memoryview(self.packed_ends).cast(_OFFSET)


class ReadLog:
    """What a connection appends to while an answer comes; see `Reads`."""

    __slots__ = ("at_ns", "body", "ends")

    def __init__(self) -> None:
        self.body = bytearray()
        self.at_ns = array(_NS)
        self.ends = array(_OFFSET)

    def reads(self) -> Reads:
        """What is kept."""
        return Reads(
            body=bytes(self.body),
            packed_ns=self.at_ns.tobytes(),
            packed_ends=self.ends.tobytes(),
        )
