"""The value of several launches: the gate, the figures and the page agree on it."""

import msgspec
import pytest

from perfgate.history.series import entries_of
from perfgate.judge.observation import RunReader
from perfgate.report.figures.series import level
from perfgate.results.samples import RunIndex, mean_of
from tests.support import builders as m

LAUNCHES = [1000.0, 1100.0]


def test_mean_is_geometric():
    """+10 % and -10 % weigh alike."""
    assert pytest.approx(1048.8, abs=0.01) == mean_of(LAUNCHES)


def test_gate_figures_and_history_have_the_same_value():
    """None of them takes the median of the launches, which is 1,050."""
    results = m.run(
        {m.MOE_LOAD: {"output_throughput": LAUNCHES}}, [m.THROUGHPUT]
    )
    results = msgspec.structs.replace(results, cases=(m.THROUGHPUT,))
    workload = m.THROUGHPUT.workload

    figure = level(RunIndex(results), m.MOE.key, workload, "output_throughput")
    gate = RunReader(results).observe(m.THROUGHPUT)
    (entry,) = entries_of(results)

    assert mean_of(LAUNCHES) == figure.value
    assert mean_of(LAUNCHES) == gate.value
    assert mean_of(LAUNCHES) == entry.value
