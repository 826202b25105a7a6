"""Doctor's findings about the limits of a container."""

import os

import pytest

from perfgate.cli.doctor_container import examine, examine_folders
from perfgate.machine.container import Limits

CORES = len(os.sched_getaffinity(0))


def findings(**given):
    """By subject."""
    return {finding.subject: finding for finding in examine(Limits(**given))}


def test_an_unlimited_machine_has_none():
    """Nothing is said of what does not limit."""
    assert {} == findings()
    assert {} == findings(cpu_quota_cores=float(CORES), pids=100_000)


@pytest.mark.parametrize(
    ("size", "seen", "is_todo"),
    [(64 * 2**20, "64 MiB", True), (2 * 2**30, "2 GiB", False)],
)
def test_shm_of_docker_is_a_todo(size, seen, is_todo):
    """The commonest failure of two ranks in a container."""
    found = findings(shm_bytes=size)["/dev/shm"]

    assert seen == found.seen
    assert is_todo is ("--shm-size" in (found.remedy or ""))
    assert not found.blocks


def test_quota_and_memory_are_told():
    """With what they mean."""
    found = findings(cpu_quota_cores=0.5, memory_bytes=2_000_000_000)

    assert f"0.5 of {CORES} cores" in found["CPU quota"].seen
    assert "2.0 GB for all processes" == found["memory limit"].seen


def test_few_processes_are_a_todo():
    """An engine fails with strange errors there."""
    assert "--pids-limit" in findings(pids=100)["process limit"].remedy


def test_folders_that_can_be_written_are_not_mentioned(tmp_path):
    """As on most machines."""
    assert [] == list(examine_folders(tmp_path, lambda: "/tmp"))


def test_no_home_and_no_temporary_folder_name_the_variables(tmp_path):
    """Under an arbitrary UID on a read-only file system."""

    def nowhere():
        raise FileNotFoundError(2, "No usable temporary directory found")

    home, temporary = examine_folders(tmp_path / "nowhere", nowhere)

    assert "set HOME" in home.remedy
    assert "set TMPDIR" in temporary.remedy
