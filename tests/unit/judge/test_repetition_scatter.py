"""Repetitions that scatter widen the threshold of their launch; steady ones do not."""

import dataclasses
import math
import statistics

import msgspec
import numpy as np
import pytest
from scipy import stats

from perfgate.judge.gate import judge
from perfgate.judge.observation import RunReader
from perfgate.judge.repetition_scatter import (
    FEWEST,
    launch_variance,
    variance_of_median,
)
from perfgate.judge.verdict import Outcome
from tests.support import builders as m

REPETITIONS = 9
LAUNCHES = 3
TRIALS = 200
SLOW = 92.0  # tok/s, where 100 were recorded
SCATTER = 0.1
STEADY = 0.005


def measured(throughputs, launch=0, server=m.MOE):
    """A launch whose repetitions have these throughputs."""
    rows = []
    for number, value in enumerate(throughputs):
        rows.append(m.repetition(number, float(value)))
    return m.measurement(launch, *rows, server=server, workload=m.CLOSED)


def observed(*launches):
    """An observation of launches whose repetitions have these throughputs."""
    values = {m.MOE_LOAD: {"output_throughput": [1.0] * len(launches)}}
    results = m.run(values, [m.THROUGHPUT])
    measurements = []
    for index, throughputs in enumerate(launches):
        measurements.append(measured(throughputs, index))
    results = msgspec.structs.replace(results, measurements=tuple(measurements))
    return RunReader(results).observe(m.THROUGHPUT)


def decided(*launches):
    """The decision against six quiet launches of 100 tok/s."""
    observation = observed(*launches)
    recorded = m.recorded(m.THROUGHPUT, [100.0 * factor for factor in m.QUIET])
    recorded = dataclasses.replace(
        recorded, identity=observation.identity, context=observation.context
    )
    return judge(m.THROUGHPUT, observation, recorded)


def drawn(generator, cv, center=100.0, launches=LAUNCHES):
    """Repetitions of launches around one value that vary so much."""
    return center * np.exp(generator.normal(0.0, cv, (launches, REPETITIONS)))


def share(outcome, cv, center):
    """Which share of such runs has this outcome."""
    generator = np.random.default_rng(7)
    outcomes = []
    for _ in range(TRIALS):
        outcomes.append(decided(*drawn(generator, cv, center)).outcome)
    return outcomes.count(outcome) / TRIALS


def test_an_unchanged_server_on_an_uneven_host_is_not_red():
    """By the recorded noise alone a sixth of them would be, and a quarter IMPROVED."""
    assert share(Outcome.REGRESSED, SCATTER, 100.0) <= 0.01
    assert share(Outcome.IMPROVED, SCATTER, 100.0) <= 0.01


def test_a_loss_of_8_percent_is_red_where_repetitions_are_steady():
    """Also where they vary by 3 %, of which the recorded noise knows nothing."""
    assert 1.0 == share(Outcome.REGRESSED, STEADY, SLOW)
    assert share(Outcome.REGRESSED, 0.03, SLOW) >= 0.95


def test_a_loss_that_the_scatter_may_hide_does_not_pass():
    """Its largest possible size is above the ceiling, but for one run in twenty."""
    assert share(Outcome.PASSED, SCATTER, SLOW) <= 0.05


def test_the_verdict_says_how_uncertain_a_launch_is():
    """Beside how much recorded launches vary."""
    generator = np.random.default_rng(3)
    decision = decided(*drawn(generator, SCATTER))
    assert any("is uncertain by" in line for line in decision.details)


def test_a_loss_beyond_the_scatter_is_red():
    """Half of the throughput is lost."""
    generator = np.random.default_rng(3)
    assert (
        Outcome.REGRESSED is decided(*drawn(generator, SCATTER, 50.0)).outcome
    )


def test_steady_repetitions_change_no_threshold():
    """As if there were none."""
    generator = np.random.default_rng(5)
    launches = drawn(generator, 0.001)
    medians = [[statistics.median(row)] for row in launches]

    assert decided(*medians).threshold == decided(*launches).threshold


@pytest.mark.parametrize("count", [1, 3, 5, 9, 15])
def test_the_variance_of_a_median(count):
    """As drawn, within 3 %."""
    generator = np.random.default_rng(1)
    medians = np.median(generator.normal(size=(200_000, count)), axis=1)
    assert medians.var() == pytest.approx(variance_of_median(count), rel=0.03)


def test_the_bound_lies_below_the_true_variance():
    """In about 95 % of launches, as it says."""
    generator = np.random.default_rng(2)
    true = SCATTER**2 * variance_of_median(REPETITIONS)
    below = 0
    for _ in range(1000):
        below += launch_variance(drawn(generator, SCATTER)) <= true
    assert 0.9 <= below / 1000 <= 0.99


def test_one_slow_repetition_counts_for_nothing():
    """The median does not follow it; a slow repetition has a check of its own."""
    launch = [100.0] * (REPETITIONS - 1) + [20.0]
    assert 0.0 == launch_variance([launch])


def test_few_repetitions_say_nothing():
    """Nor do values of nothing, which have no logarithm."""
    uneven = [60.0, 80.0, 100.0, 120.0, 140.0]
    assert launch_variance([uneven]) > 0.0
    assert 0.0 == launch_variance([uneven[: FEWEST - 1]])
    assert 0.0 == launch_variance([[0.0] * REPETITIONS])
    assert 0.0 == launch_variance([])


def test_a_ratio_is_as_uncertain_as_both_of_its_loads():
    """Their variances add up."""
    values = {
        m.DENSE_LOAD: {"output_throughput": [9000.0]},
        m.MOE_LOAD: {"output_throughput": [3000.0]},
    }
    results = m.run(values, [m.RATIO])
    generator = np.random.default_rng(4)
    measurements = []
    each = []
    for server in (m.DENSE, m.MOE):
        throughputs = drawn(generator, SCATTER, launches=1)[0]
        each.append(launch_variance([throughputs]))
        measurements.append(measured(throughputs, server=server))
    results = msgspec.structs.replace(results, measurements=tuple(measurements))

    seen = RunReader(results).observe(m.RATIO)
    assert math.fsum(each) == pytest.approx(seen.repetition_variance)


def test_launches_bound_the_variance_together():
    """By chi-square with 2 x 1.48 degrees of freedom, of a deviation of 1.4826 x 0.1."""
    launch = [math.exp(0.1 * step) for step in (-2, -1, 0, 1, 2)]
    freedom = 2 * 0.37 * 4
    bound = 0.14826**2 * freedom / stats.chi2.ppf(0.95, freedom)

    found = launch_variance([launch, launch])

    assert bound * variance_of_median(5) == pytest.approx(found)


def test_the_variance_has_no_unit():
    """Seconds scatter as milliseconds do, though they are below one."""
    launch = [110.0, 95.0, 100.0, 105.0, 90.0]
    seconds = [value / 1000 for value in launch]

    assert launch_variance([launch]) == pytest.approx(
        launch_variance([seconds])
    )
