"""Client processes that a workload declares: as many as there are CPU cores, and no more."""

from __future__ import annotations

import os

import msgspec
import pytest

from perfgate.load.measurement import client_processes
from perfgate.load.workload import UnusableWorkload, Workload
from perfgate.study import read_study
from perfgate.study.shipped import shipped

WORKLOAD = Workload(name="many", num_prompts=10)
# In the baselines of the shipped study.
RECORDED = (
    "sha256:892e9f359d0da9beb4e99074de586c05512bce393ee3a51a65e2909ad0f86ff1"
)


def test_a_workload_that_declares_none_starts_with_one():
    """One process is enough for most loads."""
    assert 1 == client_processes(WORKLOAD)


def test_more_processes_than_cores_are_refused(monkeypatch):
    """They would take turns on the cores, and read late."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 1, 2})
    three = msgspec.structs.replace(WORKLOAD, client_processes=3)
    four = msgspec.structs.replace(WORKLOAD, client_processes=4)

    assert 3 == client_processes(three)
    with pytest.raises(UnusableWorkload) as caught:
        client_processes(four)
    assert "sending many with 4 client processes" in str(caught.value)
    assert "this process may use 3 CPU cores" in str(caught.value)
    assert "client_processes of the workload to 3 at most" in str(caught.value)


def test_recorded_baselines_still_match():
    """A workload that does not set it has the fingerprint that baselines hold."""
    workload = read_study(shipped().study).workloads["gpu"]["batch-32"]

    assert RECORDED == workload.fingerprint()
