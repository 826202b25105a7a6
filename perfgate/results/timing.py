"""Where did the time of a session go?

Servers' starts and the load are what a session is for; what is left is the suite's own:
finding out what to run, building requests, working out figures, deciding, writing, and
ending servers.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from perfgate.servers.launch_record import LaunchRecord


class Session(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the time of one command went that measured for this run; in seconds.

    Attributes:
        seen_unix_s: when the run was last written down: the end, however it came.
        start_s: servers' starts, the failed ones included.
        load_s: warming up and sending repetitions.
        end_s: ending servers, until their devices were free again.
    """

    started_unix_s: float
    seen_unix_s: float
    start_s: float = 0.0
    load_s: float = 0.0
    end_s: float = 0.0


def told(sessions: Sequence[Session], now_unix_s: float | None = None) -> str | None:
    """In one line: "613 s: servers' start 301 s, load 289 s, the suite itself 23 s, 3.8 %"; None if nothing is known.

    The suite's own time is what is neither a start nor load.

    Args:
        now_unix_s: until when the last session goes on; None for when the run was last
            written down.
    """
    until = [session.seen_unix_s for session in sessions]
    if until and now_unix_s is not None:
        until[-1] = now_unix_s
    wall_s = sum(
        end - session.started_unix_s
        for end, session in zip(until, sessions, strict=True)
    )
    if wall_s <= 0:
        return None
    start_s, load_s, end_s = (
        sum(getattr(s, name) for s in sessions)
        for name in ("start_s", "load_s", "end_s")
    )
    own_s = wall_s - start_s - load_s
    commands = f" in {len(sessions)} commands" if len(sessions) > 1 else ""
    ending = f" ({end_s:.0f} s of it ending servers)" if end_s >= 0.5 else ""
    return (
        f"{wall_s:.0f} s{commands}: servers' start {start_s:.0f} s, load {load_s:.0f} s, "
        f"the suite itself {own_s:.0f} s, {100 * own_s / wall_s:.1f} %{ending}"
    )


@dataclass(frozen=True)
class PhaseRow:
    """One step of a server's start-up, over all of its launches.

    Attributes:
        first_s: what it took on the first launch; None if that had no such step.
        later_s: median of the later ones, which find caches filled; None if there were
            none.
    """

    server: str
    phase: str
    first_s: float | None
    later_s: float | None

    @property
    def words(self) -> tuple[str, str, str, str]:
        """Server, step, and the seconds of the first and of the later launches."""
        first, later = (
            "-" if seconds is None else f"{seconds:.1f}"
            for seconds in (self.first_s, self.later_s)
        )
        return self.server, self.phase, first, later


def phases(records: Iterable[LaunchRecord]) -> list[PhaseRow]:
    """How long each step of each server's start took, and the whole; launches that failed are left out."""
    by_server: dict[str, list[Mapping[str, float]]] = {}
    for record in records:
        if record.ready_s is not None and record.phases:
            by_server.setdefault(record.key, []).append(_steps(record, record.ready_s))
    rows = []
    for server, (first, *later) in by_server.items():
        for name in dict.fromkeys(name for steps in (first, *later) for name in steps):
            others = [steps[name] for steps in later if name in steps]
            rows.append(
                PhaseRow(
                    server,
                    name,
                    first.get(name),
                    statistics.median(others) if others else None,
                )
            )
    return rows


def _steps(record: LaunchRecord, ready_s: float) -> dict[str, float]:
    """Step -> seconds until the next one; what comes before the first line of the log, and the whole."""
    marks = sorted(record.phases, key=lambda phase: phase.at_s)
    ends = [*(mark.at_s for mark in marks[1:]), ready_s]
    steps = {"until the log's first step": marks[0].at_s}
    for mark, end in zip(marks, ends, strict=True):
        steps[mark.name] = max(0.0, end - mark.at_s)
    return steps | {"ready": ready_s}
