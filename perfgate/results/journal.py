"""Journal: what was recorded since results.json was last written whole, a line a step.

A session appends a step at a time, and writes results.json anew when the journal has
outgrown it: all writing together grows with what is measured, not with its square. The
first line names the results.json that the others continue, by its hash. What a killed
session left of a last line is no step.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec

from perfgate.files import (
    append,
    read_bounded,
    refuse_repeated_keys,
    write_atomically,
)

SUFFIX = ".journal"  # after the name of the file that it continues
# A journal below this size waits for the end of the session.
LEAST_BYTES = 2**20

Place = tuple[str | int, ...]
Results = TypeVar("Results", bound=msgspec.Struct)


class BadStep(ValueError):
    """A line of a journal, other than a cut last one, is no step."""


class Head(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The first line: SHA-256 of the file that the steps continue."""

    continues: str


class Change(
    msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True
):
    """A part of the results that a step replaced.

    Attributes:
        at: names and numbers of fields, from the results inwards.
        value: what stands there from then on.
        kept: rows of a list that stay in front of those of `value`.
        dropped: keys that are no longer there; then there is no `value`.
    """

    at: Place
    value: Any = None
    kept: int | None = None
    dropped: tuple[str, ...] = ()


class Journal(Generic[Results]):
    """Writes results step by step.

    Args:
        path: of the file that holds them whole.
        encode: the content of that file.
    """

    def __init__(self, path: Path, encode: Callable[[Results], bytes]) -> None:
        self._whole = path
        self._steps = beside(path)
        self._encode = encode
        self._head = b""
        self._whole_bytes = 0
        self._steps_bytes = 0
        # What both files hold together; None where that is not known.
        self._written: Results | None = None

    def write(self, results: Results) -> None:
        """Append what changed, or write all of it where that is due.

        Raises:
            RunDataError: neither could be written.
        """
        written = self._written
        is_due = self._steps_bytes > max(LEAST_BYTES, self._whole_bytes)
        if written is None or is_due:
            self.write_whole(results)
            return
        # Whatever ends the next lines early may leave a part of a step.
        self._written = None
        try:
            self._append(line(tuple(changes(written, results))))
        except OSError:
            self.write_whole(results)
        else:
            self._written = results

    def write_whole(self, results: Results) -> None:
        """Write all of it to its file, and remove the journal.

        Raises:
            RunDataError: it could not be written; what was written before is unchanged.
        """
        self._written = None
        content = self._encode(results)
        write_atomically(self._whole, content)
        self._steps.unlink(missing_ok=True)
        self._head = line(Head(hash_of(content)))
        self._whole_bytes = len(content)
        self._steps_bytes = 0
        self._written = results

    def _append(self, step: bytes) -> None:
        is_first = not self._steps_bytes
        if is_first:
            step = self._head + step
        append(self._steps, step, create=is_first)
        self._steps_bytes += len(step)


def beside(path: Path) -> Path:
    """The journal of a file."""
    return path.with_name(path.name + SUFFIX)


def read(path: Path) -> tuple[bytes, bytes]:
    """Content of a file and of its journal, which may be empty.

    The journal is read first: a session that writes the file anew meanwhile has put
    into it all that the journal held.

    Raises:
        OSError: one of them cannot be read.
    """
    try:
        steps = read_bounded(beside(path))
    except FileNotFoundError:
        steps = b""
    return read_bounded(path), steps


def continued(content: bytes, steps: bytes) -> bytes:
    """The content of a file after the steps of its journal.

    A journal that continues another content was left behind, and holds nothing new.

    Raises:
        BadStep, msgspec.DecodeError, RepeatedKey: a line or the content is damaged.
    """
    # What follows the last end of a line was cut.
    head, *lines = steps.split(b"\n")[:-1] or [b""]
    if not lines or msgspec.json.decode(head, type=Head) != Head(
        hash_of(content)
    ):
        return content
    refuse_repeated_keys(content)
    tree = msgspec.json.decode(content)
    for number, step in enumerate(lines, 2):
        try:
            refuse_repeated_keys(step)
            for change in msgspec.json.decode(step, type=tuple[Change, ...]):
                _apply(change, tree)
        except (
            msgspec.DecodeError,
            LookupError,
            TypeError,
            ValueError,
        ) as error:
            text = f"line {number} of its journal ({SUFFIX}): {error}"
            raise BadStep(text) from error
    return msgspec.json.encode(tree)


def changes(old: Any, new: Any, at: Place = ()) -> Iterator[Change]:
    """What makes the new value of the old one; parts that are the same object are equal."""
    if old is new:
        return
    if type(old) is not type(new):
        yield Change(at, new)
    elif _has_fields(new):
        for field in msgspec.structs.fields(new):
            parts = getattr(old, field.name), getattr(new, field.name)
            yield from changes(*parts, (*at, field.encode_name))
    elif isinstance(new, tuple):
        yield from _changed_rows(old, new, at)
    elif isinstance(new, dict):
        yield from _changed_keys(old, new, at)
    elif old != new:
        yield Change(at, new)


def _changed_rows(
    old: Sequence[Any], new: Sequence[Any], at: Place
) -> Iterator[Change]:
    for number, (before, after) in enumerate(zip(old, new, strict=False)):
        yield from changes(before, after, (*at, number))
    if len(old) != len(new):
        kept = min(len(old), len(new))
        yield Change(at, new[kept:], kept)


def _changed_keys(
    old: Mapping[str, Any], new: Mapping[str, Any], at: Place
) -> Iterator[Change]:
    if dropped := tuple(old.keys() - new.keys()):
        yield Change(at, dropped=dropped)
    for key, value in new.items():
        if key in old:
            yield from changes(old[key], value, (*at, key))
        else:
            yield Change((*at, key), value)


def _has_fields(value: Any) -> bool:
    """Whether it stands in JSON as an object with all of its fields."""
    if not isinstance(value, msgspec.Struct):
        return False
    config = value.__struct_config__
    return not (config.array_like or config.omit_defaults)


def _apply(change: Change, tree: Any) -> None:
    *outer, last = change.at
    for step in outer:
        tree = tree[step]
    if change.kept is not None:
        tree[last][change.kept :] = change.value
    elif change.dropped:
        for key in change.dropped:
            del tree[last][key]
    else:
        tree[last] = change.value


def line(value: Head | tuple[Change, ...]) -> bytes:
    """A line of a journal."""
    return msgspec.json.encode(value, order="deterministic") + b"\n"


def hash_of(content: bytes) -> str:
    """What the first line names its file by."""
    return hashlib.sha256(content).hexdigest()
