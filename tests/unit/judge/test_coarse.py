"""Coarse gate: a processor without baselines, against the slowest launch of all others."""

import msgspec
import pytest

from perfgate.cases import Case, Load
from perfgate.judge import coarse
from perfgate.judge.baseline_schema import BaselineFile
from perfgate.judge.baseline_store import Store
from perfgate.judge.gate import judge_case
from perfgate.judge.observation import RunReader
from perfgate.judge.verdict import Outcome
from perfgate.report.verdict_text import render
from tests.support import builders as m

LOAD = Load(server=m.MOE_CPU, workload=m.CLOSED)
ITL = Case(experiment="E2", metric="itl_median_ms", numerator=LOAD)
THROUGHPUT = msgspec.structs.replace(ITL, metric="output_throughput")
FOLDERS = ("cpu-slow-avx2-x2", "cpu-fast-avx512-x2")


def run_of(case, value):
    """A run of one launch with this value, on a processor that no store knows."""
    return m.run({LOAD: {case.metric: [value]}}, [case])


@pytest.fixture
def store(tmp_path):
    """A store of several processors, each with launches of this case."""

    def make(case, *launches, **identity):
        results = run_of(case, 1.0)
        observed = RunReader(results).observe(case)
        store = Store(tmp_path)
        for folder, values in zip(FOLDERS, launches, strict=False):
            file = BaselineFile(
                identity={**observed.identity, "hardware": folder, **identity},
                context={},
                provenance=(),
                metrics={case.metric: m.recorded(case, values).metric},
            )
            store.write(store.path(case, folder), file)
        return store

    return make


@pytest.mark.parametrize(
    ("case", "value", "expected"),
    [
        (ITL, 39.0, Outcome.PASSED),
        (ITL, 45.0, Outcome.REGRESSED),
        (THROUGHPUT, 6.0, Outcome.PASSED),
        (THROUGHPUT, 4.5, Outcome.REGRESSED),
    ],
)
def test_twice_the_slowest_launch(store, case, value, expected):
    """Latencies of 10 to 20 ms were recorded, rates of 10 to 20: beyond twice is a loss."""
    known = store(case, [18.0, 20.0, 19.0], [10.0, 11.0, 12.0])

    verdict = judge_case(run_of(case, value), case, known)

    assert expected == verdict.outcome


def test_the_message_says_what_it_was_held_against(store):
    """The slowest launch, its processor, and how large a loss must be to be seen."""
    known = store(ITL, [18.0, 20.0, 19.0], [10.0, 11.0, 12.0])

    text = render(judge_case(run_of(ITL, 60.0), ITL, known))

    assert (
        "the slowest launch on 2 other processors, 20 ms on cpu-slow-avx2-x2"
        in text
    )
    assert "only a value more than 2 times as bad" in text


def test_one_processor_tells_nothing_of_another(store):
    """How much processors differ is unknown then."""
    known = store(ITL, [18.0, 20.0, 19.0])

    assert (
        Outcome.NO_BASELINE
        == judge_case(run_of(ITL, 600.0), ITL, known).outcome
    )


def test_another_configuration_does_not_count(store):
    """A shorter context is another server on every processor."""
    known = store(ITL, [18.0], [10.0], max_model_len="77")

    assert (
        Outcome.NO_BASELINE
        == judge_case(run_of(ITL, 600.0), ITL, known).outcome
    )


def test_what_is_reported_is_not_judged(store):
    """A report-only case stays without a verdict."""
    known = store(ITL, [18.0], [10.0])

    verdict = judge_case(run_of(ITL, 600.0), ITL.report_only, known)

    assert Outcome.NO_BASELINE == verdict.outcome
    assert coarse.MOST > 1


@pytest.mark.parametrize(
    ("case", "value", "numbers", "change"),
    [
        (ITL, 60.0, (20.0, 2.0, 2.0, 1.0), "+200.0 %"),
        (THROUGHPUT, 4.0, (10.0, -0.6, 0.6, 0.5), "-60.0 %"),
    ],
)
def test_the_verdict_has_the_numbers_that_decided(
    store, case, value, numbers, change
):
    """The slowest launch; how much the value changed, lost, and may lose."""
    known = store(case, [18.0, 20.0, 19.0], [10.0, 11.0, 12.0])

    row = judge_case(run_of(case, value), case, known)

    found = (row.baseline, row.change, row.worse_by, row.threshold)
    assert numbers == pytest.approx(found)
    assert change in row.summary
