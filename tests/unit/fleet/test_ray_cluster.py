"""Fleet on a Ray cluster of this machine: hosts that die, a driver that is killed, no survivors.

Nodes of two kinds with fake GPUs, sessions with the fake engine, all on 127.0.0.1.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter

import pytest

from perfgate.fleet import machines
from perfgate.fleet import state as states
from perfgate.results.schema import load
from tests.support import fake_suite
from tests.support.projects import MOE
from tests.support.ray_nodes import Node, RayNodes
from tests.support.small_project import Project
from tests.support.survivors import tagged
from tests.support.write_faults import ACKNOWLEDGED, FAULT

pytest.importorskip("ray")

PATIENCE_S = 240.0
GONE_S = 10.0
# A Mixtral does not fit on one H100.
BOTH = (
    "-m",
    "h200 or h100",
    "--tp",
    "1",
    "-k",
    "test_each and (llama or h200)",
)
# A repetition of four seconds: the host dies in the middle of the launch.
LINGERING = {
    "FAKE_MISBEHAVIOUR": (
        "llama-3.1-8b: --set itl_s=0.025; mixtral-8x7b: --set itl_s=0.025"
    )
}


class Fleet:
    """A project, and the nodes that measure it.

    Args:
        names: host's name -> product of its GPUs.
        more: host's name -> further variables of its sessions, when it is started.
    """

    def __init__(self, folder, names, gpus=1, more=None):
        self.folder = folder
        self.project = Project(folder / "project")
        self.tag = uuid.uuid4().hex
        self.run_dir = folder / "run"
        self.driver = None
        self.more = more or {}
        self._gpus = gpus
        nodes = [self.node(name, product) for name, product in names.items()]
        variables = {
            name: value
            for name, value in os.environ.items()
            if name not in ("CI", "GITHUB_ACTIONS", "PERFGATE_GATE")
        }
        variables |= {
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "SURVIVOR_TAG": self.tag,
        }
        self.nodes = RayNodes(nodes, variables)

    def node(self, name, product):
        """A host of that name, with what it keeps from before."""
        env = {
            "FAKE_GPUS": str(self._gpus),
            "FAKE_GPU_KIND": product.lower(),
            "FAKE_GPU_HOST": f"-{name}",
            "PERFGATE_LEASES_DIR": str(self.folder / "leases" / name),
            "PERFGATE_FLEET_DIR": str(self.folder / "spool" / name),
        }
        env |= self.more.get(name, {})
        return Node(name, self._gpus, 2, product, env)

    def start(self, *options, platform=BOTH):
        """The command `perfgate fleet run`."""
        arguments = fake_suite.options(self.project.folder / "models")
        command = [sys.executable, "-m", "perfgate", "fleet", "run"]
        command += ["--address", self.nodes.address]
        command += ["--run-dir", str(self.run_dir), *options, "--"]
        self.output = self.folder / f"output-{uuid.uuid4().hex}.txt"
        with self.output.open("w") as output:
            self.driver = subprocess.Popen(
                [*command, *arguments, *platform],
                cwd=self.project.folder,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self.nodes.env,
                start_new_session=True,
            )
        return self.driver

    def end(self):
        """End the driver, if it runs, and the nodes; no session is left."""
        if self.driver is not None:
            self.driver.kill()
            self.driver.wait()
        self.nodes.__exit__()
        assert [] == self.gone()

    @property
    def text(self):
        return self.output.read_text()

    @property
    def state(self):
        return states.read(self.run_dir)

    def until(self, is_so, patience_s=PATIENCE_S):
        """Wait until something holds of the run's state."""
        end = time.monotonic() + patience_s
        while time.monotonic() < end:
            with contextlib.suppress(Exception):
                if is_so(self.state):
                    return
            time.sleep(0.1)
        raise AssertionError(f"it did not happen: {self.text}")

    def is_measuring(self, host):
        """Whether a launch on that host has sent a repetition."""
        for task in self.state.open:
            folder = machines.part_dir(self.run_dir, task.id)
            if task.host == host and (folder / "results.json").exists():
                return bool(load(folder).measurements)
        return False

    def sessions(self):
        """Processes of sessions, their servers and supervisors, that run now."""
        words = ("pytest", "fake_engine", "leash")
        lines = []
        for line in tagged(self.tag):
            if any(word in line for word in words):
                lines.append(line)
        return lines

    def gone(self):
        """Wait until no session is left; returns what is."""
        end = time.monotonic() + GONE_S
        while (left := self.sessions()) and time.monotonic() < end:
            time.sleep(0.1)
        return left


@pytest.fixture
def fleet(tmp_path):
    """What makes a fleet; its nodes end with the test."""
    made = []

    def make(*arguments, **more):
        made.append(Fleet(tmp_path, *arguments, **more))
        return made[0]

    yield make
    for one in made:
        one.end()


def launches(run_dir):
    """(machine, server, index) of every launch of the merged runs."""
    rows = []
    for folder in sorted((run_dir / "machines").iterdir()):
        results = load(folder)
        for launch in results.launches:
            rows.append((folder.name, launch.server, launch.index))
    return rows


def test_a_fleet_of_two_kinds_outlives_a_host_and_its_driver(fleet):
    """A host is killed, then the driver: what was open is measured, and nothing else again."""
    hosts = {"a": "H200", "b": "H200", "c": "H100"}
    made = fleet(hosts, more={"b": LINGERING})
    driver = made.start("--launches", "2")
    made.until(lambda state: made.is_measuring("b"))
    os.kill(made.nodes.raylets["b"], signal.SIGKILL)
    made.until(lambda state: any(t.attempts for t in state.tasks.values()))
    made.until(lambda state: len(state.measured) >= 2)
    driver.kill()
    driver.wait()
    assert [] == made.gone()
    before = made.state

    driver = made.start("--launches", "2", "--resume")

    assert 0 == driver.wait(PATIENCE_S), made.text
    state = made.state
    assert [] == state.open
    assert {task.id for task in before.measured} <= {
        task.id for task in state.measured
    }
    placed = [
        json.loads(line)
        for line in (made.run_dir / states.FILE).read_text().splitlines()
    ]
    times = [row["task"] for row in placed if row["type"] == "Placed"]
    for task in before.measured:
        assert times.count(task.id) <= 1 + len(task.attempts)
    rows = launches(made.run_dir)
    assert len(state.tasks) == len(rows)
    assert MOE in {server for _, server, _ in rows}
    assert [] == made.gone()


SLOW = {
    "FAKE_MISBEHAVIOUR": (
        "llama-3.1-8b: --set itl_s=0.003; mixtral-8x7b: --set itl_s=0.006"
    )
}
FULL = "8:disk-full"  # from the eighth file on


def placements(run_dir):
    """Task -> how often it was given to a host."""
    counts = Counter()
    for line in (run_dir / states.FILE).read_text().splitlines():
        row = json.loads(line)
        if row["type"] == "Placed":
            counts[row["task"]] += 1
    return counts


def through_faults(made):
    """Drive sixty launches through a killed host, a killed driver, and a partition.

    Returns:
        tasks that were measured when the driver was killed, and its successor's status.
    """
    driver = made.start("--launches", "20")
    made.until(lambda state: made.is_measuring("b"))
    os.kill(made.nodes.raylets["b"], signal.SIGKILL)
    made.until(lambda state: lost_on(state, "b"))
    del made.more["b"]
    made.nodes.add(made.node("b", "H200"))
    made.until(lambda state: len(state.measured) >= 10)
    driver.kill()
    driver.wait()
    assert [] == made.gone()
    before = {task.id for task in made.state.measured}
    driver = made.start("--launches", "20", "--resume")
    made.until(lambda state: made.is_measuring("d"))
    cut_off = made.nodes.raylets["d"]
    os.kill(cut_off, signal.SIGSTOP)
    made.until(lambda state: "d is gone" in made.text)
    os.kill(cut_off, signal.SIGCONT)
    made.nodes.add(made.node("d", "H100"))
    return before, driver.wait(PATIENCE_S * 4)


@pytest.mark.slow
def test_sixty_launches_outlive_every_fault(fleet, tmp_path):
    """Killed hosts, a killed driver, a partition, a slow host and a full disk.

    Nothing that was measured is lost, nothing is measured twice without being told, and
    no process is left.
    """
    hosts = {"a": "H200", "b": "H200", "c": "H100", "d": "H100"}
    hosts |= {"slow": "H200", "full": "H200"}
    full = {FAULT: FULL, ACKNOWLEDGED: str(tmp_path / "acknowledged")}
    more = {"b": LINGERING, "slow": SLOW, "full": full}
    made = fleet(hosts, gpus=2, more=more)

    before, status = through_faults(made)

    assert status in (0, 1), made.text
    state = made.state
    assert 60 == len(state.tasks) == len(state.measured), made.text
    assert before <= {task.id for task in state.measured}
    counts = placements(made.run_dir)
    for task in state.tasks.values():
        assert counts[task.id] <= len(task.attempts) + state.sessions
        if task.id in before:
            assert counts[task.id] == len(task.attempts) + 1
    rows = launches(made.run_dir)
    assert 60 == len(rows) == len(set(rows))
    assert all(row.task in made.text for row in state.twice)
    texts = [file.read_text() for file in made.folder.glob("output-*")]
    assert "full is set aside: 3 launches in a row failed" in "".join(texts)
    assert "no space left on device" in "".join(texts)
    assert "on slow is " in made.text
    assert not [task for task in state.measured if task.host == "full"]
    assert [] == made.gone()


def lost_on(state, host):
    """Whether a launch was lost with that host."""
    for task in state.tasks.values():
        for row in task.attempts:
            if (row.host, row.outcome) == (host, "lost"):
                return True
    return False


@pytest.mark.slow
def test_a_cancelled_fleet_is_gone_on_every_host(fleet):
    """Within ten seconds of a Ctrl-C; the run goes on with --resume."""
    made = fleet({"a": "H200", "b": "H200"})
    driver = made.start("--launches", "2")
    made.until(lambda state: made.is_measuring("a") and made.is_measuring("b"))
    began = time.monotonic()
    driver.send_signal(signal.SIGINT)

    assert [] == made.gone()
    assert time.monotonic() - began < GONE_S
    assert 2 == driver.wait(PATIENCE_S), made.text
    assert "Stopped on all hosts" in made.text
    assert [] == [row for row in made.state.tasks.values() if row.attempts]
