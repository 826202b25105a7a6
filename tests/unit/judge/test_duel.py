"""Duels: base and candidate judged by launches that were asked in turns."""

import math

import msgspec
import numpy as np
import pytest

from perfgate.judge.duel import FEWEST_LAUNCHES, Duel, decide, too_few
from perfgate.judge.policy import policy_for
from perfgate.judge.verdict import Outcome
from perfgate.load.turns import LaunchTime
from perfgate.report.verdict_text import render
from tests.support import builders as m

POLICY = policy_for("cpu-avx2", "batch_cpu_ms", ratio=False)
CASE = msgspec.structs.replace(m.THROUGHPUT, metric="batch_cpu_ms")


def duel_of(loss, spread=0.0, error=0.002, launches=2, target=0.05):
    """A duel whose candidate loses this much, with launches this far apart on each side."""
    offsets = np.linspace(-spread, spread, launches)

    def side(factor):
        return [
            LaunchTime(30.0 * factor * math.exp(offset), error)
            for offset in offsets
        ]

    return Duel(side(1.0), side(1 + loss), POLICY, target)


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (0.0, Outcome.PASSED),
        (0.02, Outcome.PASSED),
        (0.05, Outcome.REGRESSED),
        (-0.06, Outcome.IMPROVED),
    ],
)
def test_line(loss, expected):
    """With a target effect of 5 % the threshold is 3.2 %: 5 % fails, 2 % does not."""
    assert expected == duel_of(loss).outcome()


def side_of(values_ms, group):
    """Launches of a build that were alive at once."""
    return [LaunchTime(value_ms, 0.002, group) for value_ms in values_ms]


def test_launches_are_compared_with_those_that_were_alive_at_once():
    """The machine was 9 % faster when the loss was launched once more, for both builds.

    The times are those of a loop of 5 % in a real engine.
    """
    base = side_of([30.85, 30.67], 1.0) + side_of([28.14, 28.20], 2.0)
    slower = side_of([32.57, 32.65], 1.0) + side_of([29.66, 29.72], 2.0)
    duel = Duel(base, slower, POLICY, 0.05)
    as_one = Duel(
        side_of([30.85, 30.67, 28.14, 28.20], 1.0),
        side_of([32.57, 32.65, 29.66, 29.72], 1.0),
        POLICY,
        0.05,
    )

    assert Outcome.REGRESSED == duel.outcome()
    assert Outcome.NOT_EXCLUDED == as_one.outcome()
    assert as_one.loss == pytest.approx(duel.loss)
    assert (4 + 4, 6 + 4) == (duel.freedom, as_one.freedom)
    assert duel.error < 0.01 < as_one.error


def test_a_machine_that_became_faster_hides_no_loss_and_makes_none():
    """One launch of the base died: the groups are no longer of one size."""
    base = side_of([30.0], 1.0) + side_of([27.0, 27.0], 2.0)
    same = side_of([30.0, 30.0], 1.0) + side_of([27.0, 27.0], 2.0)
    slower = side_of([31.8, 31.8], 1.0) + side_of([28.6, 28.6], 2.0)

    assert 0.0 == pytest.approx(Duel(base, same, POLICY, 0.05).loss)
    found = Duel(base, slower, POLICY, 0.05)
    assert math.log(1.06) == pytest.approx(found.loss, abs=0.001)
    assert Outcome.REGRESSED == found.outcome()


def test_a_group_with_one_build_says_nothing():
    """Where no group has both, all launches are compared with all."""
    base = side_of([30.0, 30.0], 1.0)
    candidate = side_of([30.0, 30.0], 1.0) + side_of([60.0], 2.0)
    apart = Duel(base, side_of([33.0, 33.0], 2.0), POLICY, 0.05)

    assert 0.0 == Duel(base, candidate, POLICY, 0.05).loss
    assert math.log(1.1) == pytest.approx(apart.loss)


@pytest.mark.parametrize(
    ("loss", "launches", "needed"),
    [(0.05, 2, 2), (0.05, 3, 1), (0.05, 4, 0), (0.0, 2, 0), (-0.06, 2, 0)],
)
def test_a_loss_is_launched_once_more(loss, launches, needed):
    """Two launches of a build were once slower than both of the same build."""
    duel = duel_of(loss, launches=launches)

    assert needed == decide(CASE, duel).needs_launches


def test_launches_that_contradict_each_other_decide_nothing():
    """A loss beyond the threshold that the launches' own scatter may explain is in doubt."""
    assert Outcome.INCONCLUSIVE == duel_of(0.036, spread=0.013).outcome()


def test_a_machine_that_is_too_noisy_is_no_doubt():
    """Where unchanged launches may differ by the target effect, nothing is excluded."""
    assert Outcome.NOT_EXCLUDED == duel_of(0.05, spread=0.05).outcome()
    assert Outcome.NOT_EXCLUDED == duel_of(0.04, error=0.03).outcome()


def test_launches_that_agree_by_chance_are_not_believed():
    """Two launches a side that agree exactly still err by what launches usually do."""
    assert duel_of(0.0, spread=0.0, error=0.0).error > 0.004


def test_few_cycles_widen_the_error():
    """On a busy machine the cycles say less than the launches, and their error counts."""
    assert duel_of(0.0, error=0.02).error == pytest.approx(0.02)


def test_a_loss_that_is_possible_is_not_excluded():
    """Where the error leaves the target effect possible the case has not passed."""
    assert Outcome.NOT_EXCLUDED == duel_of(0.0, error=0.04).outcome()


def test_the_verdict_says_what_would_have_been_seen():
    """Change, threshold, what is excluded, and the smallest loss that would be found."""
    decision = decide(CASE, duel_of(0.002))

    text = render(decision)
    assert "+0.20 % vs the base build 30 ms, threshold +3.2 %" in text
    assert "is excluded" in text
    assert "would have been found" in text
    assert decision.excluded is not None
    assert 0.002 < decision.excluded < 0.05
    assert 2 == decision.launches


def test_too_few_launches_are_invalid():
    """A build without enough launches that count proves nothing, and says why."""
    decision = too_few(CASE, ["base: launch 1: the engine died"])

    assert Outcome.INVALID == decision.outcome
    assert f"{FEWEST_LAUNCHES} launches of each build" in decision.summary
    assert "the engine died" in decision.summary


def test_false_alarms_and_power():
    """Of unchanged duels with the recorded scatter hardly any is red; of 5 % hardly any green."""
    rng = np.random.default_rng(5)

    def red_share(loss, count=4000):
        red = 0
        for _ in range(count):
            base, candidate = rng.normal(0, POLICY.assumed_cv, (2, 2))
            duel = Duel(
                [LaunchTime(30 * math.exp(x), 0.003) for x in base],
                [LaunchTime(30 * math.exp(x + loss), 0.003) for x in candidate],
                POLICY,
                0.05,
            )
            red += duel.outcome() is Outcome.REGRESSED
        return red / count

    assert red_share(0.0) < 0.002
    assert red_share(math.log(1.05)) > 0.95


def test_the_verdict_has_the_numbers_that_decided():
    """The geometric mean of each build, and what the candidate lost."""
    decision = decide(CASE, duel_of(0.1, spread=0.01))

    assert (30.0, 33.0, 0.1, 0.1) == pytest.approx(
        (decision.baseline, decision.value, decision.change, decision.worse_by),
        rel=1e-4,
    )
