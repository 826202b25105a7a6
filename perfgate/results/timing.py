"""Timing of a session: server start-up, load, teardown, and the overhead of the suite itself.

Servers' starts and the load are what a session is for. What is left is the suite's own
overhead: to find out what to run, build requests, compute metrics, judge and write.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from perfgate import formatting
from perfgate.servers.launch_record import LaunchRecord


class Session(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """Where the time of one command, or of one worker, went that measured for this run.

    All times are in seconds.

    Attributes:
        seen_unix_s: when the run was last written: the end, however it came.
        start_s: servers' starts, the failed ones included.
        load_s: warm-up and repetitions.
        end_s: ending servers, until their devices were free again.
        explain_s: launches that explain what is red, with their starts and load.
        command: id of the command, which its workers share; "" in older runs.
    """

    started_unix_s: float
    seen_unix_s: float
    start_s: float = 0.0
    load_s: float = 0.0
    end_s: float = 0.0
    explain_s: float = 0.0
    command: str = ""


def format_sessions(
    sessions: Sequence[Session], now_unix_s: float | None = None
) -> str | None:
    """One line: "613 s: server starts 301 s, load 289 s, suite overhead 23 s (3.8 %)".

    The suite's own time is what is neither a start nor load. None if nothing is known.
    Workers of one command each have their time, which is summed.

    Args:
        now_unix_s: end of the last session; None takes the time of its last write.
    """
    wall_s = _wall_s(sessions, now_unix_s)
    if wall_s <= 0:
        return None
    start_s = sum(session.start_s for session in sessions)
    load_s = sum(session.load_s for session in sessions)
    end_s = sum(session.end_s for session in sessions)
    explain_s = sum(session.explain_s for session in sessions)
    overhead_s = wall_s - start_s - load_s - explain_s
    text = f"{wall_s:.0f} s{_of_whom(sessions)}: "
    text += f"server starts {start_s:.0f} s, load {load_s:.0f} s, "
    if explain_s:
        text += f"explaining {explain_s:.0f} s, "
    text += f"suite overhead {overhead_s:.0f} s ({formatting.percent(overhead_s / wall_s)})"
    if end_s >= 0.5:
        text += f", of which {end_s:.0f} s for stopping servers"
    return text


def _of_whom(sessions: Sequence[Session]) -> str:
    """Of how many workers and commands the time is; "" of one command without workers."""
    commands = _command_count(sessions)
    text = ""
    if commands < len(sessions):
        text += f" of {len(sessions)} workers"
    if commands > 1:
        text += f" in {commands} commands"
    return text


def _command_count(sessions: Sequence[Session]) -> int:
    """Commands that measured; a clock that was set meanwhile does not change how many."""
    named = {session.command for session in sessions if session.command}
    unnamed = [session for session in sessions if not session.command]
    return len(named) + _count_by_time(unnamed)


def _count_by_time(sessions: Sequence[Session]) -> int:
    """Those that measured one after the other: workers of one do at the same time."""
    count = 0
    until_unix_s = -math.inf
    for session in sorted(sessions, key=lambda row: row.started_unix_s):
        if session.started_unix_s >= until_unix_s:
            count += 1
        until_unix_s = max(until_unix_s, session.seen_unix_s)
    return count


def _wall_s(sessions: Sequence[Session], now_unix_s: float | None) -> float:
    wall_s = 0.0
    for session in sessions:
        wall_s += session.seen_unix_s - session.started_unix_s
    if sessions and now_unix_s is not None:
        wall_s += now_unix_s - sessions[-1].seen_unix_s
    return wall_s


@dataclass(frozen=True)
class PhaseRow:
    """One step of a server's start-up, over all of its launches.

    Attributes:
        first_s: what it took on the first launch; None if that had no such step.
        later_s: median of the later launches, which find caches filled; None if there
            were none.
    """

    server: str
    phase: str
    first_s: float | None
    later_s: float | None

    @property
    def cells(self) -> tuple[str, str, str, str]:
        """Server, step, and the seconds of the first and of the later launches."""
        return (
            self.server,
            self.phase,
            _seconds(self.first_s),
            _seconds(self.later_s),
        )


def _seconds(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.1f}"


def phases(records: Iterable[LaunchRecord]) -> list[PhaseRow]:
    """How long each step of each server's start took, and the whole start.

    Failed launches are left out.
    """
    launches: dict[str, list[Mapping[str, float]]] = {}
    for record in records:
        if record.ready_s is not None and record.phases:
            launch_steps = _steps(record, record.ready_s)
            launches.setdefault(record.key, []).append(launch_steps)
    rows = []
    for server, all_steps in launches.items():
        names: dict[str, None] = {}
        for steps in all_steps:
            names |= dict.fromkeys(steps)
        for name in names:
            rows.append(_phase_row(server, name, all_steps))
    return rows


def _phase_row(
    server: str, phase: str, launches: Sequence[Mapping[str, float]]
) -> PhaseRow:
    first, *later = launches
    later_s = [steps[phase] for steps in later if phase in steps]
    median_s = None
    if later_s:
        median_s = statistics.median(later_s)
    return PhaseRow(server, phase, first.get(phase), median_s)


def _steps(record: LaunchRecord, ready_s: float) -> dict[str, float]:
    """Step -> seconds until the next one.

    With the time before the first line of the log, and the whole start.
    """
    marks = sorted(record.phases, key=lambda phase: phase.at_s)
    ends_s = [mark.at_s for mark in marks[1:]]
    ends_s.append(ready_s)
    steps = {"before the first logged step": marks[0].at_s}
    for mark, end_s in zip(marks, ends_s, strict=True):
        steps[mark.name] = max(0.0, end_s - mark.at_s)
    steps["ready"] = ready_s
    return steps
