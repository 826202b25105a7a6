"""Drawn lengths: they follow the stated distribution, and every repetition has the same mix."""

import itertools

import numpy as np
import pytest

from perfgate.load.lengths import Drawn, draw_lengths, draw_mixed, mean_of
from perfgate.load.prompt_text import UnusableWorkload

QUANTILES = (4, 8, 40, 200, 1000)


def test_lengths_follow_the_quantiles():
    """A quarter lies between two neighbours of five, and none outside of them."""
    lengths = draw_lengths(QUANTILES, 4000, np.random.default_rng(1))

    assert 4 <= min(lengths)
    assert 1000 >= max(lengths)
    for low, high in itertools.pairwise(QUANTILES):
        within = [length for length in lengths if low < length <= high]
        assert 1000 == pytest.approx(len(within), rel=0.15)


def test_every_repetition_has_the_same_mix():
    """Means of few lengths vary far less than those of independent draws."""
    means = []
    for seed in range(50):
        rng = np.random.default_rng(seed)
        means.append(np.mean(draw_lengths(QUANTILES, 32, rng)))
    independent = np.std(draw_lengths(QUANTILES, 1000, rng)) / np.sqrt(32)

    assert np.std(means) < 0.2 * independent
    assert mean_of(QUANTILES) == pytest.approx(np.mean(means), rel=0.02)


def test_order_is_random():
    """A closed loop must not get the short ones first."""
    lengths = draw_lengths(QUANTILES, 100, np.random.default_rng(2))

    assert abs(np.corrcoef(range(100), lengths)[0, 1]) < 0.3


def test_prompts_have_ids_of_the_vocabulary():
    """Special tokens are left alone."""
    spec = Drawn(input_quantiles=(8, 64), output_quantiles=(4, 16))
    prompts = draw_mixed(spec, 20, 50, np.random.default_rng(3))

    for ids, output in prompts:
        assert 8 <= len(ids) <= 64
        assert 4 <= output <= 16
        assert 3 <= min(ids)
        assert 50 > max(ids)
    assert (36, 10, 80) == (
        spec.input_len_tokens,
        spec.output_len_tokens,
        spec.longest_tokens,
    )


def test_a_vocabulary_of_special_tokens_is_refused():
    """There is nothing to draw."""
    spec = Drawn(input_quantiles=(8, 64), output_quantiles=(4, 16))

    with pytest.raises(UnusableWorkload, match="vocabulary of 3"):
        draw_mixed(spec, 1, 3, np.random.default_rng(4))


@pytest.mark.parametrize("quantiles", [(8,), (0, 8), (8, 4)])
def test_what_is_no_distribution_is_refused(quantiles):
    """One length, an empty prompt, or quantiles that fall."""
    with pytest.raises(ValueError, match="input_quantiles"):
        Drawn(input_quantiles=quantiles, output_quantiles=(4, 16))
