"""Conversations: every turn begins with the one before, and none is drawn twice."""

import numpy as np
import pytest

from perfgate.load.conversations import Conversations
from perfgate.load.prompts import UnusableWorkload
from perfgate.load.workload import Workload, build_requests

TURNS = Conversations(
    turns=3, first_len_tokens=8, turn_len_tokens=4, output_len_tokens=2
)
CHAT = Workload(name="chat", prompts=TURNS, num_prompts=12, max_concurrency=2)


def test_each_turn_begins_with_all_before_it():
    """Four conversations: the first turn of each, then the second, then the third."""
    prompts = TURNS.draw(12, 1000, np.random.default_rng(0))

    for place in range(4):
        first, second, third = (
            prompts[place + 4 * turn][0] for turn in range(3)
        )
        assert (8, 12, 16) == (len(first), len(second), len(third))
        assert first == second[:8]
        assert second == third[:12]


def test_other_conversations_share_nothing():
    """Nor do those of another repetition."""
    starts = {
        request.prompt_token_ids[:8]
        for repetition in (0, 1)
        for request in build_requests(CHAT, repetition, 1000)
    }

    assert 8 == len(starts)


def test_a_cut_conversation_has_its_first_turns():
    """A warm-up pass sends fewer prompts than a whole number of conversations."""
    prompts = TURNS.draw(4, 1000, np.random.default_rng(0))

    assert [8, 8, 12, 12] == [len(ids) for ids, _ in prompts]


def test_such_a_load_shares_prefixes():
    """A hit of the cache makes it no invalid measurement."""
    assert CHAT.shares_prefixes


@pytest.mark.parametrize(
    "changes", [{"turns": 1}, {"first_len_tokens": 0}, {"turn_len_tokens": 0}]
)
def test_impossible_conversations_are_refused(changes):
    """One turn is no conversation, and no length is nothing."""
    fields = {
        "turns": 2,
        "first_len_tokens": 8,
        "turn_len_tokens": 4,
        "output_len_tokens": 2,
    }

    with pytest.raises(ValueError, match="two turns"):
        Conversations(**(fields | changes))


def test_a_vocabulary_of_special_tokens_is_refused():
    """There is nothing to draw."""
    with pytest.raises(UnusableWorkload, match="vocabulary"):
        TURNS.draw(1, 3, np.random.default_rng(0))
