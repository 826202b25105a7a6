"""Findings: what a server lost, and where the time went."""

import dataclasses

import pytest

from perfgate.judge.causes.finding import both, lost, phase_of
from tests.support.symptoms import closed, first, moved, server, step

FAST_STEP, SLOW_STEP = step(1, 5.0, 5.0), step(1, 5.0, 6.0)
FAST_FIRST, SLOW_FIRST = first(20.0, 20.0), first(20.0, 30.0)


@pytest.mark.parametrize(
    ("rows", "phase"),
    [
        ((SLOW_STEP, FAST_FIRST), "decode"),
        ((FAST_STEP, SLOW_FIRST), "prefill"),
        ((SLOW_STEP, SLOW_FIRST), "prefill and decode"),
        ((FAST_STEP, FAST_FIRST, closed(32, 100.0, 80.0)), "unknown"),
    ],
)
def test_phase_is_where_first_tokens_or_steps_lost(rows, phase):
    """A whole load that lost says nothing of it."""
    assert phase == phase_of(server(*rows))


@pytest.mark.parametrize(
    ("phases", "phase"),
    [
        (["prefill", "decode"], "prefill and decode"),
        (["decode", "unknown"], "decode"),
        (["queue", "queue"], "queue"),
        (["decode", "prefill and decode"], "prefill and decode"),
    ],
)
def test_phase_of_several_servers_is_that_of_all(phases, phase):
    """Not that of the first one."""
    assert phase == both(phases)


def test_what_lost_most_is_told_first():
    """Judged rows before others, and none that gained."""
    unjudged = dataclasses.replace(step(8, 5.0, 9.0), is_red=False)
    rows = (FAST_STEP, step(32, 5.0, 5.5), SLOW_STEP, unjudged, closed(4, 1, 2))

    assert [SLOW_STEP, rows[1], unjudged] == lost(server(*rows))


def test_the_same_figure_in_other_units_is_told_once():
    """A figure that no message names, and that is not judged."""
    twin = moved("request_throughput", "at-32", 32, 10.0, 8.0)
    twin = dataclasses.replace(twin, is_red=False)

    assert [SLOW_STEP] == lost(server(SLOW_STEP, twin))
