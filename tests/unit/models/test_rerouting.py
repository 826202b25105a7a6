"""Rerouting: distances request by request, their threshold, the expert that is named."""

import msgspec
import pytest

from benchmarks.moved_choices import moved, reversed_experts
from perfgate.models.rerouting import ASSUMED_REPEAT, rerouting
from perfgate.models.routing import LayerShares, RoutingUnreadable
from perfgate.models.routing_requests import encode
from perfgate.models.routing_stats import drift, summary
from tests.support.routings import varied

PLAIN = varied()
RECORDED = summary(PLAIN)


def launch(*requests):
    """One layer of two experts, with these counts by request."""
    flat = [count for row in requests for count in row]
    totals = sum(flat[0::2]), sum(flat[1::2])
    stored = encode(len(requests), 1, flat)
    return LayerShares(counts=(totals,), noise=(0.5,), requests=stored)


def test_requests_do_not_make_up_for_each_other():
    """One request moves to expert 1 what another one moves to expert 0: shares are alike."""
    before = launch((6, 4), (4, 6))
    now = launch((4, 6), (6, 4))

    seen = rerouting([now], [before, before])

    # 2 of 10 choices in each of two requests
    assert pytest.approx(0.2) == seen.distance
    assert pytest.approx(0.01) == seen.threshold
    assert pytest.approx((0.1, 0.1)) == (seen.lost, seen.gained)
    assert seen.share_before == seen.share_now == 0.5
    assert 0 == drift(now, before).distance


def test_long_requests_weigh_more():
    """Each request counts by its recorded choices, and may have made others since."""
    before = launch((30, 10), (5, 5))
    now = launch((60, 20), (10, 0))

    seen = rerouting([now], [before])

    # half of the second request, which made 10 of 50 choices
    assert pytest.approx(0.1) == seen.distance


def test_reversed_experts_are_far():
    """A wrong index map moves much in its layer, and nothing in the other one."""
    now = summary(reversed_experts(PLAIN, 1))

    seen = rerouting([now], [RECORDED])

    assert 1 == seen.layer
    assert seen.distance > 0.2


@pytest.mark.parametrize("recorded_launches", [1, 2])
@pytest.mark.parametrize(
    ("share", "is_red"), [(0.0, False), (0.005, False), (0.02, True)]
)
def test_two_percent_are_beyond_the_threshold(share, is_red, recorded_launches):
    """2 % of a layer's choices are a shift, 0.5 % are none.

    Moves that cancel within a request do not count.
    """
    now = summary(moved(PLAIN, 0, share))

    seen = rerouting([now], [RECORDED] * recorded_launches)

    assert is_red == (seen.distance > seen.threshold)
    assert 0.85 * share <= seen.distance <= share + 1e-4


def test_a_single_launch_has_an_assumed_repeat_distance():
    """Nothing says how far its repeat would be."""
    seen = rerouting([RECORDED], [RECORDED])

    assert (0.0, ASSUMED_REPEAT) == (seen.distance, seen.repeat)
    assert pytest.approx(ASSUMED_REPEAT + 0.01) == seen.threshold


def test_repeat_distance_is_learned():
    """Two recorded launches that differ by 3 % allow 4 %, in their layer only."""
    before = launch((50, 50), (50, 50))
    repeat = launch((56, 44), (50, 50))
    flipped = launch((53, 47), (45, 55))
    beyond = launch((50, 50), (41, 59))

    seen = rerouting([flipped], [before, repeat])

    assert pytest.approx((0.04, 0.04)) == (seen.threshold, seen.distance)
    assert rerouting([beyond], [before, repeat]).distance > 0.04
    assert (2, 2) == (seen.recorded_launches, seen.requests)


def test_each_launch_of_a_run_counts():
    """A launch that repeats the recorded one does not hide another that does not."""
    now = summary(moved(PLAIN, 0, 0.1))

    seen = rerouting([RECORDED, now, RECORDED], [RECORDED])

    assert rerouting([now], [RECORDED]) == seen
    assert seen.distance > seen.threshold


def test_counts_by_request_are_needed():
    """Shares of layers alone cannot be compared so."""
    bare = msgspec.structs.replace(RECORDED, requests=None)

    with pytest.raises(RoutingUnreadable):
        rerouting([RECORDED], [bare])
