"""Sessions that measure nothing say so in every file that a CI job shows."""

from __future__ import annotations

import signal
import sys

import pytest

from perfgate.results.schema import load
from tests.support.fault_checker import Findings, check_reports
from tests.support.small_project import Project

WRONG_MARK = """
import pytest

@pytest.mark.perf(question=print)
def test_wrong(check, case):
    check(case)
"""


@pytest.fixture
def small(tmp_path):
    """A small project."""
    return Project(tmp_path)


@pytest.fixture
def played(small, tmp_path):
    """A session in a job of GitHub Actions, to its end; returns it and what the job shows."""

    def play(*options, stop=None, **more):
        summary = tmp_path / "step-summary.md"
        job = {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(summary)}
        env = job | more.pop("env", {})
        words = ("--run-dir", str(small.runs / "r"), "--perf-report", "yes")
        session = small.start(*words, *options, env=env, **more)
        if stop is not None:
            stop(session)
        session.wait()
        return session, summary.read_text()

    return play


def is_whole(small):
    """Whether all files are there, and can be read."""
    found = Findings()
    check_reports(small.runs / "r", found)
    return found.lines == []


@pytest.mark.parametrize(
    ("gate", "status", "level"),
    [("advisory", 0, "::warning"), ("required", 1, "::error")],
)
def test_other_hardware(small, played, gate, status, level):
    """Summary, annotation and JUnit name what is missing; a required gate fails."""
    session, summary = played(f"--gate={gate}", env={"FAKE_GPU_KIND": "h100"})

    assert status == session.process.returncode
    assert is_whole(small)
    reason = "needs 1x H200, found 1x NVIDIA H100"
    assert f"No verdict: nothing was measured ({reason}" in summary
    (line,) = [row for row in session.output.splitlines() if "::" in row[:3]]
    assert line.startswith(f"{level} title=perfgate measured nothing::")
    assert reason in line
    assert reason in (small.runs / "r" / "junit.xml").read_text()
    lacking = load(small.runs / "r").lacking
    assert lacking
    assert all(reason in text for text in lacking.values())


def test_no_engine(small, played):
    """Its Python is not there: pytest does not start, and the job shows why."""
    gone = f"fake={sys.executable}-gone"
    session, summary = played("--gate=required", "--engine-python", gone)

    assert 4 == session.process.returncode
    assert "perfgate did not start" in summary
    assert f"{sys.executable}-gone" in summary
    assert "::error title=perfgate did not start::" in session.output


def test_every_start_failed(small, played):
    """The reason is in the first line of the summary."""
    faults = "mixtral-8x7b: --exit-at-start 3"
    session, summary = played(
        "-k", "mixtral and not over", env={"FAKE_MISBEHAVIOUR": faults}
    )

    assert 1 == session.process.returncode
    assert is_whole(small)
    assert "1 server failed" in summary.splitlines()[0]
    assert "::error title=fake-mixtral-8x7b-tp1 failed::" in session.output


def test_interrupted_before_a_launch(small, played, tmp_path):
    """While it waits for the GPUs, which another session holds."""
    other = small.start("--run-dir", str(small.runs / "other"))
    other.wait_until(lambda: "launching" in other.output)

    def interrupt(session):
        session.wait_until(lambda: "waiting" in session.output)
        session.send(signal.SIGINT)

    session, summary = played(stop=interrupt)
    other.send(signal.SIGINT)

    assert 2 == session.process.returncode
    assert is_whole(small)
    assert "interrupted before a server was launched" in summary


def test_a_usage_error_of_a_test(small, played):
    """The run directory exists by then."""
    wrong = small.folder / "tests" / "perf" / "test_wrong.py"
    wrong.write_text(WRONG_MARK)
    session, summary = played()

    assert session.process.returncode not in (0, 1)
    assert is_whole(small)
    assert "No verdict: nothing was measured" in summary


def test_the_same_command_measures_later(small, played):
    """A run without a launch does not keep its run directory."""
    played(env={"FAKE_GPU_KIND": "h100"})
    session, _ = played("-k", "test_each")

    assert 0 == session.process.returncode
    assert load(small.runs / "r").launches
    assert is_whole(small)
