"""Endings: every kind of session writes its reports, its history and its proposals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from perfgate.history.store import History
from perfgate.locations import HISTORY_FILE
from perfgate.results.schema import load
from tests.support import fake_suite
from tests.support.projects import H200, newest_run

pytest_plugins = ["pytester"]
RATIO = "test_reference_over_model_throughput"
WRITTEN = {"report.html", "summary.md", "junit.xml", "pytest-benchmark.json"}


def written(run_dir):
    """Names of the report files of a run."""
    return {path.name for path in run_dir.iterdir()} & WRITTEN


def runs_in(pytester):
    """Ids of the runs in the project's history."""
    return History(pytester.path / "runs" / HISTORY_FILE).runs()


def test_a_run_without_a_terminal_has_its_report(project, pytester):
    """With -p no:terminal nothing is printed, and everything is written."""
    settings = pytester.path / "pytest.ini"  # -ra is an option of the terminal
    settings.write_text(settings.read_text().replace("-ra ", ""))
    options = ["-p", "no:terminal", "--perf-report=yes", "--baseline-record"]
    result = project("-m", "cpu", "-k", RATIO, *options)

    run_dir = newest_run(pytester)
    assert (0, []) == (result.ret, result.outlines)
    assert WRITTEN == written(run_dir)
    assert {load(run_dir).run_id} == runs_in(pytester)
    assert (run_dir / "proposed-baselines" / "diff.md").is_file()


def test_a_server_of_somebody_else_is_reported(project, pytester):
    """A run with --attach has its report, and the run says whose server it was."""
    with fake_suite.running(itl_s=0.004) as url:
        attached = ["--attach", f"fake={url}", "--perf-report=yes"]
        result = project("-m", "cpu", "-k", "test_output_throughput", *attached)

    run_dir = newest_run(pytester)
    assert 0 == result.ret, result.stdout.str()
    result.stdout.fnmatch_lines(["report: *report.html*"])
    assert WRITTEN == written(run_dir)
    results = load(run_dir)
    assert {"fake-llama-small-tp2": url} == {
        key: server.attached for key, server in results.servers.items()
    }
    assert {results.run_id} == runs_in(pytester)


def test_workers_make_one_report(project, pytester, monkeypatch):
    """With -n 2 the controller writes it, and no worker does."""
    monkeypatch.setenv("FAKE_GPUS", "2")
    options = ["--tp", "1", "-n", "2", "--perf-report=yes", "--run-dir", "run"]
    result = project("-m", "h200", "-k", "test_single_stream", *options)

    assert 0 == result.ret, result.stdout.str()
    assert WRITTEN == written(pytester.path / "run")
    for worker in (pytester.path / "run" / "workers").iterdir():
        assert set() == written(worker)


def test_a_run_that_was_ended_early_has_a_report(project, pytester):
    """Ctrl-C in the middle: what was measured is reported as not whole, and no server stays."""
    options = fake_suite.options(pytester.path / "models")
    command = [
        sys.executable,
        "-m",
        "pytest",
        *options,
        "-m",
        "cpu",
        "--run-dir",
        "run",
    ]
    command += ["--perf-report=yes", "-k", "test_output_throughput"]
    # A shell ignores SIGINT for what it starts in the background.
    with subprocess.Popen(
        command,
        cwd=pytester.path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
        preexec_fn=lambda: signal.signal(
            signal.SIGINT, signal.default_int_handler
        ),
    ) as process:
        deadline = time.monotonic() + 60
        results = pytester.path / "run" / "results.json"
        while not (results.exists() and load(results).measurements):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        output = process.stdout.read().decode()

    run = load(pytester.path / "run")
    assert pytest.ExitCode.INTERRUPTED == process.returncode, output
    assert not run.complete
    assert WRITTEN == written(pytester.path / "run")
    assert all(launch.start.stop is not None for launch in run.launches)


def test_a_log_in_ascii_ends_no_session(gpus, pytester, monkeypatch):
    """What it cannot show of a folder's name is escaped, in the progress as in the summary."""
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    options = fake_suite.options(pytester.path / "models")
    words = [sys.executable, "-m", "pytest", *options, *H200]
    words += ["-k", "test_closed", "--run-dir", "läufe"]

    done = subprocess.run(words, capture_output=True, check=False)

    shown = done.stdout.decode("ascii")
    assert 0 == done.returncode, shown
    assert r"l\xe4ufe/logs" in shown
