"""Slow repetitions and trends: what the median of a launch hides is a regression."""

import pytest

from perfgate.judge import repetition_trend
from perfgate.judge.observation import RunReader
from tests.support import builders as m

SLOW_LAST = (100.0, 100.0, 33.0)
STEADY = (100.0, 99.0, 101.0)


def reader(*loads, kind="h200", **shape):
    """A run with these throughputs of the repetitions of each load of one server."""
    workloads = {}
    measurements = []
    for number, throughputs in enumerate(loads):
        fields = {"max_concurrency": 8, **shape}
        workload = m.Workload(name=f"load-{number}", num_prompts=8, **fields)
        workloads[workload.name] = workload
        rows = []
        for index, value in enumerate(throughputs):
            values = {"output_throughput": value, "e2el_mean_ms": 1e4 / value}
            rows.append(m.repetition(index, values))
        row = m.measurement(0, *rows, server=m.MOE, workload=workload)
        measurements.append(row)
    run = m.bare_run(
        hardware=m.hardware(kind),
        workloads=workloads,
        measurements=tuple(measurements),
    )
    return RunReader(run)


def slow(*loads, **how):
    """Verdicts on slow repetitions."""
    return list(repetition_trend.check_slow(reader(*loads, **how), (), None))


def trend(*loads, **how):
    """Verdicts on trends."""
    return list(repetition_trend.check_trend(reader(*loads, **how), (), None))


def test_a_slow_last_repetition_on_each_load_is_a_regression_of_the_server():
    """The median of three hides it on each."""
    (row,) = slow(SLOW_LAST, SLOW_LAST)

    assert ("server", m.MOE.key, "hard") == (row.scope, row.subject, row.gate)
    assert 3.03 == pytest.approx(row.value, abs=0.01)


def test_repetitions_that_all_scatter_have_no_slow_one():
    """Two of seven took 1.5 times the median on an uneven host; among steady ones they count."""
    uneven = (100.0, 130.0, 80.0, 110.0, 66.0, 92.0, 120.0)
    steady = (100.0, 101.0, 99.0, 100.0, 66.0, 100.0, 101.0)

    assert [] == slow(uneven)
    (row,) = slow(steady)
    assert "hard" == row.gate


def test_a_third_more_on_one_load_of_ten_is_a_regression():
    """The verdict names the load."""
    (row,) = slow(*[STEADY] * 9, (100.0, 76.0, 100.0))

    assert f"{m.MOE.key}, load-9" == row.subject
    assert "hard" == row.gate


@pytest.mark.parametrize(
    ("throughputs", "how"),
    [
        ((100.0, 91.0, 100.0), {}),
        ((100.0, 73.0, 100.0), {"max_concurrency": None}),
        ((100.0, 70.0, 100.0), {"kind": "cpu"}),
        ((100.0, 33.0), {}),
    ],
    ids=["usual", "burst", "cpu", "two"],
)
def test_what_unchanged_servers_do_is_no_slow_repetition(throughputs, how):
    """As recorded: 1.09 times under a closed loop, 1.36 times in a burst."""
    assert [] == slow(throughputs, **how)


@pytest.mark.parametrize(
    ("throughput", "how", "gate"),
    [
        (33.0, {"kind": "cpu"}, "hard"),
        (55.0, {"kind": "cpu"}, "report"),
        (55.0, {"request_rate": 2.0, "max_concurrency": None}, "report"),
        (33.0, {"request_rate": 2.0, "max_concurrency": None}, "hard"),
    ],
)
def test_where_little_is_recorded_only_a_large_loss_is_hard(
    throughput, how, gate
):
    """On a CPU, and for an open loop."""
    (row,) = slow((100.0, 100.0, throughput), **how)

    assert gate == row.gate


def test_a_server_that_slows_down_on_most_loads_has_a_trend():
    """By 10 % each, which no repetition shows alone."""
    (row,) = trend(*[(100.0, 97.0, 90.0)] * 5)

    assert ("repetition trend", "hard") == (row.check, row.gate)
    assert row.false_alarm_rate < repetition_trend.TREND_ALPHA


def test_a_trend_on_a_cpu_is_reported():
    """It fails the run only where it is several times slower."""
    (row,) = trend(*[(100.0, 80.0, 60.0)] * 5, kind="cpu")

    assert "report" == row.gate


@pytest.mark.parametrize(
    "loads",
    [
        [(100.0, 99.0, 98.0)] * 5,
        [(100.0, 97.0, 90.0)] * 2,
        [(100.0, 97.0, 90.0), STEADY, STEADY, STEADY],
    ],
    ids=["small", "few", "one"],
)
def test_no_trend(loads):
    """A small one, on too few loads, or on one of them."""
    assert [] == trend(*loads)


def test_a_base_build_and_an_unknown_workload_are_left_out():
    """What is not judged has no course."""
    run = reader(SLOW_LAST).results
    base = m.msgspec.structs.replace(m.MOE, build="base")
    server = m.Server(config=base, python="python", versions={})
    replace = m.msgspec.structs.replace
    with_base = replace(run, servers={m.MOE.key: server})
    without_workload = replace(run, workloads={})

    for changed in (with_base, without_workload):
        assert [] == list(repetition_trend.courses(RunReader(changed)))


@pytest.mark.parametrize("arrivals", ["open", "closed"])
def test_a_repetition_without_its_metric_has_no_cost(arrivals):
    """Nothing is made up."""
    assert repetition_trend.cost_of({}, arrivals) is None


@pytest.mark.parametrize(("loads", "chance"), [(5, 1 / 243), (6, 1 / 729)])
def test_the_chance_of_a_trend_is_that_of_the_order(loads, chance):
    """The last of three repetitions is the slowest of each load, were their order random."""
    (row,) = trend(*[(100.0, 97.0, 90.0)] * loads)

    assert chance == pytest.approx(row.false_alarm_rate)
