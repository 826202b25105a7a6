"""Wrapped text: messages as wide as the terminal, that can still be read and copied.

A line ends between words. A number stays with its unit, and a command between
backticks stays whole: where it is too long it goes on behind a backslash, as in a shell.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

# Of a line that goes on, beyond the indent of its beginning.
INDENT: Final = 2
# In place of a space that no line ends at: no message has one.
_GLUE: Final = "\0"
_PIECE = re.compile(r"`[^`\n]+`[.,;:)]*|\S+")
_LABEL = re.compile(r"\s*(?:[a-z]+: +)?")
# A number, or the sign before one, and its unit.
_UNIT = re.compile(
    r"(?<=\d) (?=(?:%|ms|s|GB|MB|GiB|MiB|tok/s|req/s|J/tok|tokens|bytes|W|x)(?![\w/]))"
)


def wrapped(text: str, width: int) -> str:
    """The text with no line wider than that, but for a single long word.

    Args:
        width: in columns.
    """
    lines: list[str] = []
    for line in text.split("\n"):
        if len(line) <= width:
            lines.append(line)
        else:
            lines += _wrapped_line(line, width)
    return "\n".join(lines)


def _wrapped_line(line: str, width: int) -> Iterator[str]:
    label = _LABEL.match(line)
    assert label is not None
    indent = len(label[0])
    if not label[0].strip():
        indent += INDENT
    room = width - indent
    current = label[0]
    is_empty = True
    for piece in _pieces(line[label.end() :], room):
        separator = "" if is_empty else " "
        if len(current) + len(separator) + len(piece) <= width or is_empty:
            current += separator + piece
        else:
            yield current.rstrip()
            current = " " * indent + piece
        is_empty = False
        if piece.endswith("\\"):
            yield current
            current = " " * (indent + INDENT)
            is_empty = True
    yield current.rstrip()


def _pieces(text: str, room: int) -> Iterator[str]:
    """Words, numbers with their units and commands; a long command in parts."""
    glued = _UNIT.sub(_GLUE, text)
    for match in _PIECE.finditer(glued):
        piece = match[0].replace(_GLUE, " ")
        if not piece.startswith("`") or len(piece) <= room:
            yield piece
        else:
            yield from _parts(piece, room)


def _parts(command: str, room: int) -> Iterator[str]:
    """A command that is too long for a line, with a backslash at the end of each part."""
    part = ""
    most = room - INDENT - len(" \\")
    for word in _arguments(command):
        if part and len(part) + len(" ") + len(word) > most:
            yield f"{part} \\"
            part = word
        else:
            part = f"{part} {word}".lstrip()
    yield part


def _arguments(command: str) -> list[str]:
    """The words of a command; what stands between quotes is one."""
    return re.findall(r"(?:'[^']*'|\"[^\"]*\"|[^\s'\"])+", command)
