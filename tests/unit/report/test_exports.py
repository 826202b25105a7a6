"""Export: what pytest-benchmark reads of a run."""

import json
import subprocess
import sys

import msgspec
import pytest

from perfgate.cases import Load
from perfgate.load.metrics import METRICS
from perfgate.report import exports
from tests.support import builders as m
from tests.support.judged_runs import judged


def compared(folder, *options):
    """pytest-benchmark's own compare of a.json and b.json."""
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "pytest_benchmark",
        "compare",
    ]
    return subprocess.run(
        [*command, "a.json", "b.json", *options],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def of(results, metric):
    """The first benchmark of a metric, of a file as pytest-benchmark has it."""
    for row in json.loads(exports.pytest_benchmark(results))["benchmarks"]:
        if row["group"] == metric:
            return row
    raise AssertionError(f"no benchmark of {metric}")


def test_pytest_benchmark_reads_our_data(tmp_path):
    """Its own compare and histogram work on two of our runs."""
    for name in ("a", "b"):
        (tmp_path / f"{name}.json").write_text(
            exports.pytest_benchmark(judged("PASSED", "PASSED"))
        )
    done = compared(tmp_path, "--histogram=hist")

    assert 0 == done.returncode, done.stderr
    assert "vllm-mixtral-8x7b-tp2/batch-1/output_throughput" in done.stdout
    assert list(tmp_path.glob("hist*.svg"))


def test_a_rate_is_seconds_per_token():
    """Its value as it was measured and its direction stand beside it."""
    row = of(judged("PASSED"), "output_throughput")

    assert pytest.approx(0.001) == row["stats"]["median"]
    told = row["extra_info"]
    assert ("s per token", "tok/s", "higher", False) == tuple(
        told[name] for name in ("unit", "launches_unit", "better", "either_way")
    )
    assert pytest.approx(1000.0) == told["value"]


@pytest.mark.parametrize("name", METRICS)
def test_more_is_worse_of_every_metric(name):
    """Whatever the metric, a loss makes the exported value larger."""
    load = Load(server=m.MOE, workload=m.CLOSED)
    case = m.Case(experiment="E1", metric=name, numerator=load)
    good, bad = (2.0, 1.0) if METRICS[name].better == "higher" else (1.0, 2.0)
    before = of(m.run({load: {name: [good]}}, [case]), name)
    after = of(m.run({load: {name: [bad]}}, [case]), name)

    assert before["stats"]["mean"] < after["stats"]["mean"]
    assert bad == pytest.approx(after["extra_info"]["value"])


def test_every_repetition_is_a_round():
    """Of all launches that count; the launches stand beside them."""
    load = Load(server=m.MOE, workload=m.CLOSED)
    case = m.Case(experiment="E1", metric="itl_median_ms", numerator=load)
    results = m.run({load: {"itl_median_ms": [8.0, 9.0]}}, [case])
    repetitions = sum(len(row.repetitions) for row in results.measurements)
    row = of(results, "itl_median_ms")

    assert repetitions == row["stats"]["rounds"] == len(row["stats"]["data"])
    assert 2 == len(row["extra_info"]["launches"])


def test_a_ratio_stands_apart_and_is_marked():
    """One over it where more of the numerator is better; either side may have moved."""
    above, below = (Load(server=s, workload=m.CLOSED) for s in (m.DENSE, m.MOE))
    case = m.Case(
        experiment="E1",
        metric="output_throughput",
        numerator=above,
        denominator=below,
    )
    values = {above: {case.metric: [4000.0]}, below: {case.metric: [1000.0]}}
    row = of(m.run(values, [case]), "output_throughput, ratios")

    assert pytest.approx(0.25) == row["stats"]["mean"]
    assert ("1 / (ratio)", True) == (
        row["extra_info"]["unit"],
        row["extra_info"]["either_way"],
    )


def test_the_commit_is_that_of_the_engine():
    """So that a service places the run in the engine's history; else it is the run's id."""
    results = judged("PASSED")
    unknown = json.loads(exports.pytest_benchmark(results))["commit_info"]
    packages = {
        row.python: {"vllm commit": "abc1234"}
        for row in results.servers.values()
    }
    results = msgspec.structs.replace(results, environments=packages)
    known = json.loads(exports.pytest_benchmark(results))

    assert (results.run_id, "abc1234") == (
        unknown["id"],
        known["commit_info"]["id"],
    )
    assert ["abc1234"] == known["benchmarks"][0]["extra_info"]["commits"]
