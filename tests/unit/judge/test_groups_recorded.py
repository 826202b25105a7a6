"""Verdicts over several rows of the recorded runs: none, and the constants are theirs."""

from pathlib import Path

import pytest

from perfgate.judge import repetition_trend, stalls
from perfgate.judge.observation import RunReader
from perfgate.judge.verdict import Outcome
from perfgate.results.schema import load

RUNS = Path(__file__).resolve().parents[3] / "docs" / "runs"
# Its ladder left out steps that the load had, so that the engine compiled meanwhile.
STALLED = RUNS / "h200x2-stalled" / "short-ladder" / "results.json.gz"
# A second suite started its servers on the other GPUs of the host meanwhile.
BESIDE_ANOTHER = "20261129-194955-1039"


@pytest.fixture(scope="module")
def readers():
    """Every recorded run whose servers were not changed on purpose."""
    found = []
    for path in sorted(RUNS.rglob("results.json.gz")):
        if path == STALLED:
            continue
        results = load(path)
        if not any(launch.injected for launch in results.launches):
            found.append(RunReader(results))
    return found


@pytest.mark.parametrize(
    "check",
    [stalls.check, repetition_trend.check_slow, repetition_trend.check_trend],
)
def test_no_unchanged_run_is_called_red(readers, check):
    """Neither hard nor report-only."""
    for reader in readers:
        assert [] == list(check(reader, (), None)), reader.results.run_id


def test_a_server_that_compiled_while_it_was_measured_is_called_red():
    """Two of five repetitions stalled, 1.7 and 2.1 s."""
    (verdict,) = stalls.check(RunReader(load(STALLED)), (), None)

    assert "vllm-mixtral-8x7b-tp2-uniform, closed-c32" == verdict.subject
    assert Outcome.REGRESSED is verdict.outcome


def test_the_base_rate_of_invalid_repetitions_is_the_recorded_one(readers):
    """Its 95 % upper limit (Clopper and Pearson), a little rounded up."""
    from scipy.stats import beta

    repetitions = invalid = 0
    for reader in readers:
        for row in reader.results.measurements:
            count = stalls.tally(row.repetitions)
            repetitions += count.repetitions
            invalid += count.invalid
    limit = beta.ppf(0.95, invalid + 1, repetitions - invalid)

    assert limit <= stalls.BASE_RATE["gpu"] < 1.2 * limit


def test_recorded_repetitions_are_well_below_the_factors(readers):
    """The slowest lies less than two thirds of the way from 1 to the factor.

    On a host that another suite uses too it is below the factor.
    """
    for reader in readers:
        part = 2 / 3
        if reader.results.run_id == BESIDE_ANOTHER:
            part = 1.0
        for course in repetition_trend.courses(reader):
            factor = repetition_trend.slow_factor(course, "gpu")
            assert course.worst - 1 < part * (factor - 1)
