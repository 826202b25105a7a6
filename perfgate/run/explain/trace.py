"""Trace: events of a torch profiler's file (Chrome trace JSON), read one by one.

A file may hold millions of events: it is decoded in blocks, and of an event only begin,
end and name are kept.
"""

from __future__ import annotations

import gzip
import json
import math
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from perfgate.errors import Failure, describe_error

BLOCK_CHARACTERS = 1 << 20
_EVENTS = '"traceEvents"'
_SEPARATORS = " \t\r\n,"
# Category of an event -> field of `Trace`.
_FIELDS = {
    "kernel": "kernels",
    "gpu_memcpy": "kernels",
    "gpu_memset": "kernels",
    "cpu_op": "operators",
    "user_annotation": "marks",
    "gpu_user_annotation": "gpu_marks",
}
Event = dict[str, Any]
_BROKEN = (
    OSError,
    EOFError,
    zlib.error,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    OverflowError,
    RecursionError,
)


class UnreadableTrace(Failure):
    """A trace that is missing, cut off or of another form."""


@dataclass(frozen=True)
class Span:
    """Something with a name, from begin to end (us of the trace's clock).

    Attributes:
        thread: process and thread; on a GPU device and stream.
    """

    name: str
    begin_us: float
    end_us: float
    thread: tuple[str, str]


@dataclass(frozen=True)
class Trace:
    """What one rank recorded.

    Attributes:
        kernels: what ran on a GPU; empty on the CPU.
        operators: what ran on the CPU, nested.
        marks: ranges that the engine names. gpu_marks: the same ranges where their
            kernels ran, one on each stream.
    """

    kernels: tuple[Span, ...]
    operators: tuple[Span, ...]
    marks: tuple[Span, ...]
    gpu_marks: tuple[Span, ...] = ()


def read(path: Path) -> Trace:
    """Read a trace file, packed by gzip or not.

    Raises:
        UnreadableTrace: it is missing, cut off or of another form.
    """
    try:
        return collect(events(path))
    except _BROKEN as error:
        raise UnreadableTrace(
            tried=f"reading the trace {path}",
            seen=describe_error(error),
            remedy="open it in Perfetto; the engine may have been ended while it wrote",
        ) from error


def collect(rows: Iterable[Event]) -> Trace:
    """Spans of these events by what they are."""
    found: dict[str, list[Span]] = {name: [] for name in _FIELDS.values()}
    for event in rows:
        field = _FIELDS.get(event.get("cat", ""))
        if field is not None and event.get("ph") == "X":
            found[field].append(_span(event))
    return Trace(**{name: tuple(spans) for name, spans in found.items()})


def events(path: Path) -> Iterator[Event]:
    """The events of a file, in its order.

    Raises:
        ValueError: it has none, or ends within one.
        OSError, EOFError: it cannot be read.
    """
    with _open(path) as file:
        yield from _events(file)


def _open(path: Path) -> IO[str]:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8", errors="replace")
    return path.open(encoding="utf-8", errors="replace")


def _events(file: IO[str]) -> Iterator[Event]:
    decode = json.JSONDecoder().raw_decode
    text = _until_events(file)
    place = 0
    while True:
        while place < len(text) and text[place] in _SEPARATORS:
            place += 1
        if place < len(text) and text[place] == "]":
            return
        try:
            event, place = decode(text, place)
        except json.JSONDecodeError:
            more = file.read(BLOCK_CHARACTERS)
            if not more:
                raise
            text = text[place:] + more
            place = 0
            continue
        yield event


def _until_events(file: IO[str]) -> str:
    """The text behind the bracket that opens the list of events."""
    text = ""
    while block := file.read(BLOCK_CHARACTERS):
        text += block
        _, found, behind = text.partition(_EVENTS)
        _, bracket, behind = behind.partition("[")
        if found and bracket:
            return behind
    raise ValueError(f"it has no {_EVENTS}")


def _span(event: Event) -> Span:
    begin_us = float(event["ts"])
    end_us = begin_us + float(event.get("dur", 0.0))
    if not math.isfinite(end_us):
        raise ValueError(f"{event['name']} ends at {end_us} us")
    return Span(
        name=str(event["name"]),
        begin_us=begin_us,
        end_us=end_us,
        thread=(str(event["pid"]), str(event["tid"])),
    )
