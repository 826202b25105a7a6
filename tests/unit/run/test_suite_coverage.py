"""Suite coverage: files that were not read, and cases that were not selected."""

import pytest

from perfgate.run.suite_coverage import SuiteCoverage


@pytest.fixture
def suite(tmp_path):
    """A folder with two test files and one that is none."""
    folder = tmp_path / "tests" / "perf"
    folder.mkdir(parents=True)
    for name in ("test_a.py", "test_b.py", "conftest.py"):
        (folder / name).touch()
    return folder


def test_a_whole_session_leaves_nothing_out(suite, tmp_path):
    """Every test file was read and every case selected."""
    coverage = SuiteCoverage([suite], tmp_path)
    coverage.files = {suite / "test_a.py", suite / "test_b.py"}
    coverage.ids = {"one", "two"}

    assert () == coverage.left_out({"one", "two", "three"})


def test_files_are_shown_relative_to_the_project(suite, tmp_path):
    """A file that was not read is left out, by its path."""
    coverage = SuiteCoverage([suite], tmp_path)
    coverage.files = {suite / "test_a.py"}

    assert ("tests/perf/test_b.py",) == coverage.left_out(())


def test_a_suite_elsewhere_is_shown_by_its_whole_path(suite, tmp_path):
    """The shipped perf tests lie outside the project."""
    coverage = SuiteCoverage([suite / "test_a.py"], tmp_path / "project")

    assert (str(suite / "test_a.py"),) == coverage.left_out(())


def test_cases_are_counted(tmp_path):
    """One line for all cases that were not selected."""
    coverage = SuiteCoverage([], tmp_path)
    coverage.ids = {"one", "two", "three"}

    (line,) = coverage.left_out({"two"})

    assert line.startswith("2 cases not selected (-k, -m")
