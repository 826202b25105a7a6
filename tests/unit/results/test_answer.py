"""Answer: whole ones vs damaged ones, and the perplexity of several."""

import math

import pytest

from perfgate.results.answer import Answer, perplexity

WHOLE = Answer(
    tokens=("1", "2"), logprobs=(-1.0, -3.0), others=({"5": -2.0}, {})
)


def test_an_answer_with_a_place_for_everything_is_whole():
    """As many tokens as log-probabilities and lists of others."""
    assert WHOLE.is_whole


@pytest.mark.parametrize(
    "answer",
    [
        Answer(tokens=("1",), logprobs=(), others=({},)),
        Answer(tokens=("1",), logprobs=(-1.0,), others=()),
        Answer(tokens=("1",), logprobs=(math.nan,), others=({},)),
        Answer(tokens=("1",), logprobs=(-1.0,), others=({"2": -math.inf},)),
    ],
)
def test_a_damaged_answer_is_not_whole(answer):
    """A length or a number is wrong."""
    assert not answer.is_whole


def test_perplexity_is_that_of_the_tokens():
    """E to the mean of -log p; none without a token."""
    assert math.isclose(math.exp(2.0), perplexity([WHOLE]))
    assert perplexity([]) is None


def test_perplexity_of_impossible_tokens_is_a_number():
    """A build whose logits are wrong is judged, not a traceback."""
    broken = Answer(tokens=("1",), logprobs=(-9999.0,), others=({},))

    assert 1e300 < perplexity([broken]) < math.inf
