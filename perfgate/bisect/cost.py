"""Cost of a bisection: its pairs, and minutes by the recorded time of a pair."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from perfgate import formatting
from perfgate.bisect import search, state
from perfgate.bisect.state import STATE_FILE, BadBisection, Question, State


def text(current: State, folder: Path) -> str:
    """What a whole bisection costs: "9 pairs at least: ..., 1 h 12 min".

    Args:
        folder: of the bisection; its neighbours know the time of a pair as well.
    """
    builds = len(current.question.builds)
    first = search.fewest_pairs(builds)
    confirming = search.CONFIRMING_PAIRS
    pairs = formatting.count(first + confirming, "pair")
    found = formatting.count(first, "pair")
    lines = (
        f"{formatting.count(builds, 'build')}: {pairs} at least, {found} to find the "
        f"build and {confirming} to confirm it. Noise asks for more."
    )
    seconds = seconds_of_pair(current) or _of_neighbours(current, folder)
    if seconds is None:
        return f"{lines} The time of a pair is known after the first one."
    total = duration((first + confirming) * seconds)
    return f"{lines} A pair takes {duration(seconds)}: {total}."


def left(current: State, pairs: int) -> str:
    """What is left, for a line of progress: ", 4 pairs left at least, 18 min"."""
    count = f", {formatting.count(pairs, 'pair')} left at least"
    seconds = seconds_of_pair(current)
    if seconds is None:
        return count
    return f"{count}, {duration(pairs * seconds)}"


def seconds_of_pair(current: State) -> float | None:
    """Mean time of a pair so far; None where none was measured."""
    seconds, pairs = 0.0, 0
    for session_seconds, session_pairs in search.measured_sessions(current):
        seconds += session_seconds
        pairs += session_pairs
    if not pairs:
        return None
    return seconds / pairs


def _of_neighbours(current: State, folder: Path) -> float | None:
    """The time of a pair in a bisection of the same engine and load, the newest one."""
    for question, seconds in _recorded(folder.parent):
        now = current.question
        if (question.engine, question.arguments) == (now.engine, now.arguments):
            return seconds
    return None


def _recorded(folder: Path) -> Iterator[tuple[Question, float]]:
    """The time of a pair in each bisection of a folder, the newest first."""
    files = sorted(
        folder.glob(f"*/{STATE_FILE}"),
        key=lambda file: file.stat().st_mtime,
        reverse=True,
    )
    for file in files:
        try:
            other = state.read(file)
        except BadBisection:
            continue  # its own command will say so
        seconds = seconds_of_pair(other)
        if seconds is not None:
            yield other.question, seconds


def duration(seconds: float) -> str:
    """A time in words: "40 s", "12 min", "1 h 12 min"."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"
