"""Reads: the body of one answer and when each piece of it came, 20 bytes a piece.

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
        packed_ns: int64 of each read: when it came, ns of CLOCK_MONOTONIC; by the kernel
            where it stamped it.
        packed_client_ns: int64 of each read: when the client had it; empty where that is
            all that is known.
        packed_ends: uint32 of each read: how much of the body there was after it.
    """

    body: bytes = b""
    packed_ns: bytes = b""
    packed_client_ns: bytes = b""
    packed_ends: bytes = b""

    @classmethod
    def of_pairs(cls, pairs: Iterable[Timed]) -> Reads:
        """Of (ns, bytes) of each read."""
        log = ReadLog()
        for at_ns, data in pairs:
            log.body += data
            log.note(at_ns)
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
    def client_ns(self) -> memoryview[int]:
        """When the client had each read; empty where `at_ns` says that."""
        return memoryview(self.packed_client_ns).cast(_NS)

    @property
    def ends(self) -> memoryview[int]:
        """How much of the body there was after each read."""
        return memoryview(self.packed_ends).cast(_OFFSET)


class ReadLog:
    """What a connection appends to while an answer comes; see `Reads`.

    Attributes:
        client_ns: when the client had each read, CLOCK_MONOTONIC.
        kernel_ns: when the kernel received it, CLOCK_REALTIME; 0 where it did not say.
    """

    __slots__ = ("body", "client_ns", "ends", "kernel_ns", "noted_bytes")

    def __init__(self) -> None:
        self.body = bytearray()
        self.client_ns = array(_NS)
        self.kernel_ns = array(_NS)
        self.ends = array(_OFFSET)
        self.noted_bytes = 0

    def note(self, client_ns: int, kernel_ns: int = 0) -> None:
        """Note when a read came, if it brought some of the body."""
        size = len(self.body)
        if size != self.noted_bytes:
            self.noted_bytes = size
            self.client_ns.append(client_ns)
            self.kernel_ns.append(kernel_ns)
            self.ends.append(size)

    def reads(self, offset_ns: int | None = None) -> Reads:
        """What is kept.

        Args:
            offset_ns: CLOCK_REALTIME - CLOCK_MONOTONIC; None if the kernel's times are
                not to be used.
        """
        at_ns = self.client_ns
        packed_client_ns = b""
        if offset_ns is not None:
            at_ns = array(_NS)
            for client_ns, kernel_ns in zip(
                self.client_ns, self.kernel_ns, strict=True
            ):
                if kernel_ns:
                    client_ns = kernel_ns - offset_ns
                at_ns.append(client_ns)
            packed_client_ns = self.client_ns.tobytes()
        return Reads(
            body=bytes(self.body),
            packed_ns=at_ns.tobytes(),
            packed_client_ns=packed_client_ns,
            packed_ends=self.ends.tobytes(),
        )
