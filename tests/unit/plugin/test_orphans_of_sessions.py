"""Orphans: what survives a session and its supervisor is named by the next session."""

from __future__ import annotations

import os
import re
import signal
import subprocess

import pytest

from perfgate.servers.supervisor.processes import running_processes
from tests.support.small_project import Project, measures
from tests.support.survivors import arguments

DEAF = "llama-3.1-8b: --children 2 --children-own-session --children-ignore-sigterm"
ONE = ("-k", "test_each and llama")


@pytest.fixture
def small(tmp_path):
    """A small project."""
    return Project(tmp_path)


def test_the_next_session_names_them_and_how_to_end_them(small):
    """It is refused; after the command that it shows it measures."""
    first = small.runs / "first"
    session = small.start(
        *ONE, "--run-dir", str(first), env={"FAKE_MISBEHAVIOUR": DEAF}
    )
    session.wait_for(first, measures)
    name = f"for-pid-{session.process.pid}".encode()
    for pid in running_processes():
        if name in arguments(pid):
            os.kill(pid, signal.SIGKILL)
    session.send(signal.SIGKILL)

    refused = small.start(*ONE, "--run-dir", str(small.runs / "second"))
    status = refused.wait()

    left = session.running()
    command = re.search(r"kill -9 [0-9 ]+", refused.output)
    try:
        assert 1 == status
        assert "neither that session nor its supervisor does" in refused.output
        assert left
        assert all(line.split(":")[0] in refused.output for line in left)
    finally:
        subprocess.run(command[0].split(), check=True)
    assert [] == session.survivors()
    third = small.start(*ONE, "--run-dir", str(small.runs / "third"))
    assert 0 == third.wait(), third.output
