"""Moved choices: shifts by arithmetic, and the smallest one that each rule calls red."""

import numpy as np
import pytest

from benchmarks.moved_choices import (
    counts_of,
    is_red_by_request,
    is_red_by_shares,
    moved,
    reversed_experts,
    smallest_red,
    table,
)
from tests.support.routings import varied

PLAIN = varied(layers=1)


@pytest.mark.parametrize("target", [None, 3])
def test_moves_keep_each_request_as_long(target):
    """A moved choice leaves one expert for another one, in its request; a seed repeats it."""
    now = moved(PLAIN, 0, 0.1, target)

    before, after = counts_of(PLAIN), counts_of(now)

    assert before.sum(axis=2).tolist() == after.sum(axis=2).tolist()
    assert after.min() >= 0
    assert not np.array_equal(before, after)
    assert now == moved(PLAIN, 0, 0.1, target)


def test_reversed_twice_is_unchanged():
    """The last expert takes what the first one had."""
    now = reversed_experts(PLAIN, 0)

    assert (
        counts_of(PLAIN)[:, 0, 0].tolist() == counts_of(now)[:, 0, 7].tolist()
    )
    assert PLAIN == reversed_experts(now, 0)


def test_requests_show_what_shares_do_not():
    """1 to 2 % are red request by request; by shares it takes much more, if it ever is."""
    by_request = smallest_red(PLAIN, 0, is_red_by_request, 0)
    by_shares = smallest_red(PLAIN, 0, is_red_by_shares, 0)

    assert 0.01 < by_request < 0.02
    assert by_shares > 0.05


def test_table_has_a_line_for_each_layer():
    """With both rules side by side."""
    *_, line = table(PLAIN)

    assert line.startswith("| 0 |")
    assert line.endswith("| green | red |")
