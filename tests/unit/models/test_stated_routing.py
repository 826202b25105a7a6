"""Stated routing: chances of experts, what they cost, and whether counts agree."""

import itertools

import pytest

from perfgate.models.catalogue import lookup
from perfgate.models.stated_routing import (
    STATED,
    chances,
    expert_shares,
    mismatch,
    rank_cost,
)
from tests.support.studies import SHIPPED

SHAPES = [(8, 2), (128, 8), (32, 4), (8, 1), (4, 3)]


@pytest.mark.parametrize("stated", STATED)
@pytest.mark.parametrize(("experts", "top_k"), SHAPES)
def test_a_token_chooses_as_many_experts_as_the_model_says(
    stated, experts, top_k
):
    """Chances are between 0 and 1, and add up to the choices of a token."""
    found = chances(stated, experts, top_k)

    assert experts == len(found)
    assert pytest.approx(top_k) == sum(found)
    assert all(0 <= chance <= 1 for chance in found)


@pytest.mark.parametrize(("experts", "top_k"), SHAPES)
def test_skewed_chances_follow_zipf(experts, top_k):
    """The i-th expert's is 1/i of the first one's, but for those that are chosen always."""
    found = chances("skewed", experts, top_k)
    uncertain = [
        (index, chance) for index, chance in enumerate(found, 1) if chance < 1
    ]

    products = [index * chance for index, chance in uncertain]
    assert [pytest.approx(products[0])] * len(products) == products
    assert all(first >= second for first, second in itertools.pairwise(found))


def test_an_unknown_routing_has_no_chances():
    """A misspelt one is no uniform one."""
    with pytest.raises(ValueError, match="'evenly'"):
        chances("evenly", 8, 2)


@pytest.mark.parametrize("batch", [1, 2, 8, 32, 64])
def test_even_chances_reach_most_experts(batch):
    """They reach what the arithmetic takes as its bound, and no others reach more."""
    architecture = lookup(SHIPPED.pairs["large"].model).architecture
    touched = []
    for stated in STATED:
        shares = expert_shares(stated, 8, 2)
        touched.append(architecture.expected_experts_touched(batch, shares))

    assert (
        pytest.approx(architecture.expected_experts_touched(batch))
        == (touched[0])
    )
    assert touched[0] >= touched[1] >= touched[2]
    assert pytest.approx(2) == touched[2]


def test_the_busiest_rank_costs():
    """Even chances cost nothing; with all on few one of two ranks does everything."""
    costs = [rank_cost(chances(stated, 8, 2), 2) for stated in STATED]

    assert [1, pytest.approx(1.533, abs=0.001), 2] == costs
    with pytest.raises(ValueError, match="3 ranks do not divide 8 experts"):
        rank_cost([0.25] * 8, 3)


def test_counts_within_chance_agree():
    """1,000 tokens with 250 expected may differ by 82 (six standard deviations)."""
    even = chances("uniform", 8, 2)

    assert mismatch([[250] * 8, [331, 169] + [250] * 6], 1000, even) is None
    assert "in layer 1 333 of 1000 tokens chose expert 0, stated are 250" == (
        mismatch([[250] * 8, [333, 167] + [250] * 6], 1000, even)
    )


def test_an_expert_that_no_token_may_choose_is_seen_at_once():
    """One token too many differs from a chance of 0, and one too few from a chance of 1."""
    few = chances("few", 4, 2)

    assert mismatch([[9, 9, 0, 0]], 9, few) is None
    assert "expert 1" in mismatch([[9, 8, 1, 0]], 9, few)
    assert "stated are 0" in mismatch([[9, 9, 1, 0]], 9, few)
