"""Names of what an engine chooses by itself (backends, graphs, sizes), one spelling for each.

Every choice has a value, if need be "not seen": what a log does not say is unknown, and
unknown is no difference.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

NOT_SEEN = "not seen"
EITHER = " or "  # between what the launches of a server chose differently

# What both engines choose and report.
CHOICES = (
    "attention_backend",
    "moe_backend",
    "moe_config",
    "all_reduce",
    "custom_all_reduce",
    "sampling_backend",
    "graphs",
    "graphs_captured",
    "capture_sizes",
    "quantization",
    "kv_cache_dtype",
    "kv_block_size",
    "max_num_seqs",
    "model_runner",
    "async_scheduling",
)
# What was asked for, and says nothing about what was taken.
_ASKED = frozenset({"auto", ""})
# Choices for which "auto" was stored where the argument was read back.
_RESOLVED = frozenset({"moe_backend", "attention_backend"})
_CLASS = re.compile(r"^(\w+?)(?:Unquantized)?Experts(?:\w*)$")


def canonical(name: str, value: str) -> str:
    """The value of a choice in one spelling.

    A class of the engine's enumeration and its name are one, as are "FlashInfer CUTLASS"
    and FLASHINFER_CUTLASS.
    """
    if EITHER in value:
        parts = [canonical(name, part) for part in value.split(EITHER)]
        return EITHER.join(parts)
    text = value.strip().removeprefix("AttentionBackendEnum.")
    if text == "None":
        return "none"
    if name in _RESOLVED:
        if text in _ASKED:
            return NOT_SEEN
        text = text.strip("'\".")
        match = _CLASS.match(text)
        if match:
            text = match[1]
        if " " in text and text != NOT_SEEN:
            text = text.upper().replace(" ", "_")
    return text


def canonical_all(choices: Mapping[str, str]) -> dict[str, str]:
    """All choices in one spelling; names may have a prefix that ends in a dot."""
    return {
        name: canonical(name.rpartition(".")[2], value)
        for name, value in choices.items()
    }


def complete(seen: Mapping[str, str]) -> dict[str, str]:
    """Every choice with its value, "not seen" where none was read."""
    choices = dict.fromkeys(CHOICES, NOT_SEEN)
    for name, value in seen.items():
        choices[name] = canonical(name, value)
    return choices


def sizes(numbers: Iterable[int]) -> str:
    """A list of sizes in short: "1 to 512 (51)"; "none" where it is empty."""
    ordered = sorted(set(numbers))
    if not ordered:
        return "none"
    if len(ordered) == 1:
        return str(ordered[0])
    return f"{ordered[0]} to {ordered[-1]} ({len(ordered)})"
