"""Cache: what a layer keeps of a sequence, in growing, bounded, fixed and index parts."""

from __future__ import annotations

from typing import Literal

import msgspec

from perfgate.models.shapes.formats import BYTES_PER_CACHE_VALUE

Kind = Literal["growing", "window", "fixed", "index"]


class CachePart(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    omit_defaults=True,
):
    """One part of what a layer keeps of a sequence.

    Attributes:
        kind: "growing" with the tokens, "window" up to a bound, "fixed", or "index",
            which grows and says where a step looks.
        values: of an entry, or of the whole sequence for a fixed part.
        tokens_per_entry: tokens that one entry stands for.
        window: tokens that are kept at most.
        entries_read: entries that a decode step reads at most; 0 for all.
        pieces: ranks that can share it; the others keep copies.
        bytes_per_value: of a part whose precision is its own; 0 for the cache's.

    """

    kind: Kind
    values: int
    tokens_per_entry: int = 1
    window: int = 0
    entries_read: int = 0
    pieces: int = 1
    bytes_per_value: float = 0

    def _value_bytes(self, dtype: str) -> float:
        return self.bytes_per_value or BYTES_PER_CACHE_VALUE[dtype]

    def bytes_per_token(self, dtype: str) -> float:
        """Of a part that grows without a bound; 0 for the others."""
        if self.kind in ("window", "fixed"):
            return 0
        return self.values * self._value_bytes(dtype) / self.tokens_per_entry

    def size_bytes(self, dtype: str, context_tokens: float) -> float:
        """Of a sequence of so many tokens."""
        entries = self._entries(context_tokens)
        return entries * self.values * self._value_bytes(dtype)

    def read_bytes(self, dtype: str, context_tokens: float) -> float:
        """That a decode step reads."""
        entries = self._entries(context_tokens)
        if self.entries_read:
            entries = min(entries, self.entries_read)
        return entries * self.values * self._value_bytes(dtype)

    def divisor(self, tensor_parallel: int) -> int:
        """Ranks that share it."""
        return min(self.pieces, tensor_parallel)

    def _entries(self, context_tokens: float) -> float:
        if self.kind == "fixed":
            return 1
        if self.kind == "window":
            return min(context_tokens, self.window)
        return context_tokens / self.tokens_per_entry
