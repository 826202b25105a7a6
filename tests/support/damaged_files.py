"""Damaged JSON files: what disks, editors, merges and other hands make of one."""

from __future__ import annotations

import gzip
import json
import os
import random
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

_NUMBER = re.compile(rb"(?<=[:\[, ])-?\d+(?:\.\d+)?(?:e[+-]?\d+)?(?=[,\]}\n ])")
NUMBERS = (b"1e400", b"-1", b"0", b"1e308", b"-1e308", b"1e-320", b"9" * 400)
VALUES: tuple[Any, ...] = (None, "", "x", True, 0, -1, 1e308, [], {}, [[]])
NESTED = b"[" * 100_000 + b"]" * 100_000


def flip_bits(content: bytes, draw: random.Random) -> bytes:
    """One to three bits."""
    changed = bytearray(content)
    for _ in range(draw.randint(1, 3)):
        changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def truncate(content: bytes, draw: random.Random) -> bytes:
    """The beginning alone."""
    return content[: draw.randrange(len(content))]


def drop_slice(content: bytes, draw: random.Random) -> bytes:
    """A block is missing."""
    begin = draw.randrange(len(content))
    return content[:begin] + content[begin + draw.choice([1, 7, 512, 4096]) :]


def repeat_slice(content: bytes, draw: random.Random) -> bytes:
    """A block is there twice."""
    begin = draw.randrange(len(content))
    end = begin + draw.choice([1, 7, 512, 4096])
    return content[:end] + content[begin:]


def zero_slice(content: bytes, draw: random.Random) -> bytes:
    """A block that was never written."""
    begin = draw.randrange(len(content))
    block = content[begin : begin + 512]
    return content[:begin] + b"\0" * len(block) + content[begin + 512 :]


def change_number(content: bytes, draw: random.Random) -> bytes:
    """A huge, tiny or negative number."""
    places = list(_NUMBER.finditer(content))
    place = draw.choice(places)
    number = draw.choice(NUMBERS)
    return content[: place.start()] + number + content[place.end() :]


def nest(content: bytes, draw: random.Random) -> bytes:
    """A value that is nested too deeply for any reader."""
    place = draw.choice(list(_NUMBER.finditer(content)))
    return content[: place.start()] + NESTED + content[place.end() :]


def repeat_key(content: bytes, draw: random.Random) -> bytes:
    """A key twice in one object, as a merge by hand leaves it."""
    keys = list(re.finditer(rb'"[^"\\]+": ?', content))
    key = draw.choice(keys)
    return content[: key.start()] + key[0] + b"1, " + content[key.start() :]


def change_value(content: bytes, draw: random.Random) -> bytes:
    """A value of another type, or none."""
    tree = json.loads(content)
    holder, name = _place(tree, draw)
    holder[name] = draw.choice(VALUES)
    return json.dumps(tree).encode()


def drop_value(content: bytes, draw: random.Random) -> bytes:
    """A field or an item is missing."""
    tree = json.loads(content)
    holder, name = _place(tree, draw)
    del holder[name]
    return json.dumps(tree).encode()


def rename_key(content: bytes, draw: random.Random) -> bytes:
    """A name that nothing else refers to."""
    tree = json.loads(content)
    while True:
        holder, name = _place(tree, draw)
        if isinstance(holder, dict):
            holder[f"{name}-x"] = holder.pop(name)
            return json.dumps(tree).encode()


def swap_text(content: bytes, draw: random.Random) -> bytes:
    """A text in place of another one, such as the name of a server."""
    tree = json.loads(content)
    for _ in range(1000):
        holder, name = _place(tree, draw)
        if isinstance(holder[name], str):
            holder[name] = draw.choice(
                ["", "x", "../..", "\x1b[2J", "é" * 3000]
            )
            break
    return json.dumps(tree).encode()


def other_encoding(content: bytes, draw: random.Random) -> bytes:
    """Not UTF-8, or with a mark at its beginning."""
    text = content.decode()
    return draw.choice(
        [
            text.encode("utf-16"),
            b"\xef\xbb\xbf" + content,
            content.replace(b'": "', b'": "\xff', 1),
            content.replace(b"\n", b"\r\n"),
        ]
    )


def conflict(content: bytes, draw: random.Random) -> bytes:
    """Marks of a merge that nobody has finished."""
    lines = content.split(b"\n")
    at = draw.randrange(len(lines))
    marks = [b"<<<<<<< HEAD", *lines[at : at + 2], b"=======", b">>>>>>> x"]
    return b"\n".join([*lines[:at], *marks, *lines[at + 2 :]])


def odd_whole(_: bytes, draw: random.Random) -> bytes:
    """Another file altogether."""
    return draw.choice(
        [b"", b"null", b"[]", b"{}", b'"x"', b"\0" * 4096, NESTED]
    )


DAMAGE: Mapping[str, Callable[[bytes, random.Random], bytes]] = {
    "bits": flip_bits,
    "truncated": truncate,
    "block missing": drop_slice,
    "block twice": repeat_slice,
    "block of zeros": zero_slice,
    "number": change_number,
    "nested": nest,
    "key twice": repeat_key,
    "value": change_value,
    "field missing": drop_value,
    "key renamed": rename_key,
    "text": swap_text,
    "encoding": other_encoding,
    "conflict marks": conflict,
    "another file": odd_whole,
}
LINKS = (
    "dangling link",
    "link in a circle",
    "link to a device",
    "pipe",
    "folder",
)


def link(path: Path, kind: str) -> None:
    """Put something that is no file in a file's place."""
    path.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        targets = {
            "dangling link": "nowhere",
            "link in a circle": path.name,
            "link to a device": "/dev/zero",
        }
        path.symlink_to(targets[kind])


def unlink(path: Path) -> None:
    """Remove it, whatever it is."""
    if path.is_dir() and not path.is_symlink():
        path.rmdir()
    else:
        path.unlink(missing_ok=True)


def pack(content: bytes, draw: random.Random) -> bytes:
    """The file packed, and cut or flipped then."""
    packed = gzip.compress(content)
    return draw.choice([truncate, flip_bits])(packed, draw)


def _place(tree: Any, draw: random.Random) -> tuple[Any, Any]:
    """A container and a key or index of it, at any depth."""
    holder = tree
    while True:
        names = list(holder) if isinstance(holder, dict) else range(len(holder))
        name = draw.choice(list(names))
        inner = holder[name]
        is_container = isinstance(inner, dict | list) and len(inner)
        if not is_container or draw.random() < 0.15:
            return holder, name
        holder = inner


def is_part(of: Any, tree: Any) -> bool:
    """Whether all of a file's tree is in what was read of it: none of it was dropped."""
    if isinstance(tree, dict):
        return isinstance(of, dict) and all(
            name in of and is_part(of[name], value)
            for name, value in tree.items()
        )
    if isinstance(tree, list):
        return (
            isinstance(of, list)
            and len(of) == len(tree)
            and all(is_part(a, b) for a, b in zip(of, tree, strict=True))
        )
    return bool(of == tree)
