"""Faults: some rows of the fault table, with their checker; all of them with -m slow."""

from __future__ import annotations

import pytest

from benchmarks.fault_table import FAULTS, Fault, Row, judge, play
from tests.support.write_faults import FAULT

WRITES = {
    "interrupt at the 5th write": "5:interrupt",
    "SIGKILL at the 8th write": "8:sigkill",
    "SIGKILL within the 9th write": "9:torn",
    "disk full from the 7th write on": "7:disk-full",
    "I/O error at the 3rd write": "3:io-error",
}
SOME = (
    "none",
    "SIGINT five times",
    "supervisor and pytest killed",
    "a worker killed",
)


@pytest.mark.parametrize("fault", WRITES.values(), ids=WRITES)
def test_a_session_that_is_broken_off_at_a_write(tmp_path, fault):
    """Nothing acknowledged is lost, nothing unmeasured is whole, and --resume ends it."""
    broken = Fault(env={FAULT: fault})
    project, session = play(tmp_path, broken, wait_s=0.0, write=0)

    assert project.fault.exists()
    assert [] == judge(project, session, broken, Row()), session.output


@pytest.mark.parametrize("name", SOME)
def test_a_fault_under_load(tmp_path, name):
    """As above; the session, or its data, says what happened."""
    _hold(tmp_path, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in FAULTS if name not in SOME])
def test_every_fault_under_load(tmp_path, name):
    """As above."""
    _hold(tmp_path, name)


def _hold(folder, name):
    fault = FAULTS[name]
    project, session = play(folder, fault, wait_s=0.1, write=6)
    assert [] == judge(project, session, fault, Row()), session.output
