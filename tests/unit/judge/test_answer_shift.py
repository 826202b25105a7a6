"""Answer shift: rounding vs another model, a sampler that misses the likeliest, missing answers."""

import math

import msgspec
import pytest

from perfgate.judge import answer_shift
from perfgate.judge.answer_shift import compare, distance
from perfgate.judge.verdict import Outcome
from perfgate.results.answer import Answer
from perfgate.results.samples import Sample

OTHERS = {"b": -1.1, "c": -2.0, "d": -3.0}


def answer(tokens="aaaa", logprob=-1.0, others=None):
    """Four places that are alike."""
    return Answer(
        tokens=tuple(tokens),
        logprobs=(logprob,) * len(tokens),
        others=(others or OTHERS,) * len(tokens),
    )


def launch(*changed, count=16):
    """Sixteen answers, of which the first ones are these."""
    return (*changed, *[answer()] * (count - len(changed)))


def test_the_same_answers_pass():
    """No token and no log-probability moved."""
    shift = compare([launch()], [launch()])

    assert (Outcome.PASSED, 16, 0.0) == (shift.outcome, shift.same, shift.nats)
    assert "all 16 answers are those of the baseline" in shift.summary


def test_a_token_that_is_as_likely_is_no_other_answer():
    """At a near tie another rounding decides: all later tokens follow from it."""
    turned = answer("abcd", others={"a": -1.05, "c": -2.0, "d": -3.0})

    shift = compare([launch(*[turned] * 16)], [launch()])

    assert Outcome.PASSED == shift.outcome
    assert 0 == shift.same
    assert math.isclose(0.1, shift.nats)
    assert "16 of 16 answers have other tokens" in shift.summary


def test_a_token_that_was_unlikely_is_another_answer():
    """The recorded model preferred its own by 2 nats."""
    shift = compare([launch(answer("d"), answer("d"))], [launch()])

    assert Outcome.REGRESSED == shift.outcome
    assert (2, 2 / 16) == (shift.beyond, shift.share)
    assert "the model answers otherwise: 2 of 16" in shift.summary
    assert shift.advice


def test_one_answer_may_be_further_away():
    """One of sixteen is no other model."""
    assert Outcome.PASSED == compare([launch(answer("d"))], [launch()]).outcome


def test_the_same_tokens_with_other_probabilities_are_other_answers():
    """Weights that changed a little keep the likeliest token, and not its probability."""
    shift = compare([launch(*[answer(logprob=-1.9)] * 2)], [launch()])

    assert Outcome.REGRESSED == shift.outcome


def test_a_sampler_that_takes_the_second_is_seen_without_a_baseline_of_its_own():
    """Its own log-probabilities say that another token was likelier."""
    second = answer("b", -1.8, {"a": -1.0, "c": -2.0, "d": -3.0})

    assert math.isclose(0.8, distance(second, second))
    assert (
        Outcome.REGRESSED
        == compare([launch(*[second] * 2)], [launch()]).outcome
    )


@pytest.mark.parametrize("tokens", ["", "a", "aaaaaaaa"])
def test_an_answer_of_another_length_is_another_answer(tokens):
    """A server that stops after the first token is 0 nats away from the recorded one."""
    cut = launch(*[answer(tokens)] * 2)

    shift = compare([cut], [launch()])

    assert (Outcome.REGRESSED, 2, 2) == (
        shift.outcome,
        shift.beyond,
        shift.other_length,
    )
    assert "2 of them have another length" in shift.summary
    one = launch(answer(tokens))
    assert Outcome.PASSED == compare([one], [launch()]).outcome


def test_the_worst_launch_decides():
    """One of two launches answers otherwise."""
    other = launch(*[answer("d")] * 16)

    shift = compare([launch(), other], [launch()])

    assert (Outcome.REGRESSED, 16) == (shift.outcome, shift.beyond)


def test_recorded_launches_that_differ_widen_the_threshold():
    """Where the answers do not repeat, no more is asked of them."""
    away = launch(*[answer(logprob=-1.6)] * 16)
    further = launch(*[answer(logprob=-2.2)] * 16)

    assert Outcome.REGRESSED == compare([further], [launch()]).outcome
    assert Outcome.PASSED == compare([further], [launch(), away]).outcome


def test_made_up_weights_have_a_smaller_threshold():
    """They hold all tokens for nearly as likely: another model is 0.2 nats away."""
    flat = {"b": -1.02, "c": -1.1, "d": -1.2}
    made_up = [answer(others=flat)] * 16
    other = [answer("d", others={"e": -1.01, "f": -1.1, "g": -1.2})] * 16

    shift = compare([tuple(other)], [tuple(made_up)])

    assert math.isclose(0.05, shift.threshold)
    assert (Outcome.REGRESSED, 16) == (shift.outcome, shift.beyond)


def test_rounding_is_no_other_answer_where_all_tokens_are_as_likely():
    """Weights that an engine makes up: the gap is nothing, the threshold is not."""
    flat = {"b": -1.0, "c": -1.0, "d": -1.0}
    even = launch(*[answer(others=flat)] * 16)
    rounded = launch(*[answer(logprob=-1.0001, others=flat)] * 16)

    shift = compare([rounded], [even])

    assert (Outcome.PASSED, 0.02) == (shift.outcome, shift.threshold)


@pytest.mark.parametrize(
    ("current", "recorded"), [([], 16), ([16], 0), ([16], 8)]
)
def test_answers_to_other_prompts_are_not_compared(current, recorded):
    """None on a side, or another number of them."""
    references = [launch(count=recorded)] if recorded else []

    assert (
        compare([launch(count=count) for count in current], references) is None
    )


def test_answers_without_runners_up_are_compared_by_their_own_tokens():
    """A server may list no other token."""
    bare = msgspec.structs.replace(answer(), others=({},) * 4)

    shift = compare([(bare, bare)], [(bare, bare)])

    assert (Outcome.PASSED, answer_shift.MOST_NATS) == (
        shift.outcome,
        shift.threshold,
    )


def test_a_launch_without_answers_is_left_out():
    """As another number of answers it would end the comparison of the others."""
    samples = [
        Sample(run="run-00", launch=0, value=0.0, answers=launch()),
        Sample(run="run-00", launch=1, value=0.0),
    ]

    assert [launch()] == answer_shift.of_samples(samples)


def test_the_share_that_may_be_is_that_of_one_answer():
    """A launch with two of sixteen is above it."""
    shift = compare([launch(answer("d"), answer("d"))], [launch()])

    assert (1 / 16, 2 / 16) == (shift.allowed, shift.share)
