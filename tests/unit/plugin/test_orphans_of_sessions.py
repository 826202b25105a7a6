"""Orphans: what survives a session and its supervisor is named by the next session."""

from __future__ import annotations

import signal

import pytest

from benchmarks.fault_table import kill, supervisors
from tests.support.small_project import Project, end_what_is_named, measures

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
    kill(signal.SIGKILL, supervisors)(session)
    session.send(signal.SIGKILL)

    refused = small.start(*ONE, "--run-dir", str(small.runs / "second"))
    end_what_is_named(refused, session)
    third = small.start(*ONE, "--run-dir", str(small.runs / "third"))
    assert 0 == third.wait(), third.output
