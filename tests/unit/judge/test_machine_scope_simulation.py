"""Simulation of shared baselines: the gate narrows them to a machine, at the stated rates."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks.fleet_simulation import (
    FLEETS,
    Fleet,
    drawn,
    main,
    red_rate,
    result,
    subject_in,
)
from benchmarks.gate_simulation import subject_of
from benchmarks.gate_trials import decide_by_gate
from perfgate.judge.noise import log_loss
from perfgate.judge.noise_table import GroupNoise, Spread
from perfgate.judge.verdict import Outcome

BASELINES = Path(__file__).resolve().parents[3] / "baselines"
H200 = GroupNoise(
    launches=Spread(cv=0.003, degrees_of_freedom=12.0),
    machines=Spread(cv=0.012, degrees_of_freedom=14.0),
    series=6,
)
SUBJECT = dataclasses.replace(subject_of("output_throughput"), group=H200)


@pytest.mark.parametrize(("others", "own"), FLEETS)
@pytest.mark.parametrize("loss", [0.0, 0.03])
def test_fleets_are_judged_by_the_gate(others, own, loss):
    """On random fleets the simulation fails exactly where the whole gate does."""
    rng = np.random.default_rng(8)
    for _ in range(15):
        fleet = drawn(rng, H200, others, own)
        launches, machines = fleet.recorded(SUBJECT)
        baseline = SUBJECT.baseline(launches, machines)
        current = []
        for launch, value in enumerate(fleet.current + loss):
            current.append(SUBJECT.sample("now", launch, float(value)))
        expected = decide_by_gate(SUBJECT, baseline, current)
        assert expected == result(SUBJECT, fleet, loss)


def test_a_fast_neighbour_is_no_reason_to_fail():
    """A run as fast as its own machine passes, beside machines that are 8 % faster.

    All launches alike it would be a loss.
    """
    fleet = Fleet(
        others=np.full((3, 6), -0.08), own=np.zeros(1), current=np.zeros(3)
    )

    assert Outcome.PASSED is result(SUBJECT, fleet, 0.0).outcome
    alike = result(SUBJECT, fleet, 0.0, by_machine=False)
    assert Outcome.REGRESSED is alike.outcome


@pytest.mark.parametrize("others", [1, 3, 10])
def test_a_new_machine_hardly_ever_fails_for_being_one(others):
    """At most 0.1 % of unchanged runs fail: of 600 at most 0.6, and three errors more."""
    red = red_rate(SUBJECT, others, 0, 0.0, 600)

    assert red <= (0.6 + 3 * math.sqrt(0.6)) / 600


def test_few_losses_pass_where_launches_vary_as_much_as_machines():
    """Of losses of 5.3 % at most 5 %, and two errors more: the noise of this run's launches counts.

    Without it 7.8 % passed, and 0.3 % of unchanged runs failed.
    """
    alike = GroupNoise(
        launches=Spread(cv=0.0104, degrees_of_freedom=18.0),
        machines=Spread(cv=0.0106, degrees_of_freedom=15.0),
        series=7,
    )
    subject = dataclasses.replace(SUBJECT, group=alike)
    rng = np.random.default_rng(7)
    trials, passed = 2000, 0
    for _ in range(trials):
        fleet = drawn(rng, alike, 3, 0)
        outcome = result(subject, fleet, log_loss(0.053, True)).outcome
        passed += outcome in (Outcome.PASSED, Outcome.IMPROVED)

    assert passed < (0.05 + 2 * math.sqrt(0.05 / trials)) * trials


def test_machines_counted_alike_fail():
    """All launches alike, more than 2 % of unchanged runs fail on a new machine."""
    assert red_rate(SUBJECT, 1, 0, 0.0, 300, by_machine=False) > 0.02


def test_own_launches_find_what_others_do_not():
    """One launch of its own finds 3 %, three find 2 %; three other machines find neither."""
    assert red_rate(SUBJECT, 3, 0, 0.03, 150) < 0.2
    assert red_rate(SUBJECT, 3, 1, 0.03, 150) > 0.9
    assert red_rate(SUBJECT, 3, 3, 0.02, 150) > 0.9


def test_table():
    """A row for each fleet, below the noise of the metric."""
    words = ["--trials", "5", "--baselines", str(BASELINES)]
    done = CliRunner().invoke(main, words)

    assert 0 == done.exit_code, done.output
    assert 4 + len(FLEETS) == len(done.output.splitlines())
    assert "| 3 | 6 | " in done.output


def test_a_metric_without_noise_is_named(tmp_path):
    """Where the store does not know the metric, it is said how to learn it."""
    with pytest.raises(Exception, match="knows nothing of itl_median_ms"):
        subject_in(tmp_path, "itl_median_ms")
