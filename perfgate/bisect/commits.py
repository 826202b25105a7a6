"""Commits: the first parents between two commits of a checkout, for builds of them."""

from __future__ import annotations

import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path

from perfgate.bisect.state import BadBisection

DIGITS = 12  # of a commit's hash, as builds are named


@dataclass(frozen=True)
class Commit:
    """A commit of a checkout."""

    name: str
    subject: str


def first_parents(checkout: Path, good: str, bad: str) -> list[Commit]:
    """The good commit, and those after it up to the bad one, merges as one.

    Raises:
        BadBisection: one is unknown, or the bad one does not come after the good one.
    """
    start = _git(checkout, good, "log", "-1", "--format=%H%x09%s", good, "--")
    _git(checkout, bad, "rev-parse", "--verify", f"{bad}^{{commit}}")
    span = f"{good}..{bad}"
    later = _git(
        checkout,
        span,
        *("log", "--first-parent", "--reverse", "--format=%H%x09%s", span),
    )
    if not later or not _is_ancestor(checkout, good, bad):
        raise BadBisection(
            tried=f"listing the commits {span} of {checkout}",
            seen=f"{bad} does not come after {good}",
            remedy="name an older commit with --good, and a newer one with --bad",
        )
    commits = []
    for line in [*start, *later]:
        digest, _, subject = line.partition("\t")
        commits.append(Commit(digest[:DIGITS], subject))
    return commits


def _is_ancestor(checkout: Path, good: str, bad: str) -> bool:
    command = ["git", "-C", str(checkout), "merge-base", "--is-ancestor"]
    return subprocess.call([*command, good, bad]) == 0


def _git(checkout: Path, what: str, *arguments: str) -> list[str]:
    """The lines that git prints."""
    command = ["git", "-C", str(checkout), *arguments]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=True
        )
    except FileNotFoundError as error:
        raise BadBisection(
            tried=f"`{shlex.join(command)}`",
            seen="there is no git on PATH",
            remedy="install git, or list the builds with --builds",
        ) from error
    except subprocess.CalledProcessError as error:
        raise BadBisection(
            tried=f"reading {what} in the checkout {checkout}",
            seen=error.stderr.strip(),
            remedy="name the folder of a git checkout with --checkout, and its commits "
            "with --good and --bad",
        ) from error
    return done.stdout.splitlines()
