"""Host: an order runs pytest on this machine, and its results come back as they are measured.

Whole sessions with the fake engine, in processes of their own.
"""

from __future__ import annotations

import os
import time

import pytest

from perfgate.fleet import host, machines, mirror
from perfgate.fleet.orders import (
    Check,
    Ended,
    Gone,
    Kept,
    Listed,
    Measure,
    Piece,
    Said,
    Sweep,
)
from perfgate.results.schema import load
from perfgate.run import units
from tests.support import fake_suite
from tests.support.projects import DENSE, H200, MOE
from tests.support.small_project import Project

EACH = ("-k", "test_each")


@pytest.fixture
def project(tmp_path):
    """A project of two models on one H200, each measured by itself."""
    return Project(tmp_path / "project")


@pytest.fixture
def env(tmp_path, project):
    """Variables of a host."""
    return os.environ | {
        "FAKE_GPUS": "1",
        "PERFGATE_LEASES_DIR": str(tmp_path / "leases"),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        host.SPOOL: str(tmp_path / "spool"),
    }


def arguments(project, *more):
    """What is measured."""
    options = fake_suite.options(project.folder / "models")
    return (*options, *H200, *EACH, *more)


def order(project, unit=f"h200:{MOE}", limit_s=120.0):
    """One launch of a model."""
    return Measure(
        arguments=arguments(project),
        project=str(project.folder),
        fleet="f1",
        task="u01-l001",
        unit=unit,
        limit_s=limit_s,
    )


def measured(messages, copy):
    """Take in all messages as a driver would; returns the others."""
    others = []
    for message in messages:
        if isinstance(message, (Piece, Gone)):
            mirror.apply(copy, message)
        elif not isinstance(message, Said):
            others.append(message)
    return others


def test_a_host_lists_what_it_can_measure(project, env):
    """By the same command as a session; a bad argument comes back with pytest's words."""
    check = Check(arguments=arguments(project), project=str(project.folder))

    listed, ended = host.carry_out(check, env)

    assert isinstance(listed, Listed)
    assert Ended(status=0) == ended
    assert {f"h200:{DENSE}", f"h200:{MOE}"} == {
        one.name for one in units.read(listed.content).units
    }
    bad = Check(arguments=("-m", "h300"), project=str(project.folder))
    (refused,) = host.carry_out(bad, env)
    assert 4 == refused.status
    assert "h300" in refused.reason


def test_a_launch_is_measured_kept_and_swept(project, env, tmp_path):
    """The copy is the run; what a host has measured stays until it is delivered."""
    copy = tmp_path / "copy"

    others = measured(host.carry_out(order(project), env), copy)

    assert [Ended(status=0)] == others
    assert "" == machines.inspect(copy, "a").problem
    assert [MOE] == [row.server for row in load(copy).launches]
    assert (copy / "pytest.log").exists()
    again = measured(host.carry_out(order(project), env), tmp_path / "again")
    assert [Ended(status=0)] == again
    assert load(copy).launches == load(tmp_path / "again").launches
    spool = host.spool_of(env, "f1")
    elsewhere = Sweep(fleet="f1", delivered=(), elsewhere=("u01-l001",))
    kept, _ = host.carry_out(elsewhere, env)
    assert Kept(folders={"u01-l001": str(spool / "u01-l001")}) == kept
    kept, _ = host.carry_out(Sweep(fleet="f1", delivered=("u01-l001",)), env)
    assert Kept(folders={}) == kept
    assert not spool.exists()


def test_a_cancelled_launch_ends_its_session_and_can_go_on(
    project, env, tmp_path
):
    """Closed in the middle, its processes are gone; what was measured stays on the host."""
    copy = tmp_path / "copy"
    messages = host.carry_out(order(project), env)
    for message in messages:
        if isinstance(message, (Piece, Gone)):
            mirror.apply(copy, message)
        if (copy / "results.json").exists() and load(copy).measurements:
            break
    began = time.monotonic()
    messages.close()

    assert time.monotonic() - began < 10
    assert not load(copy).complete
    assert [Ended(status=0)] == measured(
        host.carry_out(order(project), env), copy
    )
    assert "" == machines.inspect(copy, "a").problem


def test_other_gpus_begin_anew(project, env, tmp_path):
    """What another GPU of the host has measured is of another machine."""
    for gpu in ("0", "1"):
        own = env | {"FAKE_GPUS": "2", "CUDA_VISIBLE_DEVICES": gpu}
        copy = tmp_path / gpu
        assert [Ended(status=0)] == measured(
            host.carry_out(order(project), own), copy
        )
        assert [int(gpu)] == [one.index for one in load(copy).hardware.gpus]
    folders = sorted(path.name for path in host.spool_of(env, "f1").iterdir())
    assert ["u01-l001@0", "u01-l001@1"] == folders


@pytest.mark.parametrize("fault", ["limit", "disk", "unit"])
def test_what_did_not_work_is_told(project, env, tmp_path, fault):
    """After the time limit, without a place to write, for a unit that is not there."""
    asked = order(project)
    expected = "no selected test is of that unit"
    if fault == "limit":
        asked, expected = order(project, limit_s=0.5), "not done after"
    elif fault == "disk":
        (tmp_path / "spool").write_text("no folder")
        expected = "cannot be written"
    else:
        asked = order(project, unit="none")

    (ended,) = measured(host.carry_out(asked, env), tmp_path / "copy")

    assert expected in ended.reason
