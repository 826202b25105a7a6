"""Screen: the progress of all hosts of a fleet at once, on a terminal or in a log.

On a terminal a table is rewritten in place, above it lines that stay. A log has the
lines, and one that counts at most every thirty seconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from perfgate import formatting
from perfgate.fleet.state import Outcome, State, Task

REDRAW_EVERY_S = 1.0
COUNT_EVERY_S = 30.0
MOST_ROWS = 40
UP, CLEAR = "\x1b[A", "\x1b[2K\r"


@dataclass(frozen=True)
class HostRow:
    """What a host does now; nothing where `unit` is empty."""

    host: str
    kind: str
    unit: str = ""
    seconds: float = 0.0
    line: str = ""


class Screen:
    """Shows what a driver does.

    Args:
        write: prints text as it is.
        rewritable: whether it is a terminal.
        width: of a line, in characters.
    """

    def __init__(
        self,
        write: Callable[[str], None],
        rewritable: bool,
        width: int = 100,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._write = write
        self._rewritable = rewritable
        self._width = width
        self._clock = clock
        self._began_s = clock()
        self._shown_s = float("-inf")
        self._open_lines = 0

    def line(self, text: str) -> None:
        """Show a line that stays."""
        self._clear()
        minutes, seconds = divmod(int(self._clock() - self._began_s), 60)
        self._write(f"  {minutes:2d}:{seconds:02d}  {text}\n")

    def ended(
        self, task: Task, host: str, outcome: Outcome, reason: str
    ) -> None:
        """Show how a launch ended; one that was measured is only counted."""
        if outcome == "measured":
            return
        then = "it is made again elsewhere"
        if outcome == "stopped":
            then = "resume the run with --resume"
        elif task.is_given_up:
            then = "it was made twice, and is given up"
        self.line(f"{task.id} ({task.unit.title}) {outcome} on {host}: {then}")
        for row in reason.splitlines():
            self._write(f"         {row}\n")

    def show(self, state: State, rows: Sequence[HostRow]) -> None:
        """Show how far the run is, at most so often."""
        pause_s = COUNT_EVERY_S
        if self._rewritable:
            pause_s = REDRAW_EVERY_S
        if self._clock() - self._shown_s < pause_s:
            return
        self._shown_s = self._clock()
        if not self._rewritable:
            self.line(count(state, rows))
            return
        self._clear()
        lines = list(table(state, rows, self._width))
        self._write("".join(f"{line}\n" for line in lines))
        self._open_lines = len(lines)

    def _clear(self) -> None:
        self._write((UP + CLEAR) * self._open_lines)
        self._open_lines = 0


def count(state: State, rows: Sequence[HostRow]) -> str:
    """How far a run is: "12 of 60 launches measured, 3 on 4 hosts, 1 given up"."""
    hosts = len({row.host for row in rows})
    running = sum(bool(row.unit) for row in rows)
    text = (
        f"{len(state.measured)} of {len(state.tasks)} launches measured, "
        f"{running} run on {formatting.count(hosts, 'host')}"
    )
    if state.given_up:
        text += f", {len(state.given_up)} given up"
    return text


def table(state: State, rows: Sequence[HostRow], width: int) -> Iterator[str]:
    """A line for each launch that runs, then for each idle host; a count at the end."""
    busy_first = sorted(rows, key=lambda row: (not row.unit, row.host))
    longest = max((len(row.host) for row in rows), default=0)
    for row in busy_first[:MOST_ROWS]:
        text = f"  {row.host:{longest}}  {row.kind:6}  "
        if row.unit:
            minutes, seconds = divmod(int(row.seconds), 60)
            text += f"{minutes:3d}:{seconds:02d}  {row.unit}  {row.line}"
        else:
            text += "idle"
        yield text[:width]
    if len(rows) > MOST_ROWS:
        yield f"  and {len(rows) - MOST_ROWS} more"
    yield f"  {count(state, rows)}"
