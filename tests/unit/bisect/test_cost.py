"""Cost of a bisection: pairs, and minutes by what a pair took."""

from __future__ import annotations

import os

import msgspec
import pytest

from perfgate.bisect import state as states
from perfgate.bisect.cost import duration, left, text
from perfgate.bisect.state import STATE_FILE
from tests.support.bisections import session, state


def test_cost_of_a_new_one_is_in_pairs(tmp_path):
    """A pair has no recorded time yet."""
    assert (
        "17 builds: 8 pairs at least, 5 pairs to find the build and 3 to confirm it. "
        "Noise asks for more. The time of a pair is known after the first one."
    ) == text(state(17), tmp_path / "mine")


def test_cost_by_the_recorded_time_of_a_pair(tmp_path):
    """Its own pairs; those that confirm are three in a session."""
    confirming = session("b2", [0.1, 0.1, 0.1], confirms=True)
    current = state(3, session("b2", [0.1]), confirming)
    current = msgspec.structs.replace(
        current,
        sessions=(
            msgspec.structs.replace(current.sessions[0], seconds=120.0),
            msgspec.structs.replace(current.sessions[1], seconds=280.0),
        ),
    )

    assert "A pair takes 2 min: 8 min." in text(current, tmp_path)
    assert ", 2 pairs left at least, 3 min" == left(current, 2)


def test_a_neighbour_knows_the_time_of_a_pair(tmp_path):
    """Of the same engine and load; the newest one counts, one that is broken does not."""
    for number, seconds in enumerate((600.0, 240.0)):
        pair = msgspec.structs.replace(session("b1", [0.1]), seconds=seconds)
        states.save(tmp_path / f"run-{number}", state(2, pair))
        times = (number, number)
        os.utime(tmp_path / f"run-{number}" / STATE_FILE, times)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / STATE_FILE).write_text("{")

    assert "A pair takes 4 min: 20 min." in text(state(3), tmp_path / "mine")
    other = msgspec.structs.replace(state(3).question, arguments=("-m", "cpu"))
    assert "after the first one" in text(
        states.State(question=other), tmp_path / "mine"
    )


def test_sessions_without_a_value_have_no_time():
    """A build that failed at once says nothing of a pair."""
    failed = msgspec.structs.replace(
        session("b1", []), outcome="failed", rows={}, seconds=3.0
    )

    assert ", 1 pair left at least" == left(state(2, failed), 1)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(40.4, "40 s"), (100, "2 min"), (3540, "59 min"), (4320, "1 h 12 min")],
)
def test_duration(seconds, words):
    """In words."""
    assert words == duration(seconds)
