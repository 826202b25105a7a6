"""Text of a fleet: what hosts lack, how long it takes, and what waits for what."""

from __future__ import annotations

from perfgate.fleet import forecast, text
from perfgate.fleet.scheduler import Durations, Place
from perfgate.fleet.state import Twice
from tests.support.fake_cluster import unit
from tests.support.fleets import finished, host, place, placed, state

SMALL, LARGE = unit("small"), unit("large", gpu_count=2)
OTHER = unit("other", gpu="h100")


def test_a_check_names_what_is_missing_by_host():
    """Units that lack the same are of one line; an unusable host says why."""
    lacks = {"small": ("needs vllm",), "large": ("needs vllm",), "other": ()}
    bare = Place(host("b"), "h100", lacks)

    lines = list(
        text.check_lines(
            [place("a", SMALL, LARGE, gpus=2), bare],
            ["c: no module named perfgate"],
            (SMALL, LARGE, OTHER),
        )
    )

    assert [
        "a (h200): 2 of 3 units",
        "b (h100): 1 of 3 units",
        "  lacks for small; large: needs vllm",
        "c: no module named perfgate",
    ] == lines


def test_a_plan_says_how_long_and_what_waits():
    """The longest unit first; a guess is called one."""
    run = state(SMALL, LARGE, OTHER, launches=3)
    known = Durations({("small", "h200"): 60.0, ("large", "h200"): 1200.0})
    places = [place("a", SMALL, LARGE, gpus=2)]
    cast = forecast.forecast(run, places, known)

    lines = list(text.plan_lines(run, places, cast, known))

    assert "  3 launches of large on 2x h200, 20 min each" == lines[0]
    assert "(a guess: no earlier run)" in lines[1]
    assert (
        "  3 launches of small on 1x h200, 60 s each".replace("60 s", "1 min")
        == lines[2]
    )
    assert "All of it takes 62 min on 1 host." == lines[3]
    assert "The last launch that needs 1x h200 begins after 61 min." in lines
    assert "3 launches can be measured by no host that is here." == lines[-1]


def test_units_that_no_host_can_measure_are_listed():
    """With each reason and its hosts."""
    missing = {"small": {"needs vllm": ["a", "b"]}}

    assert ["no host can measure small:", "  a; b: needs vllm"] == list(
        text.impossible_lines(missing)
    )


def test_what_a_lost_host_has_is_told_by_what_became_of_the_launch():
    """Measured elsewhere too, by nobody else, or by that host for a later driver."""
    found = Twice(task="u01-l001", host="a", folder="/spool/u01-l001")
    lost = [
        event
        for name in ("a", "b")
        for event in (
            placed("u01-l001", name),
            finished("u01-l001", name, "lost"),
        )
    ]
    elsewhere = [*lost[:2], placed("u01-l001", "b"), finished("u01-l001", "b")]
    there = [
        *lost[:2],
        found,
        placed("u01-l001", "a"),
        finished("u01-l001", "a"),
    ]

    def told(*events):
        return "\n".join(text.missing_lines(state(unit("one"), events=events)))

    assert "u01-l001 was measured twice: a was lost" in told(*elsewhere, found)
    given_up = told(*lost, found)
    assert "u01-l001 was measured after all: a was lost" in given_up
    assert "twice" not in given_up
    assert "" == told(*there)
