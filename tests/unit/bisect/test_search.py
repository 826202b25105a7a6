"""Search: which build is compared next, by the pairs so far."""

from __future__ import annotations

import math

import msgspec
import pytest

from perfgate.bisect.search import (
    Evidence,
    confirmation,
    fewest_pairs,
    is_confirmed,
    middle,
    position,
    sure_losses,
)
from tests.support.bisections import (
    CASE,
    MEMORY,
    THROUGHPUT,
    row,
    session,
    state,
)


def where(current, most_pairs=6):
    """(good, bad, next) of a state."""
    place = position(Evidence(current, CASE), most_pairs)
    return place.good, place.bad, place.next


def test_ends_first():
    """Without a pair of the bad build nothing else is worth one."""
    current = state(9)
    assert (0, 8, 8) == where(current)


def test_then_the_middle_and_halves():
    """Each sure build moves one end of what is left."""
    current = state(9, session("b8", [0.1]))
    assert (0, 8, 4) == where(current)

    good = msgspec.structs.replace(
        current, sessions=(*current.sessions, session("b4", [0.0]))
    )
    assert (4, 8, 6) == where(good)

    bad = msgspec.structs.replace(
        good, sessions=(*good.sessions, session("b6", [0.1]))
    )
    assert (4, 6, 5) == where(bad)

    done = msgspec.structs.replace(
        bad, sessions=(*bad.sessions, session("b5", [0.1]))
    )
    assert (4, 5, None) == where(done)


def test_a_build_that_is_not_sure_gets_more_pairs():
    """Half of the loss is neither good nor bad; after some pairs the nearer side counts."""
    end, half = session("b4", [0.1, 0.1, 0.1]), session("b2", [0.0489])
    assert (0, 4, 2) == where(state(5, end, half))

    six = [session("b2", [0.0489])] * 6
    place = position(Evidence(state(5, end, *six), CASE), 6)

    assert (0, 2, 1) == (place.good, place.bad, place.next)
    assert ("bad", False) == (place.judged[-1].side, place.judged[-1].is_sure)


def test_the_end_gets_pairs_too():
    """A build with more than twice the pairs of the bad end waits for that."""
    pairs = [session("b2", [0.0489])] * 3

    assert (0, 4, 4) == where(state(5, session("b4", [0.1]), *pairs))


def test_a_build_that_failed_is_skipped_and_its_neighbour_taken():
    """One failed start is enough: it would fail again."""
    failed = msgspec.structs.replace(
        session("b4", []), outcome="failed", rows={}
    )

    assert (0, 8, 3) == where(state(9, session("b8", [0.1]), failed))


def test_a_build_without_a_valid_pair_is_tried_twice():
    """The machine may have been busy once."""
    invalid = msgspec.structs.replace(
        session("b4", []), outcome="invalid", rows={}
    )
    end = session("b8", [0.1])

    assert (0, 8, 4) == where(state(9, end, invalid))
    assert (0, 8, 3) == where(state(9, end, invalid, invalid))
    valid = session("b4", [0.0])
    assert (4, 8, 6) == where(state(9, end, invalid, valid, invalid))


def test_builds_between_that_cannot_be_compared_stay_suspects():
    """The answer is a span then."""
    failed = [
        msgspec.structs.replace(session(name, []), outcome="failed", rows={})
        for name in ("b1", "b2")
    ]
    place = position(Evidence(state(4, session("b3", [0.1]), *failed), CASE), 6)

    assert (0, 3, None) == (place.good, place.bad, place.next)
    assert [1, 2] == list(place.untested)


def test_middle_is_the_nearest_that_can_be_compared():
    """None where all are skipped."""
    assert 4 == middle(0, 8, set())
    assert 3 == middle(0, 8, {4})
    assert 6 == middle(0, 8, {2, 3, 4, 5})
    assert middle(0, 8, set(range(1, 8))) is None
    assert middle(3, 4, set()) is None


def test_answer_is_confirmed_by_pairs_of_the_two():
    """The loss between them must be the one that each has against the good build."""
    searched = (session("b2", [0.1]), session("b1", [0.0]))
    same = session("b2", [0.1, 0.1, 0.1], reference="b1", confirms=True)
    nothing = session("b2", [0.0, 0.0, 0.0], reference="b1", confirms=True)
    half = session(
        "b2", [0.0489, 0.0489, 0.0489], reference="b1", confirms=True
    )

    def told(*confirming):
        evidence = Evidence(state(3, *searched, *confirming), CASE)
        return confirmation(evidence, 1, 2)

    assert "unsure" == told()
    assert "bad" == told(same)
    assert "good" == told(nothing)
    assert "unsure" == told(half)
    assert "bad" == told(half, half, half)  # after nine pairs the likelier side


def test_gain_of_the_good_build_makes_no_larger_step():
    """One pair of b1 said that it is twice as fast, which is noise."""
    sessions = (
        session("b2", [0.1]),
        session("b1", [-0.5]),
        session("b2", [0.1, 0.1, 0.1], reference="b1", confirms=True),
    )

    assert is_confirmed(Evidence(state(3, *sessions), CASE), 1, 2)


def test_refuted_answer_asks_for_more_pairs_of_both():
    """One of the two was called wrongly: they are compared with the good build again."""
    sessions = (
        session("b4", [0.1]),
        session("b2", [0.0]),
        session("b3", [0.1]),
        session("b3", [0.0, 0.0, 0.0], reference="b2", confirms=True),
    )
    assert (0, 4, 2) == where(state(5, *sessions))

    again = (*sessions, *[session("b2", [0.0])] * 3)
    assert (2, 4, 3) == where(state(5, *again))

    mended = (*again, *[session("b3", [0.0])] * 4)
    assert (3, 4, None) == where(state(5, *mended))


def test_pairs_of_the_good_build_itself_confirm_as_well():
    """The first build after the good one is the slow one."""
    confirming = session("b1", [0.1, 0.1, 0.1], confirms=True)
    current = state(3, session("b2", [0.1]), session("b1", [0.1]), confirming)

    assert is_confirmed(Evidence(current, CASE), 0, 1)


@pytest.mark.parametrize(
    ("builds", "pairs"), [(2, 1), (3, 2), (5, 3), (17, 5), (18, 6)]
)
def test_fewest_pairs(builds, pairs):
    """The ends, and half of what is left each time."""
    assert pairs == fewest_pairs(builds)


def both(cases):
    """A state whose bad end has these rows."""
    end = msgspec.structs.replace(session("b1", [0.1]), rows=cases)
    return state(2, end)


def test_speed_decides_before_memory():
    """Then what stands out most from the noise."""
    current = both(
        {
            MEMORY: row([0.2], MEMORY, cv=0.001),
            THROUGHPUT: row([0.1], THROUGHPUT, cv=0.02),
            CASE: row([0.1], CASE, cv=0.005),
        }
    )

    found = sure_losses(current)

    assert [CASE, THROUGHPUT, MEMORY] == [loss.case for loss in found]
    assert math.log(1.1) == pytest.approx(found[0].estimate.loss)
    assert [MEMORY] == [loss.case for loss in sure_losses(current, [MEMORY])]


def test_loss_within_the_noise_is_none():
    """All rows share the doubt: the more there are, the less one of them tells."""
    loss = 0.0135
    alone = both({CASE: row([loss])})
    many = {f"vllm-llama/load-{n}/itl_median_ms": row([0.0]) for n in range(60)}

    assert [CASE] == [found.case for found in sure_losses(alone)]
    assert [] == sure_losses(both({CASE: row([loss]), **many}))


def test_loss_below_the_floor_of_its_metric_is_none():
    """TTFT: a tenth of a millisecond is sure, and nothing that counts."""
    small = msgspec.structs.replace(row([0.1]), floor=3.0)
    large = msgspec.structs.replace(row([0.4]), floor=3.0)

    assert [] == sure_losses(both({CASE: small}))
    assert [CASE] == [loss.case for loss in sure_losses(both({CASE: large}))]


def test_gain_is_no_loss():
    """A faster bad end has nothing to look for."""
    assert [] == sure_losses(both({CASE: row([-0.2])}))
    assert [] == sure_losses(state(2))
