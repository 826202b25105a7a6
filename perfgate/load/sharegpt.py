"""ShareGPT files: read their conversations, also of a file that was cut off in the middle.

A download that stopped leaves a file that ends within a conversation. The error
says so, with the number of whole conversations; --allow-truncated-dataset uses them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from perfgate.load.prompt_text import UnusableWorkload, bytes_of

# An escape that the end of a file cuts in two: "\\u12" of "\\u1234".
_LONGEST_ESCAPE = 6


@dataclass(frozen=True)
class Conversations:
    """The entries of a file.

    Attributes:
        cut: where the file ends too early, as text; None of a whole file.
    """

    entries: list[Any]
    cut: str | None = None


def read_conversations(
    path: str, allow_truncated: bool = False
) -> Conversations:
    """The entries of a ShareGPT file.

    Args:
        allow_truncated: whether the whole conversations of a file that is cut off may
            be used.

    Raises:
        UnusableWorkload: the file is missing or broken, or cut off.
    """
    remedy = "give a ShareGPT JSON file"
    text = bytes_of(path, remedy, may_end_early=True).decode()
    try:
        # Not msgspec, which refuses the whole file for one half of a surrogate pair.
        entries = json.loads(text)
    except (ValueError, RecursionError) as error:
        found = _whole_entries(text)
        if found is None:
            raise UnusableWorkload(
                tried=f"read {path}",
                seen=str(error),
                remedy="give a ShareGPT JSON file, in UTF-8",
            ) from error
        if not allow_truncated:
            raise _cut_off(path, found) from error
        return found
    if not isinstance(entries, list):
        raise UnusableWorkload(
            tried=f"read {path}",
            seen=f"a {type(entries).__name__} at the top",
            remedy="give a ShareGPT JSON file: a list of conversations",
        )
    return Conversations(entries)


def _cut_off(path: str, found: Conversations) -> UnusableWorkload:
    return UnusableWorkload(
        tried=f"read {path}",
        seen=f"the file is cut off: {found.cut}",
        remedy=(
            "get the whole file, or use its whole conversations: add "
            "--allow-truncated-dataset"
        ),
    )


def _whole_entries(text: str) -> Conversations | None:
    """The whole entries of a list that ends too early; None where it is broken otherwise."""
    decoder = json.JSONDecoder()
    place = _skip(text, 0, "")
    if place == len(text) or text[place] != "[":
        return None
    place += 1
    entries: list[Any] = []
    while True:
        place = _skip(text, place, ",")
        if place == len(text):
            break
        try:
            entry, place = decoder.raw_decode(text, place)
        except json.JSONDecodeError as error:
            if not _is_at_end(text, error):
                return None
            break
        except (RecursionError, ValueError):  # too deep, or a number too long
            return None
        entries.append(entry)
    if not entries:
        return None
    size = len(text.encode(errors="surrogatepass"))
    lines = text.count("\n") + 1
    cut = (
        f"{len(entries):,} whole conversations, then it ends within one, at byte "
        f"{size:,} in line {lines:,}"
    )
    return Conversations(entries, cut)


def _skip(text: str, place: int, separators: str) -> int:
    """The next place that is neither white space nor a separator."""
    while place < len(text) and (
        text[place].isspace() or text[place] in separators
    ):
        place += 1
    return place


def _is_at_end(text: str, error: json.JSONDecodeError) -> bool:
    """Whether nothing is wrong but that the text ends."""
    if error.msg.startswith("Unterminated string"):
        return True
    return error.pos >= len(text.rstrip()) - _LONGEST_ESCAPE
