"""Neighbours: what they may have cost is in doubt, and a larger loss is red."""

import msgspec
import pytest

from perfgate.cases import Case, Load
from perfgate.judge import neighbours
from perfgate.judge.gate import judge
from perfgate.judge.observation import RunReader
from perfgate.judge.verdict import Outcome
from perfgate.load.repetition import IDLE_SHARE, OTHERS_SHARE
from tests.support import builders as m


def gpu_run(metric, value, shares, server=m.DENSE, cores=64):
    """Reader, case and decision of a load on a host of so many cores."""
    load = Load(server=server, workload=m.CLOSED)
    case = Case(experiment="E1", metric=metric, numerator=load)
    rows = []
    for index, share in enumerate(shares):
        values = {OTHERS_SHARE: share, IDLE_SHARE: 0.5}
        rows.append(m.repetition(index, value, client_values=values))
    results = m.run({load: {metric: [value]}}, [case])
    measured = msgspec.structs.replace(
        m.measurement(0, *rows), server=server.key
    )
    hardware = msgspec.structs.replace(results.hardware, cpu_count=cores)
    results = msgspec.structs.replace(
        results, measurements=(measured,), hardware=hardware
    )
    baseline = m.recorded(case, [1000.0, 1002.0, 998.0], None)
    decision = judge(case, m.seen(case, value, value, value), baseline)
    return RunReader(results), case, decision


@pytest.mark.parametrize(
    ("server", "value", "shares", "cores", "told"),
    [
        (m.DENSE, 400.0, (0.001, 0.06, 0.0), 64, "3.8 of the host's 64 cores"),
        (m.DENSE, 400.0, (0.06,), 0, "6.0 % of the host's cores"),
        (m.DENSE, 400.0, (0.005,), 64, None),
        (m.DENSE, 400.0, (0.04,), 0, None),
        (m.DENSE, 1000.0, (0.3,), 64, None),
        (m.MOE_CPU, 400.0, (0.3,), 64, None),
    ],
)
def test_a_loss_on_a_gpu_host_tells_what_others_used(
    server, value, shares, cores, told
):
    """From one core on; what passes tells nothing, and a CPU has a rule of its own."""
    reader, case, decision = gpu_run(
        "output_throughput", value, shares, server, cores
    )

    notes = neighbours.notes(decision, case, reader)

    assert (told is not None) is any(str(told) in note for note in notes)
    assert bool(notes) is (told is not None)


@pytest.mark.parametrize(
    ("metric", "value", "shares", "expected"),
    [
        # Beside a neighbour, and no more than it was seen to cost.
        ("output_throughput", 850.0, (0.06, 0.06, 0.0), Outcome.INCONCLUSIVE),
        ("itl_mean_ms", 1150.0, (0.06,), Outcome.INCONCLUSIVE),
        ("ttft_median_ms", 1550.0, (0.06,), Outcome.INCONCLUSIVE),
        # More than that.
        ("output_throughput", 700.0, (0.06,), Outcome.REGRESSED),
        ("ttft_median_ms", 1700.0, (0.06,), Outcome.REGRESSED),
        # What a neighbour does not move.
        ("itl_median_ms", 1150.0, (0.06,), Outcome.REGRESSED),
        # Alone, in most repetitions.
        ("output_throughput", 850.0, (0.06, 0.0, 0.0), Outcome.REGRESSED),
        ("output_throughput", 850.0, (0.005,), Outcome.REGRESSED),
    ],
)
def test_a_loss_beside_a_neighbour_on_a_gpu_host(
    metric, value, shares, expected
):
    """It may be the neighbour's where that was seen to cost as much."""
    reader, case, red = gpu_run(metric, value, shares)
    assert Outcome.REGRESSED == red.outcome

    found = neighbours.judged(red, case, reader)

    assert expected == found.outcome
    if expected is Outcome.INCONCLUSIVE:
        assert "3.8 of the host's 64 cores" in found.summary
        assert "two builds launched in turn" in found.advice
        assert neighbours.used(case, reader)


def test_one_launch_beside_a_neighbour_is_enough():
    """A launch counts as much as another, however many repetitions it has."""
    reader, case, red = gpu_run("output_throughput", 850.0, (0.0, 0.0, 0.0))
    (alone,) = reader.results.measurements
    beside = msgspec.structs.replace(
        alone,
        launch=1,
        repetitions=(
            m.repetition(0, 850.0, client_values={OTHERS_SHARE: 0.06}),
        ),
    )
    reader = RunReader(
        msgspec.structs.replace(reader.results, measurements=(alone, beside))
    )

    assert Outcome.INCONCLUSIVE == (
        neighbours.judged(red, case, reader).outcome
    )
