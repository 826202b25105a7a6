"""Coarse policies: what a wide threshold lets pass, and what it still finds."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from pathlib import Path

import pytest

from perfgate.cases import Case, Load
from perfgate.judge.baseline_schema import read_recorded
from perfgate.judge.gate import judge
from perfgate.judge.policy import START_UP
from perfgate.judge.verdict import Outcome
from perfgate.load.metrics import METRICS, family_of
from perfgate.results.samples import values_of
from tests.support import builders as m

BASELINES = Path(__file__).resolve().parents[3] / "baselines"
COARSE = ("throughput", "itl", "tpot", "e2el", "ttft")
FACTORS = (1.0, 1.1, 0.93, 1.04, 0.9, 1.07)


def cpu_case(metric):
    """A metric of one load on a CPU."""
    load = Load(server=m.MOE_CPU, workload=m.CLOSED)
    return Case(experiment="E1", metric=metric, numerator=load)


def recorded_rows():
    """Absolute values of every recorded CPU: id, metric, and values by run."""
    for path in sorted(BASELINES.glob("cpu-*/*/*.json")):
        if "--over--" in f"{path.parent.name}/{path.stem}":
            continue
        for name, metric in read_recorded(path).metrics.items():
            if family_of(name) not in COARSE:
                continue
            runs = defaultdict(list)
            for sample in metric.launches:
                runs[sample.run].append(sample)
            if len(runs) > 1:
                row_id = f"{path.parent.parent.name}/{path.stem}/{name}"
                yield row_id, name, [values_of(row) for row in runs.values()]


def test_no_recorded_launch_of_a_cpu_fails():
    """Each run is left out once and judged by the others: none is worse than half."""
    judged = []
    for row_id, name, runs in recorded_rows():
        case = cpu_case(name)
        for number, values in enumerate(runs):
            rest = runs[:number] + runs[number + 1 :]
            others = list(itertools.chain.from_iterable(rest))
            decision = judge(
                case,
                m.seen(case, *values),
                m.recorded(case, others, delta=None),
            )
            judged.append(decision.outcome)
            assert decision.outcome is Outcome.PASSED, (row_id, decision)
    assert 500 < len(judged)


@pytest.mark.parametrize("metric", ["output_throughput", "itl_median_ms"])
@pytest.mark.parametrize(
    ("slower", "outcome"),
    [
        (1.5, Outcome.PASSED),
        (2.2, Outcome.REGRESSED),
        (10.0, Outcome.REGRESSED),
    ],
)
def test_half_the_rate_fails_on_a_cpu(metric, slower, outcome):
    """Less than half of the recorded rate, or more than twice the time, fails the run."""
    case = cpu_case(metric)
    factor = slower
    if METRICS[metric].better == "higher":
        factor = 1 / slower
    values = [100.0 * change for change in FACTORS]
    center = math.exp(math.fsum(map(math.log, values)) / len(values))

    decision = judge(
        case,
        m.seen(case, *[center * factor] * 3),
        m.recorded(case, values, delta=None),
    )

    assert (outcome, "hard") == (decision.outcome, decision.gate)


@pytest.mark.parametrize("metric", ["output_throughput", "ttft_mean_ms"])
def test_ten_times_slower_fails_beside_one_recorded_launch(metric):
    """However little is recorded on a CPU, a tenth of the speed is no noise."""
    case = cpu_case(metric)
    value = 1000.0
    if METRICS[metric].better == "higher":
        value = 10.0

    decision = judge(
        case, m.seen(case, value), m.recorded(case, [100.0], delta=None)
    )

    assert (Outcome.REGRESSED, "hard") == (decision.outcome, decision.gate)


@pytest.mark.parametrize(
    ("ready_s", "outcome"),
    [(112.0, Outcome.PASSED), (200.0, Outcome.REGRESSED)],
)
def test_a_slow_start_fails_and_a_cold_one_passes(ready_s, outcome):
    """Five times as long is a loss, although a first start took three times as long."""
    case = Case(
        experiment="E12", metric="ready_s", numerator=Load(server=m.MOE)
    )
    recorded = m.recorded(
        case, [40.0, 38.0, 42.0], delta=None, floor=START_UP.floor
    )

    decision = judge(case, m.seen(case, *[ready_s] * 3), recorded)

    assert (outcome, "hard") == (decision.outcome, decision.gate)
