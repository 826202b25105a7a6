"""`perfgate fleet`: what is refused, and a stored run that is judged again."""

from __future__ import annotations

import builtins
import signal

import pytest

from perfgate.cli import fleet as commands
from perfgate.cli.main import main
from perfgate.fleet import machines, ray_cluster
from perfgate.fleet.state import EventFile
from perfgate.results import schema
from tests.support import builders
from tests.support.fake_cluster import FakeCluster, unit
from tests.support.fleets import begun, finished, host, placed


@pytest.fixture(autouse=True)
def project_folder(tmp_path, monkeypatch):
    """A project without anything."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def no_ray(monkeypatch):
    """An environment without the extra."""
    import_module = builtins.__import__

    def refuse(name, *arguments, **more):
        if name.partition(".")[0] == "ray":
            raise ImportError("No module named 'ray'")
        return import_module(name, *arguments, **more)

    monkeypatch.setattr(builtins, "__import__", refuse)


@pytest.mark.parametrize("command", ["check", "run"])
def test_arguments_of_pytest_are_needed(call, command):
    """A fleet does not guess what is measured."""
    done = call(main, "fleet", command)

    assert 2 == done.exit_code
    assert "such as -- -m gpu" in done.output


def test_resume_needs_the_folder(call):
    """There is no last run to guess."""
    done = call(main, "fleet", "run", "--resume", "--", "-m", "gpu")

    assert 2 == done.exit_code
    assert "--run-dir DIR" in done.output


def test_without_ray_the_extra_is_named(call, no_ray, tmp_path):
    """And nothing is left of a run that could not begin."""
    done = call(main, "fleet", "run", "--run-dir", "run", "--", "-m", "gpu")

    assert 2 == done.exit_code
    assert "pip install 'perfgate[fleet]'" in done.output
    assert not (tmp_path / "run").exists()


class Interrupted(FakeCluster):
    """A cluster of one host, during whose check somebody hits Ctrl-C."""

    def __init__(self, address):
        super().__init__([host("a")], {"a": "h200"}, [unit("one")], None)

    def wait(self, timeout_s):
        """Nothing comes."""
        raise KeyboardInterrupt


@pytest.mark.parametrize("is_begun", [False, True])
def test_ctrl_c_says_how_to_go_on_where_there_is_a_run(
    call, tmp_path, monkeypatch, is_begun
):
    """One that was stopped while hosts were checked has none to go on with."""
    handler = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(ray_cluster, "RayCluster", Interrupted)
    options = ["--run-dir", "run"]
    if is_begun:
        stored(tmp_path / "run", 1000.0)
        options.append("--resume")

    done = call(main, "fleet", "run", *options, "--", "-m", "gpu")
    signal.signal(signal.SIGTERM, handler)

    assert 2 == done.exit_code
    again = f"Go on with: --run-dir {tmp_path / 'run'} --resume"
    assert is_begun == (again in done.output)
    assert is_begun != ("Nothing was begun." in done.output)


def stored(folder, value, number=1):
    """A fleet's run with one launch of this throughput."""
    folder.mkdir()
    file = EventFile(folder)
    for event in (
        begun(unit("one"), fleet=f"f{number}"),
        placed("u01-l001", "a"),
        finished("u01-l001", "a"),
    ):
        file.append(event)
    results = builders.run(
        {builders.MOE_LOAD: {"output_throughput": [value]}},
        [builders.THROUGHPUT],
        run_id=f"2026010{number}-000000-1",
    )
    schema.save(results, machines.part_dir(folder, "u01-l001"))
    return folder


def test_the_run_of_a_machine_is_a_run(call, tmp_path):
    """It is accepted, judged and reported as any other; a later loss is red."""
    folders = []
    for number, factor in enumerate(builders.QUIET, 1):
        folder = stored(tmp_path / f"run-{number}", 1000.0 * factor, number)
        call(main, "fleet", "show", folder)
        folders += (folder / "machines").iterdir()
    lost = stored(tmp_path / "lost", 900.0, 9)
    call(main, "fleet", "show", lost)
    (machine,) = (lost / "machines").iterdir()
    store = tmp_path / "baselines"

    accepted = call(main, "accept", *folders, "--baselines", store)
    judged = call(main, "judge", machine, "--baselines", store)
    reported = call(main, "report", machine, "--out", tmp_path / "page")

    assert 0 == accepted.exit_code, accepted.output
    assert f"{len(folders)} of {len(folders)} runs" in accepted.output
    assert 1 == judged.exit_code, judged.output
    assert "-10.0 % (slower)" in judged.output
    assert 0 == reported.exit_code, reported.output
    assert (tmp_path / "page" / "report.html").exists()


def test_a_stored_run_is_shown(call, tmp_path):
    """By machine and by fleet, with a run for each machine."""
    folder = stored(tmp_path / "run", 1000.0)

    done = call(main, "fleet", "show", str(folder))

    assert 0 == done.exit_code, done.output
    assert "Undecided: 0 of 1 rows passed on 1 machine (1x h200)" in done.output
    assert "INCOMPARABLE" in done.output
    assert 1 == len(list((folder / "machines").iterdir()))
    strict = call(main, "fleet", "show", str(folder), "--gate", "strict")
    assert 1 == strict.exit_code


def test_a_folder_without_a_run_is_refused(call, tmp_path):
    """With what makes one."""
    done = call(main, "fleet", "show", str(tmp_path))

    assert 2 == done.exit_code
    assert "perfgate fleet run" in done.output


def test_every_subcommand_is_there():
    """What the group lists can be imported."""
    for name in commands.COMMANDS:
        assert commands.fleet.get_command(None, name) is not None
