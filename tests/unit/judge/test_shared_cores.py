"""Shared cores: a loss beside others is not excluded, and a loss without them is red."""

import msgspec
import pytest

from perfgate.cases import Case, Load
from perfgate.judge import repetition_trend, shared_cores
from perfgate.judge.gate import judge
from perfgate.judge.observation import RunReader
from perfgate.judge.verdict import Outcome
from perfgate.load.repetition import IDLE_SHARE, OTHERS_SHARE
from tests.support import builders as m

LOAD = Load(server=m.MOE_CPU, workload=m.CLOSED)
CASE = Case(experiment="E1", metric="output_throughput", numerator=LOAD)
BUSY = {OTHERS_SHARE: 0.6, IDLE_SHARE: 0.01}
QUIET = {OTHERS_SHARE: 0.02, IDLE_SHARE: 0.01}
# Others are there, and so are cores that nobody uses.
ROOM = {OTHERS_SHARE: 0.6, IDLE_SHARE: 0.3}


def reader_of(*client_values):
    """A run of the load with a repetition for each of these."""
    repetitions = []
    for index, values in enumerate(client_values):
        repetitions.append(m.repetition(index, 400.0, client_values=values))
    results = m.run({LOAD: {CASE.metric: [400.0]}}, [CASE])
    measured = m.measurement(0, *repetitions)
    return RunReader(msgspec.structs.replace(results, measurements=(measured,)))


@pytest.mark.parametrize(
    ("client_values", "share"),
    [
        ((BUSY, BUSY, QUIET), 0.6),
        ((BUSY, QUIET, QUIET), None),
        ((ROOM, ROOM, ROOM), None),
        (({}, {}, {}), None),
    ],
)
def test_most_repetitions_decide(client_values, share):
    """Those beside others, where no core was left; a run before that has none."""
    assert share == shared_cores.others_share(CASE, reader_of(*client_values))


def test_what_no_core_changes_is_judged_as_ever():
    """Of what no other process changes the verdict stands."""
    case = msgspec.structs.replace(CASE, metric="weights_bytes_per_rank")

    assert None is shared_cores.others_share(case, reader_of(BUSY))


def test_regression_beside_others_is_not_excluded():
    """The loss stays in the message, and no launch more is asked for."""
    busy, quiet = reader_of(BUSY, BUSY, BUSY), reader_of(QUIET, QUIET, QUIET)
    baseline = m.recorded(CASE, [1000.0, 1002.0, 998.0], None)
    red = judge(CASE, m.seen(CASE, 400.0, 400.0, 400.0), baseline)
    assert Outcome.REGRESSED == red.outcome

    found = shared_cores.judged(red, CASE, busy)

    assert Outcome.NOT_EXCLUDED == found.outcome
    assert 0 == found.needs_launches
    assert red.summary in found.summary
    assert "others used 60.0 % of the cores" in found.summary
    assert red == shared_cores.judged(red, CASE, quiet)


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

    notes = shared_cores.host_notes(decision, case, reader)

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

    found = shared_cores.judged(red, case, reader)

    assert expected == found.outcome
    if expected is Outcome.INCONCLUSIVE:
        assert "3.8 of the host's 64 cores" in found.summary
        assert "two builds launched in turn" in found.advice
        assert shared_cores.is_beside_others(case, reader)


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
        shared_cores.judged(red, case, reader).outcome
    )


def test_slow_repetition_beside_others_is_no_course():
    """Too few are left to say which one is slow."""
    (quiet,) = repetition_trend.courses(reader_of(*[QUIET] * 4))

    assert 4 == len(quiet.losses)
    assert [] == list(
        repetition_trend.courses(reader_of(BUSY, BUSY, QUIET, QUIET))
    )


def test_invalid_repetition_beside_others_proves_nothing():
    """A stall may be the machine's; without others it is the server's."""
    stalled = m.repetition(0, invalid=m.SILENT, client_values=BUSY)
    alone = m.repetition(0, invalid=m.SILENT, client_values=QUIET)

    assert stalled.is_spoilt_by_client
    assert not alone.is_spoilt_by_client
    assert not m.repetition(0, client_values=BUSY).is_spoilt_by_client
