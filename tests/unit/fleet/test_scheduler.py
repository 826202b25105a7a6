"""Scheduler: which launch goes to which host."""

from __future__ import annotations

from perfgate.fleet import scheduler
from perfgate.fleet.scheduler import Durations, Place
from tests.support.fake_cluster import unit
from tests.support.fleets import finished, host, place, placed, state

SMALL, LARGE = unit("small"), unit("large", gpu_count=2)
H100 = unit("other", gpu="h100")
CPU = unit("slow", gpu=None, gpu_count=0)
KNOWN = Durations({("small", "h200"): 60.0, ("large", "h200"): 600.0})


def placements(run, *places, running=(), durations=KNOWN):
    """(task, host) of what begins now."""
    rows = scheduler.next_placements(run, frozenset(running), places, durations)
    return [(task.id, where.host.name) for task, where in rows]


def test_the_longest_goes_first():
    """Two GPUs are free for either; the launch of ten minutes gets them."""
    run = state(SMALL, LARGE)

    assert [("u02-l001", "a")] == placements(
        run, place("a", SMALL, LARGE, gpus=2)
    )


def test_a_host_is_filled_and_not_overfilled():
    """Four GPUs take one launch on two, and two on one each."""
    run = state(SMALL, LARGE, launches=4)

    begun = placements(run, place("a", SMALL, LARGE, gpus=4))

    assert [("u02-l001", "a"), ("u02-l002", "a")] == begun
    begun = placements(
        run, place("a", SMALL, gpus=2, busy_gpus=1, is_busy=True)
    )
    assert [("u01-l001", "a")] == begun


def test_launches_of_a_unit_spread_over_machines():
    """Each host has one before any has two."""
    run = state(
        SMALL,
        launches=3,
        events=[placed("u01-l001", "a"), finished("u01-l001", "a")],
    )

    begun = placements(
        run, place("a", SMALL, gpus=2), place("b", SMALL, gpus=2)
    )

    assert [("u01-l002", "b"), ("u01-l003", "a")] == begun


def test_a_product_waits_for_its_kind():
    """A launch for H100 never goes to an H200."""
    run = state(H100)

    assert [] == placements(run, place("a", H100))
    assert [("u01-l001", "b")] == placements(run, place("b", H100, kind="h100"))


def test_the_cpu_is_given_to_one_launch_alone():
    """A host that runs anything takes no launch on its CPU, and takes nothing beside one."""
    run = state(CPU, SMALL)
    beside = place("a", CPU, SMALL, gpus=2, busy_gpus=1, is_busy=True)
    alone = place("b", CPU, SMALL, gpus=2, is_busy=True)

    assert [("u02-l001", "a")] == placements(run, beside, running=())
    assert [] == placements(run, alone)


def test_a_launch_that_failed_goes_elsewhere_once():
    """Not to the host where it failed; after two failures to none."""
    events = [placed("u01-l001", "a"), finished("u01-l001", "a", "failed")]
    run = state(SMALL, events=events)

    assert [] == placements(run, place("a", SMALL))
    assert [("u01-l001", "b")] == placements(
        run, place("a", SMALL), place("b", SMALL)
    )
    events += [placed("u01-l001", "b"), finished("u01-l001", "b", "failed")]
    run = state(SMALL, events=events)
    assert [] == placements(run, place("c", SMALL))
    assert ["u01-l001"] == [task.id for task in run.given_up]


def test_a_launch_that_was_lost_goes_elsewhere_first():
    """To its host alone where that came back and there is no other."""
    events = [placed("u01-l001", "a"), finished("u01-l001", "a", "lost")]
    run = state(SMALL, events=events)

    assert [("u01-l001", "b")] == placements(
        run, place("a", SMALL), place("b", SMALL)
    )
    assert [("u01-l001", "a")] == placements(run, place("a", SMALL))
    failed = finished("u01-l001", "b", "failed")
    run = state(SMALL, events=[*events, placed("u01-l001", "b"), failed])
    assert [("u01-l001", "a")] == placements(
        run, place("a", SMALL), place("b", SMALL)
    )


def test_a_stopped_driver_costs_no_attempt():
    """The launch is preferred by the host on which it was begun: that one has a part of it."""
    events = [placed("u01-l001", "b"), finished("u01-l001", "b", "stopped")]
    run = state(SMALL, events=events)

    assert [("u01-l001", "b")] == placements(
        run, place("a", SMALL), place("b", SMALL)
    )


def test_what_is_missing_is_told_by_host():
    """A unit that no host can measure names each reason with its hosts."""
    run = state(SMALL, LARGE)
    bare = Place(host("b"), "h200", {"small": ("needs vllm",), "large": ()})

    missing = scheduler.impossible(run, [bare])

    assert {
        "small": {"needs vllm": ["b"]},
        "large": {"needs 2x h200, found h200": ["b"]},
    } == missing
    assert {} == scheduler.impossible(
        run, [bare, place("a", SMALL, LARGE, gpus=2)]
    )


def test_durations_are_medians_of_earlier_launches():
    """By unit and kind; an unknown kind takes what others took."""
    events = []
    for number, seconds in enumerate((10.0, 20.0, 90.0), 1):
        name = f"u01-l00{number}"
        events += [placed(name, "a"), finished(name, "a", seconds=seconds)]

    learned = scheduler.durations_of([state(SMALL, launches=3, events=events)])

    assert 20.0 == learned.of(SMALL, "h200")
    assert 20.0 == learned.of(SMALL, "h100")
    assert learned.is_known(SMALL)
    assert not learned.is_known(LARGE)
