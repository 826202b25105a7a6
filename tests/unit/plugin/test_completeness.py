"""Completeness: a run says that it is whole only if its data are, however it ended."""

from __future__ import annotations

import os
import signal

import pytest
from click.testing import CliRunner

from perfgate.cli.main import main
from perfgate.judge.baseline_store import Store
from perfgate.results.schema import load
from tests.support.small_project import Project, measures, workers_measure

DENSE = "fake-llama-3.1-8b-tp1"
ENDINGS = {
    "sigint": (signal.SIGINT,),
    "sigint-five-times": (signal.SIGINT,) * 5,
    "sigterm": (signal.SIGTERM,),
    "sigkill": (signal.SIGKILL,),
}


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A small project; its folder is where commands run."""
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.chdir(tmp_path)
    return Project(tmp_path)


def perfgate(*arguments):
    """A command; its exit status and all that it printed."""
    result = CliRunner().invoke(main, [str(word) for word in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result.exit_code, result.output


@pytest.mark.parametrize("signals", ENDINGS.values(), ids=ENDINGS)
def test_a_run_that_was_ended_is_not_whole(small, signals):
    """Nothing of the launch that was cut becomes a baseline or history; --resume ends it."""
    run = small.runs / "r"
    session = small.start("--run-dir", str(run))
    session.wait_for(run, measures)
    session.send(*signals)

    cut = load(run)
    assert (False, False) == (cut.complete, cut.is_whole)
    status, said = perfgate("judge", run, "--baselines", small.folder)
    assert (1, True) == (status, "The run was cut off in launch 1" in said)
    status, said = perfgate("accept", run, "--baselines", small.baselines)
    assert (1, True) == (status, "cut off before it had measured" in said)
    assert not small.baselines.exists()
    status, said = perfgate("history", "--runs", small.runs)
    assert (0, True) == (status, "no complete run" in said)
    assert [] == session.survivors()

    assert 0 == small.start("--run-dir", str(run), "--resume").wait()
    whole = load(run)
    assert (True, 3, []) == (
        whole.is_whole,
        len(whole.verdicts),
        [launch for launch in whole.launches if not launch.measured],
    )
    small.baselines.mkdir()
    perfgate("accept", run, "--baselines", small.baselines)
    ids = Store(small.baselines).recorded_ids("h200x1")
    assert {f"{DENSE}/closed/itl_median_ms"} <= ids


@pytest.mark.parametrize(
    ("word", "missing"),
    [("raise RuntimeError('odd')", 1), ("pytest.exit('enough')", 2)],
    ids=["error", "exit"],
)
def test_a_case_without_a_verdict_makes_a_run_incomplete(small, word, missing):
    """Whatever the test did instead of judging it."""
    tests = small.folder / "tests" / "perf" / "test_small.py"
    text = tests.read_text()
    body = f"    if 'mixtral' in case.id:\n        {word}\n    check(case)\n"
    tests.write_text(text.replace("    check(case)\n", body, 1))
    run = small.runs / "r"
    session = small.start("--run-dir", str(run))

    assert 0 != session.wait()

    results = load(run)
    assert (False, missing) == (results.complete, len(results.unanswered))
    assert "neither a verdict nor a reason" in session.output


def test_a_case_that_its_test_skips_is_answered(small):
    """By the reason of the skip."""
    tests = small.folder / "tests" / "perf" / "test_small.py"
    text = tests.read_text()
    body = "    if 'mixtral' in case.id:\n        pytest.skip('not today')\n"
    tests.write_text(text.replace("    check", f"{body}    check", 1))
    run = small.runs / "r"

    assert 0 == small.start("--run-dir", str(run)).wait()

    results = load(run)
    assert (True, ["not today"]) == (
        results.complete,
        list(results.skipped.values()),
    )


def test_a_case_that_is_expected_to_fail_is_answered(small):
    """By the reason of its mark, and not by the traceback of the failure."""
    tests = small.folder / "tests" / "perf" / "test_small.py"
    text = tests.read_text()
    mark = "@pytest.mark.xfail(reason='known')\n"
    text = text.replace("@pytest.mark.perf", f"{mark}@pytest.mark.perf", 1)
    body = "    if 'mixtral' in case.id:\n        raise ValueError\n"
    tests.write_text(text.replace("    check", f"{body}    check", 1))
    run = small.runs / "r"

    assert 0 == small.start("--run-dir", str(run)).wait()

    assert ["expected to fail: known"] == list(load(run).skipped.values())


def test_two_sessions_never_share_a_run_directory(small):
    """The second is refused with who holds it; the first one's data are whole."""
    run = small.runs / "r"
    first = small.start("--run-dir", str(run))
    first.wait_for(run, measures)
    # It is not to end while the others are refused, however slow these are.
    first.process.send_signal(signal.SIGSTOP)

    for options in ((), ("--resume",)):
        second = small.start("--run-dir", str(run), *options)
        assert pytest.ExitCode.USAGE_ERROR == second.wait(), second.output
        assert "another session uses it" in second.output or options == ()
        if options:
            assert f"pid {first.process.pid} of" in second.output

    first.process.send_signal(signal.SIGCONT)
    assert 0 == first.wait(), first.output
    assert load(run).is_whole
    assert not (run / "session.lock").exists()


def test_workers_resume_what_failed_once(small):
    """A start that failed is no result for a later session: it is tried again."""
    run = small.runs / "r"
    workers = ("-n", "2", "--run-dir", str(run))
    broken = {"FAKE_GPUS": "2"}
    broken["FAKE_MISBEHAVIOUR"] = "mixtral-8x7b: --exit-at-start 3"
    failed = small.start(*workers, env=broken)
    assert 1 == failed.wait()

    mended = small.start(*workers, "--resume", env={"FAKE_GPUS": "2"})

    assert 0 == mended.wait(), mended.output
    results = load(run)
    assert (True, 3) == (results.is_whole, len(results.verdicts))
    # The launch of the first session is kept, whichever worker has its tests now.
    assert [(DENSE, 0)] == [
        (launch.server, launch.index)
        for launch in results.launches
        if launch.server == DENSE
    ]


def test_workers_go_on_after_their_controller_was_killed(small):
    """What they had measured is merged first; a folder with their parts is no free one."""
    run = small.runs / "r"
    env = {"FAKE_GPUS": "2"}
    killed = small.start("-n", "2", "--run-dir", str(run), env=env)
    parts = run / "workers"
    while not list(parts.glob("*/*/results.json")):
        assert killed.process.poll() is None, killed.output
    killed.send(signal.SIGKILL)
    assert [] == killed.survivors()

    refused = small.start("-n", "2", "--run-dir", str(run), env=env)
    assert pytest.ExitCode.USAGE_ERROR == refused.wait()
    resumed = small.start("-n", "2", "--run-dir", str(run), "--resume", env=env)
    assert 0 == resumed.wait(), resumed.output
    assert load(run).is_whole


@pytest.mark.slow
def test_workers_go_on_after_two_interrupted_commands(small):
    """Nothing that a worker wrote is lost, and the third command ends the run."""
    run = small.runs / "r"
    env = {"FAKE_GPUS": "2"}
    options = ["-n", "2", "--run-dir", str(run)]
    for _ in range(2):
        session = small.start(*options, env=env)
        session.wait_until(lambda: workers_measure(run))
        os.killpg(session.process.pid, signal.SIGINT)  # as a terminal does
        assert 0 != session.wait()
        assert [] == session.survivors()
        assert not load(run).complete
        if "--resume" not in options:
            options.append("--resume")

    last = small.start(*options, env=env)
    assert 0 == last.wait(), last.output
    results = load(run)
    assert (True, 3) == (results.is_whole, len(results.verdicts))
