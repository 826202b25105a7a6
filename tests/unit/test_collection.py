"""Perf tests are found below folders that pytest does not enter."""

import types

import pytest

from perfgate import collection


def config(folder, *arguments, named=False):
    """Pytest's configuration, started in a folder without or with paths."""
    sources = pytest.Config.ArgsSource
    return types.SimpleNamespace(
        stash=pytest.Stash(),
        args=list(arguments),
        args_source=sources.ARGS if named else sources.TESTPATHS,
        invocation_params=types.SimpleNamespace(dir=folder),
        getini=lambda name: ["build", ".*"],
    )


@pytest.fixture
def perf(tmp_path):
    """Perf tests in an installed package of a virtual environment."""
    path = tmp_path / ".venv" / "lib" / "suite" / "perf"
    path.mkdir(parents=True)
    (tmp_path / ".venv" / "pyvenv.cfg").touch()
    return path


def is_entered(collected, path):
    """Whether pytest is told to enter the folder."""
    return collection.pytest_ignore_collect(path, collected) is False


def test_only_the_route_is_entered(tmp_path, perf):
    """The folders down to the tests, and no other folder of the environment."""
    collected = config(tmp_path, str(tmp_path))

    collection.add_tests(collected, [perf])

    assert [str(tmp_path)] == collected.args
    assert is_entered(collected, tmp_path / ".venv")
    assert is_entered(collected, perf.parent)
    assert not is_entered(collected, tmp_path / ".venv" / "bin")
    assert not is_entered(collected, tmp_path / "build")


def test_tests_elsewhere_become_an_argument(tmp_path, perf):
    """They are below no folder that is collected."""
    other = tmp_path / "tests"
    other.mkdir()
    collected = config(other, str(other))

    collection.add_tests(collected, [perf])

    assert [str(other), str(perf)] == collected.args
    assert not is_entered(collected, tmp_path / ".venv")


def test_tests_that_pytest_finds_need_no_route(tmp_path):
    """No folder above them is one that it does not enter."""
    collected = config(tmp_path, str(tmp_path))

    collection.add_tests(collected, [tmp_path / "tests" / "perf"])

    assert [str(tmp_path)] == collected.args
    assert not is_entered(collected, tmp_path / "tests")


def test_named_paths_are_all_that_is_collected(tmp_path, perf):
    """Who names a path does not want the perf tests."""
    collected = config(tmp_path, str(tmp_path / "a.py"), named=True)

    collection.add_tests(collected, [perf])

    assert [str(tmp_path / "a.py")] == collected.args
    assert not is_entered(collected, tmp_path / ".venv")


@pytest.mark.parametrize("folder", ["build", ".tox"])
def test_norecursedirs_are_entered_on_the_route(tmp_path, folder):
    """Pytest's own patterns, also of the user."""
    collected = config(tmp_path, str(tmp_path))
    perf = tmp_path / folder / "perf"

    collection.add_tests(collected, [perf])

    assert is_entered(collected, tmp_path / folder)
