"""Stalls: many repetitions that the server spoilt are a regression, a single one is none."""

from types import SimpleNamespace

import msgspec
import pytest

from perfgate.cases import Load
from perfgate.judge import stalls
from perfgate.judge.observation import RunReader
from tests.support import builders as m

STALL = ("all 32 streams fell silent at once for 1417 ms",)
CLIENT = ("the client did not run for a total of 90 ms",)


def repetitions(valid, stalled, spoilt=0):
    """So many repetitions, the valid ones first."""
    reasons = [()] * valid + [STALL] * stalled + [CLIENT] * spoilt
    rows = []
    for index, reason in enumerate(reasons):
        rows.append(m.repetition(index, 100.0, reason))
    return rows


def found(*loads, gpus=True):
    """The verdicts on one server with these repetitions of each of its loads."""
    measurements = []
    for number, rows in enumerate(loads):
        workload = m.Workload(name=f"batch-{number}", num_prompts=8)
        row = m.measurement(0, *rows, server=m.MOE, workload=workload)
        measurements.append(row)
    kind = "h200" if gpus else "cpu"
    run = m.bare_run(
        hardware=m.hardware(kind), measurements=tuple(measurements)
    )
    return list(stalls.check(RunReader(run), (), None))


@pytest.mark.parametrize(
    ("valid", "stalled", "is_red"),
    [(3, 0, False), (3, 1, False), (3, 2, True), (3, 3, True), (2, 1, False)],
)
def test_two_of_five_repetitions_are_a_regression(valid, stalled, is_red):
    """One of them happens on an unchanged server."""
    assert is_red == bool(found(repetitions(valid, stalled)))


def test_a_stall_on_each_load_is_a_regression_of_the_server():
    """No load shows it alone: one of four each."""
    rows = found(*[repetitions(3, 1)] * 6)

    assert ["server"] == [row.scope for row in rows]
    assert (m.MOE.key, "hard") == (rows[0].subject, rows[0].gate)


def test_one_bad_load_is_named():
    """Where all of it is on one load, the verdict is on that load."""
    rows = found(repetitions(3, 3), repetitions(3, 0))

    assert [f"{m.MOE.key}, batch-0"] == [row.subject for row in rows]


def test_what_the_client_spoilt_is_left_out():
    """Its machine was busy; that says nothing of the server."""
    assert [] == found(repetitions(3, 0, spoilt=3))


def test_a_cpu_stalls_more_often():
    """Two of five are by chance there, three of six are not."""
    assert [] == found(repetitions(3, 2), gpus=False)
    assert found(repetitions(3, 3), gpus=False)


def test_the_chance_of_a_false_alarm_is_stated():
    """Below the limit for each load and server that was looked at."""
    (row,) = found(repetitions(3, 3))

    assert 2 * stalls.ALPHA == row.false_alarm_rate
    assert 0.5 == row.value


def test_the_tail_is_that_of_a_binomial():
    """Two of two at a rate of a half: a quarter."""
    assert 0.25 == pytest.approx(stalls.tail_probability(2, 2, 0.5))


def test_cases_are_those_of_the_load_alone():
    """The name of one load begins that of another."""
    batch_1, batch_16, other = (
        SimpleNamespace(case=case)
        for case in ("a/batch-1/x", "a/batch-16/x", "ab/batch-1/x")
    )
    verdicts = (batch_1, batch_16, other)

    assert ("a/batch-1/x",) == stalls.cases_of(verdicts, "a", "batch-1")
    assert ("a/batch-1/x", "a/batch-16/x") == stalls.cases_of(verdicts, "a")


def test_base_builds_are_left_out():
    """Of two builds that are launched in turn the candidate is judged."""
    base = Load(server=m.MOE, workload=m.CLOSED).base.server
    values = {"output_throughput": [100.0]}
    run = m.run(
        {
            Load(server=server, workload=m.CLOSED): values
            for server in (m.MOE, base)
        },
        [],
    )
    rows = []
    for server in (m.MOE, base):
        spoilt = repetitions(3, 3)
        rows.append(m.measurement(0, *spoilt, server=server, workload=m.CLOSED))
    run = msgspec.structs.replace(run, measurements=tuple(rows))

    verdicts = list(stalls.check(RunReader(run), (), None))

    assert [m.MOE.key] == list(stalls.repetitions_by_server(RunReader(run)))
    assert [f"{m.MOE.key}, {m.CLOSED.name}"] == [
        row.subject for row in verdicts
    ]
