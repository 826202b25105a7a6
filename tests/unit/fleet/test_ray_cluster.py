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

import pytest

from perfgate.fleet import machines
from perfgate.fleet import state as states
from perfgate.results.schema import load
from tests.support import fake_suite
from tests.support.projects import MOE
from tests.support.ray_nodes import Node, RayNodes
from tests.support.small_project import Project
from tests.support.survivors import tagged

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


class Fleet:
    """A project, and the nodes that measure it.

    Args:
        names: host's name -> product of its GPUs.
    """

    def __init__(self, folder, names, gpus=1):
        self.folder = folder
        self.project = Project(folder / "project")
        self.tag = uuid.uuid4().hex
        self.run_dir = folder / "run"
        nodes = []
        for name, product in names.items():
            env = {
                "FAKE_GPUS": str(gpus),
                "FAKE_GPU_KIND": product.lower(),
                "FAKE_GPU_HOST": f"-{name}",
                "PERFGATE_LEASES_DIR": str(folder / "leases" / name),
                "PERFGATE_FLEET_DIR": str(folder / "spool" / name),
            }
            nodes.append(Node(name, gpus, 2, product, env))
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

    def start(self, *options, platform=BOTH):
        """The command `perfgate fleet run`."""
        arguments = fake_suite.options(self.project.folder / "models")
        command = [sys.executable, "-m", "perfgate", "fleet", "run"]
        command += ["--address", self.nodes.address]
        command += ["--run-dir", str(self.run_dir), *options, "--"]
        self.output = self.folder / f"output-{uuid.uuid4().hex}.txt"
        with self.output.open("w") as output:
            return subprocess.Popen(
                [*command, *arguments, *platform],
                cwd=self.project.folder,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self.nodes.env,
                start_new_session=True,
            )

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
        one.nodes.__exit__()
    assert [] == made[0].gone()


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
    made = fleet({"a": "H200", "b": "H200", "c": "H100"})
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
