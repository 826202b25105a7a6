"""Bisection: from the ends to a confirmed answer; killed, skipped, refuted."""

from __future__ import annotations

import pytest

from perfgate.bisect.bisection import Rules
from perfgate.bisect.state import BadBisection
from tests.support.bisections import (
    CASE,
    MEMORY,
    ToldPairs,
    bisection,
    slow_from,
    state,
)


@pytest.mark.parametrize("first_bad", range(1, 17))
def test_one_of_16_is_found_in_five_pairs(first_bad):
    """Whichever it is: the ends, four builds, and three pairs that confirm it."""
    pairs = ToldPairs(slow_from(first_bad, builds=17))

    answer = bisection(pairs, builds=17)[0].run()

    place = answer.position
    assert (first_bad - 1, first_bad) == (place.good, place.bad)
    assert answer.is_confirmed
    assert CASE == answer.case
    assert len(pairs.asked) <= 5 + 1
    assert f"b{first_bad - 1}>b{first_bad}" == pairs.order[-1]


def test_order_of_launches_changes_from_pair_to_pair():
    """A drift favours neither; a build that may not start goes first."""
    noise = [0.0, 0.05, 0.05]
    pairs = ToldPairs(slow_from(1, builds=3), noise=noise)
    pairs.losses = {"b2": 0.1, "b1": 0.0}

    bisection(pairs, builds=3)[0].run()

    swapped = [row.is_swapped for row in pairs.asked if row.build.name == "b1"]
    assert [True, False] == swapped[:2]


def test_killed_at_any_time_it_goes_on():
    """From each saved state the same answer comes, without a pair measured twice."""
    pairs = ToldPairs(slow_from(5))
    found, saved, _ = bisection(pairs)
    answer = found.run()

    for number, left in enumerate(saved):
        later = ToldPairs(slow_from(5))
        again = bisection(later, begun=left)[0].run()
        assert answer.position == again.position
        assert pairs.order[number + 1 :] == later.order


def test_builds_that_do_not_start_are_skipped():
    """Their neighbours are compared; where none is left, the answer names them all."""
    pairs = ToldPairs(slow_from(4), broken=["b3", "b4"])

    answer = bisection(pairs)[0].run()

    assert (2, 5) == (answer.position.good, answer.position.bad)
    assert [3, 4] == list(answer.position.untested)
    assert answer.is_confirmed


def test_build_that_cannot_be_made_is_skipped():
    """Nothing is launched for it."""
    pairs = ToldPairs(slow_from(2, builds=5))

    answer = bisection(pairs, builds=5, unmade=["b2"])[0].run()

    assert "b2" not in pairs.order
    assert (1, 3) == (answer.position.good, answer.position.bad)


def test_invalid_pair_is_measured_again_and_then_skipped():
    """Twice."""
    pairs = ToldPairs(slow_from(6), invalid=["b4", "b3"])

    answer = bisection(pairs)[0].run()

    assert 2 == pairs.order.count("b3")
    assert (5, 6) == (answer.position.good, answer.position.bad)


@pytest.mark.parametrize("build", ["b1", "b3"])
def test_pairs_that_give_no_value_any_more_come_to_an_end(build):
    """A build that was measured once and never again; the likelier side counts."""
    losses = {"b1": 0.049, "b2": 0.1, "b3": 0.1}
    pairs = ToldPairs(losses, lapses={build: range(2, 99)})

    answer = bisection(pairs, builds=4, rules=Rules(most_pairs=6))[0].run()

    assert (0, 1) == (answer.position.good, answer.position.bad)
    assert "b1" in pairs.order
    assert pairs.order.count(build) <= 6


def test_bad_end_may_lapse_between_its_pairs():
    """Where a pair was measured, two that gave no value end nothing."""
    noise = [-0.09, 0.0, 0.0]
    pairs = ToldPairs({"b1": 0.1}, noise=noise, lapses={"b1": (2, 3)})

    answer = bisection(pairs, builds=2)[0].run()

    assert answer.is_confirmed


def test_bad_end_must_be_worse():
    """With what was seen, and what to do."""
    pairs = ToldPairs({})

    with pytest.raises(BadBisection) as caught:
        bisection(pairs, rules=Rules(most_pairs=3))[0].run()

    assert "no sure loss in 3 pairs" in caught.value.seen
    assert CASE in caught.value.seen
    assert "--most-pairs" in caught.value.remedy
    assert ["b7", "b7", "b7"] == pairs.order


def test_case_that_is_asked_decides():
    """No loss of another case counts."""
    pairs = ToldPairs(slow_from(3))

    with pytest.raises(BadBisection) as caught:
        bisection(pairs, rules=Rules(cases=(MEMORY,), most_pairs=2))[0].run()

    assert MEMORY in caught.value.seen
    assert CASE not in caught.value.seen


def test_case_that_no_test_judges():
    """Those that are judged are named, after one pair."""
    pairs = ToldPairs(slow_from(3))

    with pytest.raises(BadBisection) as caught:
        bisection(pairs, rules=Rules(cases=("*/ttft_mean_ms",)))[0].run()

    assert "--case */ttft_mean_ms" == caught.value.tried
    assert CASE in caught.value.seen
    assert ["b7"] == pairs.order


def test_case_by_a_pattern():
    """As elsewhere."""
    pairs = ToldPairs(slow_from(3))

    answer = bisection(pairs, rules=Rules(cases=("*/itl_*",)))[0].run()

    assert CASE == answer.case


@pytest.mark.parametrize("lost", ["broken", "invalid"])
def test_bad_end_must_be_measured(lost):
    """It is the one build that cannot be skipped."""
    pairs = ToldPairs(slow_from(3), **{lost: ["b7"]})

    with pytest.raises(BadBisection) as caught:
        bisection(pairs)[0].run()

    assert "b7" in caught.value.tried
    # The same command would end here again, whatever was mended.
    assert "begin anew in another --folder" in caught.value.remedy


def test_bad_end_must_be_made():
    """Its reason is the one of the command."""
    with pytest.raises(BadBisection) as caught:
        bisection(ToldPairs({}), unmade=["b7"])[0].run()

    assert "exit status 2" == caught.value.seen


def test_good_end_must_be_made():
    """Nothing can be compared without it, and it is no skip."""
    pairs = ToldPairs(slow_from(3))
    found, saved, _ = bisection(pairs, unmade=["b0"])

    with pytest.raises(BadBisection):
        found.run()

    assert [] == saved


def test_wrong_call_is_found_by_the_way_back():
    """Noise made b4 good: side by side b4 and b5 are alike, and both are compared again."""
    noise = [0.0, -0.1]  # the ends; then b4
    pairs = ToldPairs(slow_from(2, builds=9), noise=noise)

    answer = bisection(pairs, builds=9)[0].run()

    assert "b4>b5" in pairs.order
    assert (1, 2) == (answer.position.good, answer.position.bad)
    assert answer.is_confirmed


def test_loss_that_is_gone_is_not_confirmed():
    """The machine was slow during the search: at the end the answer says so."""
    noise = [0.1, 0.1]  # b2, then b1; afterwards there is no loss

    pairs = ToldPairs({}, noise=noise)
    answer = bisection(pairs, builds=3)[0].run()

    assert not answer.is_confirmed


def test_two_steps_show_what_is_left():
    """Half of the loss came earlier: the one that is found explains the other half."""
    losses = {"b2": 0.1, "b3": 0.1, "b4": 0.1, "b5": 0.2, "b6": 0.2, "b7": 0.2}
    pairs = ToldPairs(losses)

    answer = bisection(pairs)[0].run()

    step = answer.evidence.confirmed(answer.position.good, answer.position.bad)
    assert step.loss < 0.6 * answer.effect.loss
    assert (answer.position.good, answer.position.bad) in [(1, 2), (4, 5)]


def test_progress_tells_pairs_and_sides():
    """Which build, which pair, what is left, and what it was called."""
    found, _, told = bisection(ToldPairs(slow_from(3, builds=5)), builds=5)

    found.run()

    assert "build 5 of 5, b4: pair 1, 3 pairs left at least" == told[0]
    assert "bad, as given" in told[1]
    assert "build 3 of 5, b2: pair 1, 2 pairs left at least, 2 min" == told[2]
    assert "b2 is good" in told[3]
    assert told[-1].startswith("confirming: b3 against b2, 3 pairs")


def test_state_of_no_pairs_asks_the_ends():
    """A new bisection begins with the bad build."""
    pairs = ToldPairs(slow_from(1, builds=2))

    answer = bisection(pairs, begun=state(2))[0].run()

    assert ["b1", "b0>b1"] == pairs.order
    assert answer.is_confirmed
