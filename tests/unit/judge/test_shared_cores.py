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
