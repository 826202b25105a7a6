"""Routing by request: the counts of a launch as compact text, written and read.

256 requests of 32 layers with 8 experts are 65,536 counts, and some 40 kB of text. Of
larger models a few consecutive requests are counted together. This module does not load
numpy: whoever reads a baseline file reads the text.
"""

from __future__ import annotations

import base64
import binascii
import functools
import math
import struct
import zlib
from collections.abc import Sequence
from typing import Final

from perfgate.models.routing import (
    LayerShares,
    RequestCounts,
    RoutingUnreadable,
)

# A baseline keeps two launches; with more counts its file could not be reviewed.
MOST_COUNTS: Final = 256 * 32 * 8
# Bytes of a count -> its letter in `struct`.
_LETTERS: Final = {1: "B", 2: "H", 4: "I"}


def group_size(requests: int, layers: int, experts: int) -> int:
    """How many consecutive requests are counted together."""
    most_groups = max(1, MOST_COUNTS // (layers * experts))
    return math.ceil(requests / most_groups)


def encode(requests: int, size: int, counts: Sequence[int]) -> RequestCounts:
    """The counts as text.

    Args:
        requests: of the launch.
        size: of a group.
        counts: in order of group, layer and expert.
    """
    largest = max(counts)
    width = 4
    for bytes_per_count in (2, 1):
        if largest < 256**bytes_per_count:
            width = bytes_per_count
    raw = struct.pack(_layout(len(counts), width), *counts)
    text = base64.b64encode(zlib.compress(raw, level=9))
    return RequestCounts(
        requests=requests, group_size=size, encoded=text.decode("ascii")
    )


# One judgement reads each recorded launch several times.
@functools.lru_cache(maxsize=16)
def decode(shares: LayerShares) -> tuple[int, ...]:
    """The counts of a launch in order of group, layer and expert.

    Raises:
        RoutingUnreadable: the launch has none, their text is damaged, or they do not
            add up to the counts of the launch.
    """
    stored = shares.requests
    if stored is None:
        raise _unreadable("there are no counts by request")
    if stored.requests < 1 or stored.group_size < 1:
        raise _unreadable(
            f"{stored.requests} requests in groups of {stored.group_size}"
        )
    experts = len(shares.counts[0])
    cells = len(shares.counts) * experts
    groups = math.ceil(stored.requests / stored.group_size)
    raw = _decompressed(stored.encoded, groups * cells)
    counts = struct.unpack(
        _layout(groups * cells, len(raw) // (groups * cells)), raw
    )
    _check_totals(counts, shares)
    for start in range(0, len(counts), experts):
        if not any(counts[start : start + experts]):
            raise _unreadable(
                f"group {start // cells} chose no expert in layer "
                f"{start % cells // experts}"
            )
    return counts


def _decompressed(encoded: str, expected_counts: int) -> bytes:
    """The bytes of as many counts as expected, all of 1, 2 or 4 bytes."""
    inflater = zlib.decompressobj()
    most = 4 * expected_counts
    try:
        packed = base64.b64decode(encoded, validate=True)
        raw = inflater.decompress(packed, most + 1)
    except (binascii.Error, ValueError, zlib.error) as error:
        raise _unreadable(f"the text is damaged ({error})") from error
    if len(raw) <= most and not inflater.eof:
        raise _unreadable("the text is cut off")
    width, rest = divmod(len(raw), expected_counts)
    if rest or width not in _LETTERS:
        raise _unreadable(
            f"the text holds {len(raw)} bytes, not 1, 2 or 4 for each of "
            f"{expected_counts} counts"
        )
    return raw


def _check_totals(counts: Sequence[int], shares: LayerShares) -> None:
    experts = len(shares.counts[0])
    cells = len(shares.counts) * experts
    for layer, row in enumerate(shares.counts):
        for expert, total in enumerate(row):
            by_request = sum(counts[layer * experts + expert :: cells])
            if by_request != total:
                raise _unreadable(
                    f"the requests chose expert {expert} of layer {layer} "
                    f"{by_request} times, the launch {total} times"
                )


def _layout(counts: int, width: int) -> str:
    return f"<{counts}{_LETTERS[width]}"


def _unreadable(problem: str) -> RoutingUnreadable:
    return RoutingUnreadable(
        tried="reading the routing by request",
        seen=problem,
        remedy="record the launch again, or restore its baseline from version control",
    )
