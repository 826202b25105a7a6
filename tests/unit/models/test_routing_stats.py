"""Routing statistics: counts of routed tokens, distances, collapse and noise."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perfgate.models import routing_stats as routing
from perfgate.models.routing import LayerShares, Routing, RoutingUnreadable
from perfgate.models.routing_stats import (
    balancedness,
    checked,
    collapsed_layers,
    count,
    distance,
    drift,
    intervals,
    merge,
    share_intervals,
    summary,
    values,
)


def request(*tokens, num_experts=4):
    """One request with one layer; each token as its choices, the first one first."""
    return count(np.array(tokens)[:, None, :], num_experts)


def of(*requests, ranks=2):
    """What a launch of these requests told."""
    return Routing(top_k=2, ranks=ranks, requests=requests)


def drawn(seed, shares, requests=40, tokens=60, mood=0.0):
    """Requests of one layer; tokens choose one expert by these shares, varied by request."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(requests):
        own = np.array(shares) * np.exp(mood * rng.standard_normal(len(shares)))
        chosen = rng.choice(len(shares), size=(tokens, 1, 1), p=own / own.sum())
        found.append(count(chosen, len(shares)))
    return Routing(top_k=1, ranks=2, requests=tuple(found))


def test_choices_are_counted_by_layer_and_expert():
    """Every choice of every token counts, in the layer in which it was made."""
    experts = np.array([[[0, 1], [3, 2]], [[1, 0], [3, 0]], [[1, 2], [2, 3]]])

    seen = count(experts, 4)

    assert ((2, 3, 1, 0), (1, 0, 2, 3)) == seen.counts
    assert 3 == seen.tokens


def test_repeats_are_of_consecutive_tokens():
    """Layer 0: firsts 0, 1, 1 repeat once; each token shares an expert with the one before.

    Layer 1: 3, 3, 2.
    """
    experts = np.array([[[0, 1], [3, 2]], [[1, 0], [3, 0]], [[1, 2], [2, 1]]])

    seen = count(experts, 4)

    assert ((1, 1), (2, 1)) == (seen.repeats_first, seen.repeats_any)


def test_uniform_routing():
    """Even shares: full overlap, full entropy, both ranks alike, no cost."""
    seen = values(of(request((0, 1), (2, 3), (0, 2), (1, 3))))

    # 2 of 8 choices each; shares (1/4) of two experts
    assert {
        "routing_shares": 1.0,
        "routing_top2_share": 0.5,
        "routing_max_over_mean": 1.0,
        "routing_min_over_mean": 1.0,
        "routing_entropy": pytest.approx(1.0),
        "routing_balancedness": 1.0,
        "routing_live_experts": 1.0,
        "routing_ep_cost": 1.0,
    }.items() <= seen.items()


def test_one_sided_routing():
    """All on experts 0 and 1, on rank 0: half of the experts are dead, one rank does it all."""
    seen = values(of(request((0, 1), (1, 0), (0, 1))))

    # 6 choices on two of four experts: overlap with uniform 0.25 + 0.25;
    # entropy log 2 / log 4
    assert (0.5, 1.0, 2.0) == (
        seen["routing_shares"],
        seen["routing_top2_share"],
        seen["routing_max_over_mean"],
    )
    assert (0.5, 0.5, 2.0) == (
        seen["routing_balancedness"],
        seen["routing_live_experts"],
        seen["routing_ep_cost"],
    )
    assert 0.5 == pytest.approx(seen["routing_entropy"])
    # nobody chose experts 2 and 3: (0 + 1/2) / (6/4 + 1/2)
    assert 0.25 == pytest.approx(seen["routing_min_over_mean"])
    # 0, 1, 0 never repeats a first choice; each token chooses both again
    assert (0.0, 1.0) == (
        seen["routing_repeats_first"],
        seen["routing_repeats_any"],
    )


def test_the_worst_layer_counts():
    """One bad layer is not averaged away."""
    even, bad = [[0, 1], [2, 3]], [[0, 1], [0, 1]]
    experts = np.array([[even[0], bad[0]], [even[1], bad[1]]])

    seen = values(of(count(experts, 4)))

    assert (1.0, 0.5) == (
        seen["routing_top2_share"],
        seen["routing_balancedness"],
    )
    # mean of 1 and 2
    assert 1.5 == seen["routing_ep_cost"]


@pytest.mark.parametrize(
    ("loads", "ranks", "expected"),
    [
        ([[1, 1, 1, 1]], 2, [1.0]),
        ([[4, 0, 0, 0]], 2, [0.5]),
        ([[4, 0, 0, 0]], 4, [0.25]),
        # a layer that loads rank 0 and one that loads rank 1: each is
        # one-sided, however even they are together
        ([[4, 0, 0, 0], [0, 0, 0, 4]], 2, [0.5, 0.5]),
    ],
    ids=["uniform", "one-hot", "one-hot-of-four", "opposite-layers"],
)
def test_balancedness(loads, ranks, expected):
    """Mean over maximum of the ranks, within each layer."""
    assert expected == balancedness(loads, ranks).tolist()


def test_published_cost_of_imbalance():
    """One expert at 30 % and one at 5 % of 8: its rank has 62.5 % of 50 %, 25 % more work."""
    others = (1 - 0.30 - 0.05) / 6
    shares = [0.30, others, others, others, 0.05, others, others, others]

    # 0.30 + 3 x 0.1083
    assert 1.25 == pytest.approx(1 / balancedness([shares], 2)[0])


def test_distance_is_the_share_that_would_have_to_move():
    """A tenth of the tokens on another expert is a distance of 0.1, whatever the totals."""
    assert 0.1 == pytest.approx(distance([[50, 50]], [[600, 400]])[0])
    assert 0 == distance([[1, 2, 3]], [[10, 20, 30]])[0]
    assert 1 == distance([[1, 0]], [[0, 1]])[0]


@given(
    st.lists(st.integers(0, 50), min_size=3, max_size=3),
    st.lists(st.integers(0, 50), min_size=3, max_size=3),
)
@settings(max_examples=50, deadline=None)
def test_distance_is_a_distance(one, other):
    """Between 0 and 1, and the same both ways."""
    one, other = [n + 1 for n in one], [n + 1 for n in other]

    assert (
        distance([one], [other]).tolist() == distance([other], [one]).tolist()
    )
    assert 0 <= distance([one], [other])[0] <= 1


@pytest.mark.parametrize(
    ("experts", "seen"),
    [
        (np.array([[[0, 1]]]), r"shape \(1, 1, 2\), not \(2, 1, 2\)"),
        (np.array([[[0, 1]], [[0, 4]]]), "experts 0 to 4 of 4"),
        (np.array([[[0, 1]], [[-1, 1]]]), "experts -1 to 1 of 4"),
        (
            np.array([[[0, 0]], [[0, 0]]]),
            "2 times a token chose the same expert twice; all zeros: True",
        ),
        (
            np.array([[[0, 1]], [[3, 3]]]),
            "1 times a token chose the same expert twice; all zeros: False",
        ),
    ],
    ids=["fewer-rows", "beyond", "negative", "zeros", "twice"],
)
def test_what_cannot_be_true_is_refused(experts, seen):
    """A missing row, an unknown expert and an unwritten buffer are errors."""
    with pytest.raises(RoutingUnreadable, match=seen):
        checked(experts, (2, 1, 2), 4, "asking")


def test_silent_zeros_of_a_single_choice():
    """With one expert a token, all zeros are told from a choice only by being everywhere."""
    with pytest.raises(RoutingUnreadable, match="never written"):
        checked(np.zeros((3, 2, 1), dtype=int), (3, 2, 1), 4, "asking")

    good = np.array([[[0], [1]], [[0], [0]], [[0], [0]]])
    assert good is checked(good, (3, 2, 1), 4, "asking")


def test_intervals_come_from_requests():
    """Requests that differ widen the interval; as many tokens in requests that are alike do not."""
    alike = of(*[request((0, 1), (2, 3))] * 20)
    apart = of(*[request((0, 1), (0, 1)), request((2, 3), (2, 3))] * 10)

    low, high = intervals(alike)["routing_balancedness"]
    assert (1.0, 1.0) == (low, high)
    low, high = intervals(apart)["routing_balancedness"]
    assert low < 0.9 < high <= 1
    bottom, top = share_intervals(apart)
    assert (bottom < 0.25).all()
    assert (top > 0.25).all()


def test_other_requests_of_the_same_router_are_noise():
    """Two hundred pairs of draws with variation between requests: hardly any is a shift."""
    shares = [0.2, 0.1, 0.3, 0.4]
    beyond = 0
    for seed in range(200):
        before, now = (
            summary(drawn(n, shares, mood=0.4)) for n in (seed, 1000 + seed)
        )
        seen = drift(now, before)
        beyond += seen.distance > seen.threshold

    # 0.1 % are meant; the noise is itself estimated from 40 requests
    assert beyond <= 3


def test_tokens_taken_for_independent_would_cry_wolf():
    """Noise of requests is several times that of single tokens: so requests are drawn."""
    shares = [0.2, 0.1, 0.3, 0.4]

    moody, plain = (
        summary(drawn(1, shares, mood=mood)).noise[0] for mood in (0.6, 0.0)
    )

    assert moody > 2 * plain


def test_another_router_is_no_noise():
    """A tenth of the tokens on another expert is a shift, with layer, expert and both shares."""
    before, now = (
        summary(drawn(n, shares))
        for n, shares in ((1, [0.25] * 4), (2, [0.35, 0.15, 0.25, 0.25]))
    )

    seen = drift(now, before)

    assert seen.distance > seen.threshold
    assert (0, True) == (seen.layer, seen.expert in (0, 1))
    assert 0.1 == pytest.approx(
        abs(seen.share_now - seen.share_before), abs=0.03
    )


def test_drift_names_the_layer_that_stands_out():
    """The layer furthest beyond its own noise counts, not the one that moved most."""
    before = LayerShares(counts=((50, 50), (50, 50)), noise=(0.30, 0.02))
    now = LayerShares(counts=((60, 40), (55, 45)), noise=(0.0, 0.0))

    seen = drift(now, before)

    # layer 0: 0.10 of 0.30; layer 1: 0.05 of 0.02
    assert (1, pytest.approx(0.05), 0.02) == (
        seen.layer,
        seen.distance,
        seen.threshold,
    )


def test_tiny_distances_never_count():
    """Where no noise was seen at all, one percent of the choices still may move."""
    seen = drift(
        LayerShares(counts=((505, 495),), noise=(0.0,)),
        LayerShares(counts=((500, 500),), noise=(0.0,)),
    )

    assert routing.SMALLEST_DISTANCE == seen.threshold
    assert seen.distance < seen.threshold


def test_other_models_are_not_compared():
    """Another number of experts is an error."""
    with pytest.raises(ValueError, match=r"\(1, 2\).*\(1, 3\)"):
        drift(
            LayerShares(counts=((1, 1),), noise=(0.1,)),
            LayerShares(counts=((1, 1, 1),), noise=(0.1,)),
        )


def test_launches_are_put_together():
    """Counts add up; the larger noise stands."""
    one, other = (
        LayerShares(counts=((1, 2),), noise=(0.1,)),
        LayerShares(counts=((3, 4),), noise=(0.3,)),
    )

    assert LayerShares(counts=((4, 6),), noise=(0.3,)) == merge([one, other])


def test_collapse_is_named():
    """Two experts with 80 % are a collapse, with layer and experts.

    79 %, or two experts in all, are none.
    """
    rows = [[10, 10, 10, 10], [5, 45, 5, 45], [39, 40, 11, 10]]

    assert [(1, (3, 1), 0.9)] == [
        (layer, pair, round(share, 6))
        for layer, pair, share in collapsed_layers(rows)
    ]
    assert [] == collapsed_layers([[50, 50]])


def test_entropy_of_a_dead_expert():
    """An expert that nobody chose adds nothing to the entropy, and breaks no logarithm."""
    assert math.isfinite(values(of(request((0, 1), (1, 2))))["routing_entropy"])


def test_repeats_are_a_share_of_the_tokens_of_each_layer():
    """Of two tokens that follow another one in each of three requests."""
    experts = np.array([[[0, 1], [3, 2]], [[1, 0], [3, 0]], [[1, 2], [2, 1]]])
    same = count(experts, 4)

    seen = values(of(same, same, same))

    # The first choice repeats once in each layer; any choice in 2 and 1 tokens.
    assert (0.5, 0.75) == (
        seen["routing_repeats_first"],
        seen["routing_repeats_any"],
    )
