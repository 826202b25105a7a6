"""`perfgate bisect` in whole: it launches builds of the fake engine, and is killed and resumed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from perfgate.bisect.state import STATE_FILE, read
from perfgate.results.schema import load
from tests.support import fake_suite
from tests.support.projects import ROOT, perfgate

pytest_plugins = ["pytester"]
LOAD = ("-m", "cpu", "-k", "test_output_throughput and llama")
SLOW = "--set itl_s=0.002"


@pytest.fixture
def builds(project, pytester):
    """Four builds: the second one does not start, the third takes twice as long a token."""
    scripts = {
        "one": f'exec {sys.executable} "$@"',
        "two": f'case "$*" in *--port*) exit 3;; esac; exec {sys.executable} "$@"',
        "three": f'case "$*" in *--port*) set -- "$@" {SLOW};; esac; '
        f'exec {sys.executable} "$@"',
    }
    scripts["four"] = scripts["three"]
    lines = []
    for name, text in scripts.items():
        script = pytester.path / f"python-{name}"
        script.write_text(f"#!/bin/sh\n{text}\n")
        script.chmod(0o755)
        lines.append(f"{name}={script}")
    (pytester.path / "builds.txt").write_text("\n".join(lines))


def command(pytester, *options):
    """The words of the command after `perfgate`."""
    common = fake_suite.options(pytester.path / "models")
    return [
        *("bisect", "--engine", "fake", "--builds", "builds.txt", *options),
        *("--", "-p", "no:cacheprovider", *common, *LOAD),
    ]


def kill_after_first_session(pytester, words):
    """Begin, and kill everything of it in the middle of the second session."""
    code = (
        f"import sys; sys.path[:0] = [{str(ROOT)!r}]; "
        "from perfgate.cli.main import main; main()"
    )
    state = pytester.path / "runs" / "bisect" / STATE_FILE
    with subprocess.Popen(
        [sys.executable, "-c", code, *words],
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        while not state.exists() and process.poll() is None:
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGKILL)
    return read(state).sessions


def test_bisect_finds_the_slower_build_after_a_kill(builds, pytester):
    """The same command goes on: which build, how much, why, and how to see it again."""
    words = command(pytester)
    before = kill_after_first_session(pytester, words)

    done = perfgate(pytester, *words)

    assert 0 == done.ret, done.stdout.str() + done.stderr.str()
    done.stdout.fnmatch_lines(
        [
            "*1  one  */python-one",
            "4 builds: 6 pairs at least, 3 pairs to find the build and 3 to *",
            "*four is bad, as given: fake-llama-small-tp2*throughput loss *",
            "*no pair of two: exited with status 3*",
            "*build 3 of 4, three: pair 1, * left at least, *",
            "*three is bad: *",
            "*confirming: three against one, 3 pairs*",
            "FOUND: one of two; three: *output_throughput loss +50.0 % (*)",
            "  last good build: one",
            "  The builds between them could not be compared: *",
            "  measured: * to find it, 3 to confirm it, *",
            "  verdict: REGRESSED, *-50.0 % vs the base build*",
            "CAUSE: *",
            "See it again: pytest * --engine-python *three* --against-engine *one*",
        ]
    )
    folder = pytester.path / "runs" / "bisect"
    sessions = read(folder / STATE_FILE).sessions
    assert before == sessions[: len(before)]
    assert [1] == [len(row.values) for row in before[0].rows.values()]
    assert sessions[-1].confirms
    assert 6 == len(load(folder / sessions[-1].run).launches)

    again = perfgate(pytester, *words)

    assert 0 == again.ret
    again.stdout.fnmatch_lines(["*A pair takes *", "FOUND: one of two; three*"])
    again.stdout.no_fnmatch_line("*: pair 1*")


def test_bisect_shows_why_pytest_ran_nothing(builds, pytester):
    """Its last lines, and the file that has all of them: status 2."""
    words = command(pytester)
    words[words.index("cpu")] = "cpuu"

    done = perfgate(pytester, *words)

    assert 2 == done.ret
    done.stderr.fnmatch_lines(
        ["*exit status 4: the last lines of *pytest.log*", "*no such marker*"]
    )
