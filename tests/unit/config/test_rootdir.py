"""Root directory of pytest: the values of our options do not change it."""

from __future__ import annotations

from perfgate.config.rootdir import existing_path, join_values


def test_values_that_could_be_paths_are_joined(tmp_path, monkeypatch):
    """Only of our options, only where the path exists, and nothing after a double dash."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    options = ("--run-dir", "--baselines")

    assert ["--run-dir=run", "-k", "x"] == join_values(
        ["--run-dir", "run", "-k", "x"], options
    )
    assert ["--run-dir", "new"] == join_values(["--run-dir", "new"], options)
    assert ["--other", "run"] == join_values(["--other", "run"], options)
    assert ["--run-dir", "--plan"] == join_values(
        ["--run-dir", "--plan"], options
    )
    assert ["--run-dir"] == join_values(["--run-dir"], options)
    assert ["--", "--run-dir", "run"] == join_values(
        ["--", "--run-dir", "run"], options
    )


def test_files_of_arguments_are_read(tmp_path, monkeypatch):
    """They stay as they are where nothing in them is joined, or they cannot be read."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "own.txt").write_text("--run-dir\nrun\n-q\n")
    (tmp_path / "other.txt").write_text("-q\n")

    def joined(*arguments):
        return join_values(arguments, ["--run-dir"])

    assert ["-x", "--run-dir=run", "-q"] == joined("-x", "@own.txt")
    assert ["@other.txt"] == joined("@other.txt")
    assert ["@none.txt"] == joined("@none.txt")


def test_an_argument_too_long_for_a_file_name_names_no_path(tmp_path):
    """Such as the words of -k: the system refuses to look for them."""
    (tmp_path / "tests").mkdir()

    assert tmp_path / "tests" == existing_path("tests", tmp_path)
    assert tmp_path / "tests" == existing_path("tests::test_a", tmp_path)
    for argument in ("none", "-tests", "x" * 300, "x/" * 3000):
        assert None is existing_path(argument, tmp_path)
