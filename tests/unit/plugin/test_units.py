"""Units of a project: listed by --units, selected by --unit, in whole runs of pytest."""

from __future__ import annotations

import pytest

from perfgate.results.schema import load
from perfgate.run import units
from tests.support.projects import DENSE, H200, MOE, outcomes

pytest_plugins = ["pytester"]


def test_units_are_listed_and_nothing_is_launched(gpus, pytester):
    """Both models of a ratio are of one unit; this machine lacks nothing for it."""
    gpus(*H200, "--units", "units.json")

    listed = units.read((pytester.path / "units.json").read_bytes())
    (unit,) = listed.units
    assert {DENSE, MOE} == set(unit.servers)
    assert (1, "h200", ()) == (unit.gpu_count, unit.gpu, unit.lacks)
    assert not (pytester.path / "runs").exists()


def test_a_unit_is_told_what_this_machine_lacks(gpus, pytester, monkeypatch):
    """A host of another kind lists the unit, and the GPUs that it does not have."""
    monkeypatch.setenv("FAKE_GPU_KIND", "l40s")
    gpus(*H200, "-k", "test_closed", "--units", "units.json")

    listed = units.read((pytester.path / "units.json").read_bytes())
    assert "l40s" == listed.kind
    assert 2 == len(listed.units)
    assert all("needs 1x H200" in " ".join(one.lacks) for one in listed.units)


def test_one_unit_is_measured_alone(gpus, pytester):
    """The servers of other units are not launched."""
    result = gpus(
        *H200, "-k", "test_closed", "--unit", f"h200:{MOE}", "--run-dir", "run"
    )

    assert 1 == sum(outcomes(result).values())
    results = load(pytester.path / "run")
    assert [MOE] == [launch.server for launch in results.launches]


@pytest.mark.parametrize("name", ["none", "fake-llama"])
def test_an_unknown_unit_is_refused(gpus, name):
    """With the units that there are."""
    result = gpus(*H200, "-k", "test_closed", "--unit", name)

    assert 4 == result.ret
    result.stderr.fnmatch_lines([f"*--unit {name}*", f"*h200:{DENSE}*"])


def test_a_list_that_cannot_be_written_is_a_message(gpus, pytester):
    """It ends the session as a bad option does."""
    pytester.mkdir("folder")

    result = gpus(*H200, "--units", "folder")

    assert pytest.ExitCode.USAGE_ERROR == result.ret
    assert "not a regular file" in result.stderr.str()
    assert "INTERNALERROR" not in result.stdout.str()
