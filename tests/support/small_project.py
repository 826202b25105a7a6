"""A small project, and its sessions as processes of their own.

With the fake engine a session takes a second or two: one or two servers, one short
workload. Real engines take their start-up on top.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psutil

from perfgate.errors import Failure
from perfgate.results import merge
from perfgate.results.schema import RunResults, load
from tests.support import fake_suite
from tests.support.projects import CONFTEST, PROJECT_FILE
from tests.support.survivors import arguments, tagged
from tests.support.survivors import running_processes as _running
from tests.support.write_faults import ACKNOWLEDGED, CAME

QUESTIONS = """
import pytest
from perfgate.cases import Load
from perfgate.load.workload import Synthetic, Workload

WORKLOAD = Workload(name="closed", num_prompts=4, max_concurrency=2, repetitions=3,
                    prompts=Synthetic(input_len_tokens=8, output_len_tokens=80))

def each(study):
    for server in study.models:
        yield study.value("E1", "itl_median_ms", server, WORKLOAD)

def ratio(study):
    of, over = (Load(server=server, workload=WORKLOAD) for server in study.models)
    yield study.ratio("E1", "itl_median_ms", of, over)

@pytest.mark.perf(cases=each)
def test_each(check, case):
    check(case)

@pytest.mark.perf(cases=ratio)
def test_ratio(check, case):
    check(case)
"""
SETTINGS = """
[pytest]
addopts = --import-mode=importlib --strict-markers
pythonpath = .
markers =
    slow: not used here
"""
WRITE_FAULTS = """
from tests.support import write_faults
write_faults.enter()
"""
H200 = ("-m", "h200", "--tp", "1")


class Project:
    """A folder with perf tests, baselines, leases and runs of its own.

    Args:
        options: what selects the engine and the models; the fake engine's if none.
        conftest: of its root.
    """

    def __init__(
        self,
        folder: Path,
        options: Sequence[str] = (),
        conftest: str = CONFTEST,
    ) -> None:
        self.folder = folder
        self.runs = folder / "runs"
        self.baselines = folder / "baselines"
        self.acknowledged = folder / "acknowledged"
        self.fault = folder / CAME  # exists once a fault of writing came
        (folder / "tests" / "perf").mkdir(parents=True)
        (folder / "conftest.py").write_text(conftest + WRITE_FAULTS)
        (folder / "pytest.ini").write_text(SETTINGS)
        (folder / "perfgate.toml").write_text(PROJECT_FILE)
        (folder / "tests" / "perf" / "test_small.py").write_text(QUESTIONS)
        self._options = options or fake_suite.options(folder / "models")

    def start(
        self,
        *options: str,
        env: Mapping[str, str] | None = None,
        platform: Sequence[str] = H200,
    ) -> SmallSession:
        """A session with these options of pytest."""
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider"]
        variables = {
            name: value
            for name, value in os.environ.items()
            if name not in ("CI", "GITHUB_ACTIONS", "PERFGATE_GATE")
        }
        variables |= {
            "FAKE_GPUS": "1",
            "PERFGATE_LEASES_DIR": str(self.folder / "leases"),
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            ACKNOWLEDGED: str(self.acknowledged),
            "PYTHONUNBUFFERED": "1",
            **(env or {}),
        }
        return SmallSession(
            self.folder,
            [*command, *self._options, *platform, *options],
            variables,
        )


class SmallSession:
    """A session in a process group of its own; its processes bear a tag."""

    def __init__(
        self, folder: Path, command: Sequence[str], env: Mapping[str, str]
    ) -> None:
        self.tag = uuid.uuid4().hex
        self._output = folder / f"output-{self.tag}.txt"
        with self._output.open("w") as output:
            self.process = subprocess.Popen(
                command,
                cwd=folder,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**env, "SURVIVOR_TAG": self.tag},
                start_new_session=True,
                preexec_fn=_hear_signals,
            )

    @property
    def output(self) -> str:
        """What it has printed."""
        return self._output.read_text(errors="replace")

    def wait(self, patience_s: float = 120.0) -> int:
        """Its exit status."""
        try:
            return self.process.wait(patience_s)
        except subprocess.TimeoutExpired:
            self._say_where_it_is()
            raise AssertionError(f"it does not end: {self.output}") from None

    def _say_where_it_is(self) -> None:
        """Let each process of the session print its stacks, and end it.

        pytest handles SIGABRT so, in workers too.
        """
        for process in psutil.Process(self.process.pid).children(
            recursive=True
        ):
            process.send_signal(signal.SIGABRT)
        time.sleep(1.0)
        self.process.send_signal(signal.SIGABRT)
        self.process.wait(10.0)

    def wait_for(
        self,
        run_dir: Path,
        when: Callable[[RunResults], bool],
        patience_s: float = 120.0,
    ) -> RunResults:
        """Wait until that holds of the run's results; they are returned."""
        self.wait_until(lambda: _holds(run_dir, when), patience_s)
        return load(run_dir)

    def wait_until(
        self, is_so: Callable[[], bool], patience_s: float = 120.0
    ) -> None:
        """Wait until something happens while it runs."""
        until = time.monotonic() + patience_s
        while self.process.poll() is None and time.monotonic() < until:
            if is_so():
                return
            time.sleep(0.02)
        raise AssertionError(f"it did not happen: {self.output}")

    def send(self, *numbers: signal.Signals, gap_s: float = 0.01) -> int:
        """Send signals one after another; returns the exit status."""
        for number in numbers:
            self.process.send_signal(number)
            time.sleep(gap_s)
        return self.wait()

    def survivors(self, patience_s: float = 30.0) -> list[str]:
        """Its processes, and their supervisors, that are left after that time."""
        until = time.monotonic() + patience_s
        while (left := self.running()) and time.monotonic() < until:
            time.sleep(0.1)
        return left

    def running(self) -> list[str]:
        """Its processes and supervisors that run now."""
        daemon = f"for-pid-{self.process.pid}".encode()
        daemons = [pid for pid in _running() if daemon in arguments(pid)]
        return [*tagged(self.tag), *(f"supervisor {pid}" for pid in daemons)]


def end_what_is_named(refused: SmallSession, session: SmallSession) -> None:
    """Follow the remedy of a session that was refused for what another one left.

    Each process that was left is named, and after the command that is shown none is.
    """
    status = refused.wait()
    left = session.running()
    command = re.search(r"kill -9 [0-9 ]+", refused.output)
    assert command is not None, refused.output
    try:
        assert 1 == status
        assert "neither that session nor its supervisor does" in refused.output
        assert left
        assert all(line.split(":")[0] in refused.output for line in left)
    finally:
        subprocess.run(command[0].split(), check=True)
    assert [] == session.survivors()


def _hear_signals() -> None:
    """A shell ignores SIGINT for what it starts in the background, and nohup SIGHUP."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def _holds(run_dir: Path, when: Callable[[RunResults], bool]) -> bool:
    """Whether there is a run of which that holds."""
    try:
        return when(load(run_dir))
    except Failure:
        return False


def is_measuring(run_dir: Path) -> bool:
    """Whether its session is in the middle of a launch."""
    return _holds(run_dir, measures)


def workers_measure(run_dir: Path) -> bool:
    """Whether a worker of its newest session is in the middle of a launch."""
    for session in sorted((run_dir / merge.FOLDER).glob("*"))[-1:]:
        parts = session.glob("*/results.json")
        return any(is_measuring(path.parent) for path in parts)
    return False


def measures(results: RunResults) -> bool:
    """Whether a launch has a repetition and wants more."""
    return bool(results.measurements) and bool(results.cut_off)
