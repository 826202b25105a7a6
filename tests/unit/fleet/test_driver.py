"""Driver: launches of a fleet on hosts that die, fail, come late or are cancelled."""

from __future__ import annotations

import dataclasses

import msgspec
import pytest

from perfgate.errors import FailureRow
from perfgate.fleet import machines
from perfgate.fleet import state as states
from perfgate.fleet.driver import MOST_FAILURES, Driver
from perfgate.fleet.roster import Job, Roster
from perfgate.fleet.screen import Screen
from perfgate.fleet.state import EventFile
from tests.support import builders
from tests.support.fake_cluster import FakeCluster, unit
from tests.support.fleets import begun, host

ONE, TWO = unit("one"), unit("two", gpu="h100")
KINDS = {"a": "h200", "b": "h200", "c": "h100"}


def results(order, where):
    """A session on that host: one launch of one server."""
    hardware = builders.hardware(KINDS[where.name], count=1)
    gpu = msgspec.structs.replace(hardware.gpus[0], uuid=f"GPU-{where.name}")
    return builders.run(
        {builders.MOE_LOAD: {"output_throughput": [1000.0]}},
        [builders.THROUGHPUT],
        machine=msgspec.structs.replace(hardware, gpus=(gpu,)),
    )


class Fleet:
    """A driver of a new run on a fake cluster; `text` is what it showed."""

    def __init__(self, folder, launches=1, units=(ONE, TWO), **more):
        self.folder = folder
        self.text = ""
        self.units = units
        self.launches = launches
        hosts = [host("a"), host("b"), host("c")]
        self.cluster = FakeCluster(hosts, KINDS, units, results, **more)
        beginning = begun(*units, launches=launches)
        EventFile(folder).append(beginning)

    def run(self):
        """Run it to its end, or go on with it."""
        return self.driver().run()

    def driver(self):
        screen = Screen(self._write, rewritable=False, clock=self.cluster.clock)
        clock = self.cluster.clock
        job = Job(("-m", "gpu"), "/project")
        roster = Roster(self.cluster, job, screen.line, clock)
        state = states.read(self.folder)
        return Driver(self.folder, state, self.cluster, roster, screen, clock)

    def _write(self, text):
        self.text += text


def test_every_launch_is_measured_once(tmp_path):
    """On a host of its kind; what came is there to be merged by machine."""
    fleet = Fleet(tmp_path, launches=4)

    state = fleet.run()

    assert 8 == len(state.measured) == len(fleet.cluster.log)
    assert {"c"} == {name for task, name in fleet.cluster.log if "u02" in task}
    found = list(machines.of_run(tmp_path, states.read(tmp_path)))
    assert {"h200": 4, "h100": 4} == {
        kind: sum(
            len(one.results.launches) for one in found if one.kind == kind
        )
        for kind in ("h200", "h100")
    }
    assert 8 == sum(map(len, fleet.cluster.delivered.values()))
    assert {1} == set(fleet.cluster.most_at_once.values())


def test_a_dead_host_loses_its_launch_alone(tmp_path):
    """It is made again elsewhere; the others are measured once."""
    fleet = Fleet(tmp_path, launches=3, turns={"a": 3, "b": 3})

    def kill(cluster):
        if cluster.clock() == 4.0:
            cluster.dead.add("id-a")

    fleet.cluster.on_turn = kill
    state = fleet.run()

    assert 6 == len(state.measured)
    lost = [task.id for task in state.tasks.values() if task.attempts]
    assert 1 == len(lost)
    assert 2 == [task for task, _ in fleet.cluster.log].count(lost[0])
    assert 7 == len(fleet.cluster.log)
    assert (
        f"{lost[0]} (one) lost on a: it is made again elsewhere" in fleet.text
    )


def test_a_host_that_is_dead_and_still_listed_loses_one_launch(tmp_path):
    """It is given nothing more before it answers again, however long it is listed."""
    fleet = Fleet(tmp_path, launches=8, units=(ONE,), turns={"a": 3, "b": 3})

    def kill(cluster):
        if cluster.clock() == 5.0:
            cluster.dead.add("id-a")
            cluster.listed.add("id-a")
        if cluster.clock() == 20.0:
            cluster.listed.clear()

    fleet.cluster.on_turn = kill
    state = fleet.run()

    assert 8 == len(state.measured)
    assert 1 == sum(len(task.attempts) for task in state.tasks.values())


def test_a_launch_that_fails_everywhere_is_given_up(tmp_path):
    """After two hosts; its reason is told, and the rest is measured."""
    fleet = Fleet(tmp_path)
    fleet.cluster.failing = {"a", "b"}

    state = fleet.run()

    assert ["u01-l001"] == [task.id for task in state.given_up]
    assert ["u02-l001"] == [task.id for task in state.measured]
    assert "it was made twice, and is given up" in fleet.text
    assert "the disk is full" in fleet.text


def test_a_host_that_fails_again_and_again_is_set_aside(tmp_path):
    """It gets three launches, and the other host gets the rest."""
    fleet = Fleet(tmp_path, launches=12, units=(ONE,))
    fleet.cluster.failing = {"a"}

    state = fleet.run()

    assert 12 == len(state.measured)
    assert MOST_FAILURES == [name for _, name in fleet.cluster.log].count("a")
    assert "a is set aside: 3 launches in a row failed" in fleet.text


def test_a_session_that_measured_a_part_is_made_again(tmp_path):
    """A server that did not start there has a second chance on another machine."""
    failed = FailureRow(tried="x", seen="the GPU is sick", remedy="y")

    def sick(order, where):
        whole = results(order, where)
        if where.name == "a":
            failures = {builders.MOE.key: failed}
            return msgspec.structs.replace(whole, failures=failures)
        return whole

    fleet = Fleet(tmp_path, units=(ONE,))
    fleet.cluster._results = sick
    state = fleet.run()

    (task,) = state.measured
    assert "b" == task.host
    assert "the GPU is sick" in task.attempts[0].reason
    assert (tmp_path / "lost" / "u01-l001-a" / "results.json").exists()


def test_a_driver_that_was_killed_is_replaced(tmp_path):
    """The next one goes on with the same launches, on the same hosts, and repeats none."""
    fleet = Fleet(tmp_path, launches=5, units=(ONE,), turns={"a": 2, "b": 2})

    class KilledError(BaseException):
        """As if the process ended here."""

    def kill(cluster):
        if cluster.clock() == 6.0:
            raise KilledError

    fleet.cluster.on_turn = kill
    driver = fleet.driver()
    driver.cancel = lambda: None  # a killed process cancels nothing
    with pytest.raises(KilledError):
        driver.run()
    before = states.read(tmp_path)
    running = {task.id: task.host for task in before.open if task.host}
    fleet.cluster.on_turn = lambda cluster: None
    fleet.cluster.close()
    state = fleet.run()

    assert 5 == len(state.measured)
    assert 2 == len(running)
    again = [row for row in fleet.cluster.log if row[0] in running]
    assert sorted(running.items()) == sorted(set(again))
    assert 5 + len(running) == len(fleet.cluster.log)


def test_a_ctrl_c_ends_the_launches_and_keeps_what_came(tmp_path):
    """Each request is cancelled; the launches are open, and no attempt is lost."""
    fleet = Fleet(tmp_path, launches=2, turns={"a": 9, "b": 9})

    def interrupt(cluster):
        if cluster.clock() == 12.0:
            cluster.on_turn = lambda cluster: None
            raise KeyboardInterrupt

    fleet.cluster.on_turn = interrupt
    with pytest.raises(KeyboardInterrupt):
        fleet.run()

    state = states.read(tmp_path)
    assert {"u01-l001", "u01-l002"} <= {task.id for task in state.open}
    assert {"u01-l001", "u01-l002"} <= set(fleet.cluster.cancelled)
    assert [] == [task for task in state.tasks.values() if task.attempts]


def test_a_launch_that_hosts_lose_in_turn_is_kept_each_time(tmp_path):
    """What the first host had when it lost the launch again lies beside the rest."""
    fleet = Fleet(tmp_path, units=(ONE,))
    part = machines.part_dir(tmp_path, "u01-l001")
    for name in "abab":
        fleet.cluster = FakeCluster(
            [host(name)], KINDS, fleet.units, results, turns={name: 99}
        )

        def stop(cluster):
            if cluster.log:
                cluster.on_turn = lambda cluster: None
                raise KeyboardInterrupt

        fleet.cluster.on_turn = stop
        with pytest.raises(KeyboardInterrupt):
            fleet.run()
        part.mkdir(parents=True, exist_ok=True)
        (part / "results.json").write_text(name)

    kept = sorted((tmp_path / "lost").iterdir())
    assert ["u01-l001-a", "u01-l001-a-2", "u01-l001-b"] == [
        folder.name for folder in kept
    ]


def test_a_host_without_the_engine_is_named(tmp_path):
    """It gets nothing, and says what is missing."""
    fleet = Fleet(tmp_path, launches=2, units=(ONE,))
    fleet.cluster.lacking = {"a": ("needs vllm: not installed",)}

    state = fleet.run()

    assert {"b"} == {name for _, name in fleet.cluster.log}
    assert 2 == len(state.measured)
    assert "a is left out: needs vllm: not installed" in fleet.text


def test_a_run_ends_where_no_host_can_go_on(tmp_path):
    """What waits for a kind that is not there stays open, for --resume."""
    fleet = Fleet(tmp_path)
    fleet.cluster.dead = {"id-c"}

    state = fleet.run()

    assert ["u02-l001"] == [task.id for task in state.open]
    assert ["u01-l001"] == [task.id for task in state.measured]


def test_a_host_that_joins_later_is_used(tmp_path):
    """It is checked, and given what waits for its kind."""
    fleet = Fleet(tmp_path)
    fleet.cluster.dead = {"id-c"}

    def join(cluster):
        if cluster.clock() == 10.0:
            cluster.dead.clear()

    fleet.cluster.on_turn = join
    state = fleet.run()

    assert ("u02-l001", "c") in fleet.cluster.log
    assert [] == state.open


def test_what_a_lost_host_measured_too_is_told(tmp_path):
    """The folder is named, and its launch does not count twice."""
    fleet = Fleet(tmp_path, units=(ONE,), turns={"a": 4})

    def partition(cluster):
        if cluster.clock() == 3.0:
            cluster.dead.add("id-a")
        if cluster.clock() == 5.0:
            cluster._hosts[0] = dataclasses.replace(
                cluster._hosts[0], id="id-a2"
            )
            cluster.kept = {"a": {"u01-l001": "/spool/u01-l001"}}

    fleet.cluster.on_turn = partition
    fleet.cluster._turns["b"] = 8
    state = fleet.run()

    assert ["/spool/u01-l001"] == [row.folder for row in state.twice]
    assert ["b"] == [task.host for task in state.measured]
    assert state.twice == states.read(tmp_path).twice
