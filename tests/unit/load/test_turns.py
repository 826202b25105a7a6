"""Turns: order of a cycle, and the times of launches that answer the same batches."""

import math
import random

import pytest

from perfgate.load.turns import (
    FEWEST_CYCLES,
    Turn,
    largest_error,
    launch_times,
    orders,
    waiting_share,
)

SIDES = ("base", "candidate", "candidate", "base")


def turns_of(factors, cycles=40, noise=0.0, level=lambda _: 1.0, seed=1):
    """Turns of launches whose batch takes 30 ms times their factor and their cycle's level."""
    rng = random.Random(seed)
    turns = []
    for cycle in range(cycles):
        for launch, factor in enumerate(factors):
            for _ in range(2):
                scatter = math.exp(rng.gauss(0, noise))
                cpu_ms = 30 * factor * level(cycle) * scatter
                turns.append(Turn(cycle, launch, cpu_ms, cpu_ms, 0.0))
    return turns


def cpu_ms(turn):
    """CPU time of a turn."""
    return turn.cpu_ms


def test_a_cycle_is_reversed_in_its_middle():
    """Each launch is asked twice, and a drift within the cycle falls on all alike (ABBA)."""
    order = orders(SIDES, 1, random.Random(3))

    assert order == order[::-1]
    assert {(0,), (1,), (2,), (3,)} == set(order)


def test_the_order_is_drawn():
    """No launch always goes first."""
    rng = random.Random(3)

    assert {0, 1, 2, 3} == {orders(SIDES, 1, rng)[0][0] for _ in range(40)}


def test_two_at_once_are_of_different_builds_and_change_places():
    """What disturbs both cores cancels between the builds, what disturbs one in the swap."""
    groups = orders(SIDES, 2, random.Random(3))

    for first, second in zip(groups[::2], groups[1::2], strict=True):
        assert first == second[::-1]
        assert {"base", "candidate"} == {SIDES[place] for place in first}
    assert [0, 0, 1, 1, 2, 2, 3, 3] == sorted(sum(groups, ()))


def test_times_are_relative_to_their_cycle():
    """A neighbour that makes every third cycle ten times as long changes no ratio."""

    def level(cycle):
        return 10.0 if cycle % 3 == 0 else 1.0

    times = launch_times(turns_of((1.0, 1.05), level=level), cpu_ms)

    ratio = times[1].value_ms / times[0].value_ms
    assert 1.05 == pytest.approx(ratio)
    assert 0.0 == pytest.approx(times[0].error, abs=1e-12)


def test_single_disturbed_turns_are_trimmed():
    """A turn in ten that takes twice as long on one launch alone is left out."""
    turns = turns_of((1.0, 1.0))
    disturbed = [
        Turn(turn.cycle, turn.launch, 2 * turn.cpu_ms, turn.cpu_ms, 0.0)
        if turn.launch == 1 and turn.cycle % 10 == 0
        else turn
        for turn in turns
    ]

    first, second = launch_times(disturbed, cpu_ms)

    assert 1.0 == pytest.approx(second.value_ms / first.value_ms)


def test_the_error_is_that_of_repeated_measurements():
    """The stated standard error is the scatter of the result over repeated measurements."""
    losses = []
    errors = []
    for seed in range(300):
        times = launch_times(
            turns_of((1.0, 1.0, 1.0, 1.0), noise=0.05, seed=seed), cpu_ms
        )
        losses.append(math.log(times[0].value_ms / times[1].value_ms))
        errors.append(math.hypot(times[0].error, times[1].error))

    scatter = math.sqrt(sum(loss**2 for loss in losses) / len(losses))
    assert scatter == pytest.approx(sum(errors) / len(errors), rel=0.15)


def test_too_few_cycles_know_no_error():
    """With fewer cycles than trimming needs, more are asked for."""
    few = turns_of((1.0, 1.0), cycles=FEWEST_CYCLES - 1)
    enough = turns_of((1.0, 1.0), cycles=FEWEST_CYCLES)

    assert math.inf == largest_error(few, cpu_ms)
    assert math.isfinite(largest_error(enough, cpu_ms))


def test_waiting_for_a_core_is_no_active_time():
    """A neighbour on the core adds to the elapsed time alone; a sleep to both."""
    alone = Turn(0, 0, cpu_ms=10.0, elapsed_ms=10.0, waited_ms=0.0)
    beside = Turn(0, 0, cpu_ms=10.0, elapsed_ms=25.0, waited_ms=15.0)
    asleep = Turn(0, 0, cpu_ms=10.0, elapsed_ms=15.0, waited_ms=0.0)

    assert alone.active_ms == beside.active_ms
    assert asleep.active_ms > alone.active_ms
    assert 15 / 35 == waiting_share([alone, beside])


def test_a_wait_that_began_earlier_leaves_a_positive_time():
    """The kernel may count a wait with the batch after it: the time has a logarithm still."""
    turn = Turn(0, 0, cpu_ms=10.0, elapsed_ms=10.0, waited_ms=11.0)

    assert turn.active_ms > 0
