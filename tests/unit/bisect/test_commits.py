"""Commits: the first parents between two commits of a real checkout."""

from __future__ import annotations

import os
import subprocess

import pytest

from perfgate.bisect.commits import first_parents
from perfgate.bisect.state import BadBisection

ENVIRONMENT = {
    **os.environ,
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_AUTHOR_NAME": "a",
    "GIT_AUTHOR_EMAIL": "a@b",
    "GIT_COMMITTER_NAME": "a",
    "GIT_COMMITTER_EMAIL": "a@b",
}


@pytest.fixture
def checkout(tmp_path):
    """First, then second and a branch that is merged as third, then fourth."""

    def git(*words):
        subprocess.run(
            ["git", "-C", tmp_path, *words],
            check=True,
            capture_output=True,
            env=ENVIRONMENT,
        )

    def commit(subject):
        git("commit", "--allow-empty", "-m", subject)

    git("init", "-b", "main")
    commit("First")
    git("tag", "v1")
    commit("Second")
    git("checkout", "-b", "side", "v1")
    commit("Aside")
    git("checkout", "main")
    git("merge", "--no-ff", "-m", "Third", "side")
    commit("Fourth")
    return tmp_path


def test_commits_from_good_to_bad(checkout):
    """The good one first, a merge as one commit."""
    found = first_parents(checkout, "v1", "main")

    subjects = [commit.subject for commit in found]
    assert ["First", "Second", "Third", "Fourth"] == subjects
    assert {12} == {len(commit.name) for commit in found}


@pytest.mark.parametrize(
    ("good", "bad", "tried"),
    [
        ("nothing", "main", "reading nothing"),
        ("v1", "nothing", "reading nothing"),
        ("main", "v1", "listing the commits main..v1"),
        ("v1", "v1", "listing the commits v1..v1"),
    ],
)
def test_commits_that_are_none(checkout, good, bad, tried):
    """Unknown, or in another order."""
    with pytest.raises(BadBisection) as caught:
        first_parents(checkout, good, bad)

    assert tried in caught.value.tried
    assert caught.value.seen


def test_folder_that_is_no_checkout(tmp_path):
    """What git says of it."""
    with pytest.raises(BadBisection) as caught:
        first_parents(tmp_path / "none", "a", "b")

    assert "--checkout" in caught.value.remedy


def test_machine_without_git(tmp_path, monkeypatch):
    """Builds can be listed by hand."""
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(BadBisection) as caught:
        first_parents(tmp_path, "a", "b")

    assert "--builds" in caught.value.remedy
