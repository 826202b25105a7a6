"""`perfgate fleet`: what is refused, and a stored run that is judged again."""

from __future__ import annotations

import builtins

import pytest

from perfgate.cli import fleet as commands
from perfgate.cli.main import main
from perfgate.fleet import machines
from perfgate.fleet.state import EventFile
from perfgate.results import schema
from tests.support import builders
from tests.support.fake_cluster import unit
from tests.support.fleets import begun, finished, placed


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


def test_a_stored_run_is_shown(call, tmp_path):
    """By machine and by fleet, with a run for each machine."""
    folder = tmp_path / "run"
    folder.mkdir()
    file = EventFile(folder)
    for event in (
        begun(unit("one")),
        placed("u01-l001", "a"),
        finished("u01-l001", "a"),
    ):
        file.append(event)
    results = builders.run(
        {builders.MOE_LOAD: {"output_throughput": [1000.0]}},
        [builders.THROUGHPUT],
    )
    schema.save(results, machines.part_dir(folder, "u01-l001"))

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
