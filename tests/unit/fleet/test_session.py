"""Session of a fleet: begin, plan, go on, and refuse what is not meant."""

from __future__ import annotations

import pytest

from perfgate.config.option_values import BadOption
from perfgate.fleet import session
from perfgate.fleet import state as states
from perfgate.fleet.roster import Job
from perfgate.fleet.screen import Screen
from perfgate.fleet.session import NothingToMeasure, Wanted
from perfgate.fleet.state import OtherFleet
from perfgate.judge.baseline_store import Store
from perfgate.results.schema import load
from tests.support import builders
from tests.support.fake_cluster import FakeCluster, unit
from tests.support.fleets import host

ONE = unit("one")
JOB = Job(("-m", "gpu"), "/project", host_wait_s=0.0)


def results(order, where):
    """A session with one launch."""
    values = {builders.MOE_LOAD: {"output_throughput": [1000.0]}}
    return builders.run(values, [builders.THROUGHPUT])


def cluster(units=(ONE,)):
    """One host with an H200."""
    return FakeCluster([host("a")], {"a": "h200"}, units, results)


def screen():
    """A screen that shows nothing."""
    return Screen(lambda text: None, rewritable=False)


def test_a_run_is_begun_measured_and_judged(tmp_path):
    """Its machine has a run of its own in the run's folder."""
    state = session.measure(
        cluster(), JOB, Wanted(tmp_path, launches=2), screen()
    )

    assert 2 == len(state.measured)
    found = session.judge(tmp_path, state, Store(tmp_path / "baselines"))
    (machine,) = found.machines
    merged = load(tmp_path / "machines" / machine.name)
    assert 2 == len(merged.launches)
    assert ["NO_BASELINE"] == [row.outcome for row in merged.verdicts]


def test_a_plan_launches_nothing(tmp_path):
    """Nor does it begin a run."""
    lines = list(session.plan(cluster(), JOB, Wanted(tmp_path), screen()))

    assert any("All of it takes" in line for line in lines)
    assert not states.has_state(tmp_path)


def test_a_run_is_resumed_by_the_same_arguments_alone(tmp_path):
    """A folder that holds a run is refused without --resume, and an empty one with it."""
    wanted = Wanted(tmp_path, launches=2)
    again = Wanted(tmp_path, resume=True, launches=2)
    with pytest.raises(BadOption, match="there is none"):
        session.measure(cluster(), JOB, again, screen())
    session.measure(cluster(), JOB, wanted, screen())

    with pytest.raises(BadOption, match="it holds a run already"):
        session.measure(cluster(), JOB, wanted, screen())
    other = Job(("-m", "cpu"), "/project")
    with pytest.raises(OtherFleet):
        session.measure(cluster(), other, again, screen())
    made = cluster()
    state = session.measure(made, JOB, again, screen())
    assert (2, 2) == (state.sessions, len(state.measured))
    assert [] == made.log


def test_nothing_to_measure_is_refused(tmp_path):
    """No host lists a unit: the first reason is told."""
    made = cluster()
    made.lacking = {"a": ("no such marker: h300",)}

    with pytest.raises(NothingToMeasure, match="no such marker"):
        session.measure(made, JOB, Wanted(tmp_path), screen())
    empty = FakeCluster([], {}, (), results)
    with pytest.raises(NothingToMeasure, match="no host of the cluster"):
        session.measure(empty, JOB, Wanted(tmp_path), screen())


def test_durations_come_from_earlier_runs(tmp_path):
    """A run that cannot be read is left out."""
    session.measure(cluster(), JOB, Wanted(tmp_path / "fleet-1"), screen())
    (tmp_path / "fleet-2").mkdir()
    (tmp_path / "fleet-2" / states.FILE).write_text("damaged\n")

    assert session.durations(tmp_path).is_known(ONE)
    assert not session.durations(tmp_path / "none").is_known(ONE)
