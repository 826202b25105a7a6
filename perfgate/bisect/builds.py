"""Builds: what a bisection chooses from, and how the Python of each is made.

A build is a Python that is there, or one that a command makes in a folder: from a
version, a wheel or a commit. `perfgate.bisect.dependencies` exchanges packages.
"""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from perfgate import formatting, locations
from perfgate.bisect.pair_session import Run, logged, tail
from perfgate.bisect.state import BadBisection
from perfgate.errors import Failure
from perfgate.files import free_name

BUILD_LOG = "build.log"
MADE = "made"  # in a build's folder, once it is whole
# In a command: the build, and the folder that it is made in.
NAMES = ("{build}", "{commit}", "{version}")
FOLDER = "{folder}"


class BuildFailed(Failure):
    """A build that could not be made; it is skipped."""


class Build(Protocol):
    """One of the builds of a bisection."""

    @property
    def name(self) -> str:
        """As it is listed and shown."""

    @property
    def title(self) -> str:
        """The name, with what is known of it: the subject of a commit."""

    @property
    def origin(self) -> str:
        """Its Python, or the folder in which it is made."""

    @property
    def end(self) -> str:
        """What --good and --bad call it."""

    def python(self) -> Path:
        """Its Python, made if need be.

        Raises:
            BuildFailed: it could not be made.
        """


@dataclass(frozen=True)
class ReadyBuild:
    """A Python that is there."""

    name: str
    path: str

    @property
    def title(self) -> str:
        """The name."""
        return self.name

    @property
    def origin(self) -> str:
        """Its path."""
        return self.path

    @property
    def end(self) -> str:
        """The name."""
        return self.name

    def python(self) -> Path:
        """Its path."""
        found = shutil.which(locations.expanded(self.path))
        if found is None:
            raise BuildFailed(
                tried=f"using the build {self.name}",
                seen=f"{self.path} is not an executable file",
                remedy="correct its path in the list of builds",
            )
        return Path(found).absolute()


@dataclass(frozen=True)
class CommandBuild:
    """A Python that a command makes: `{folder}/bin/python`.

    Attributes:
        command: for a shell; {build}, {commit} and {version} stand for the name,
            {folder} for the folder.
        folder: where it is made; what is there already is not made again.
    """

    name: str
    command: str
    folder: Path
    subject: str = ""
    run: Run = logged

    @property
    def title(self) -> str:
        """The name with the subject of the commit."""
        return f"{self.name} {self.subject}".strip()

    @property
    def origin(self) -> str:
        """The folder."""
        return str(self.folder)

    @property
    def end(self) -> str:
        """The name."""
        return self.name

    def python(self) -> Path:
        """Its Python; made by the command at the first call."""
        python = self.folder / "bin" / "python"
        stamp = self.folder / MADE
        if stamp.exists():
            return python
        command = self.command
        for name in NAMES:
            command = command.replace(name, shlex.quote(self.name))
        command = command.replace(FOLDER, shlex.quote(str(self.folder)))
        shutil.rmtree(self.folder, ignore_errors=True)
        log = self.folder.with_name(f"{self.folder.name}.{BUILD_LOG}")
        status = self.run(["bash", "-c", command], log)
        if status != 0 or not python.exists():
            seen = f"exit status {status}"
            if status == 0:
                seen = f"it made no {python}"
            raise BuildFailed(
                tried=f"making the build {self.name}: `{command}`",
                seen=f"{seen}; {tail(log)}",
                remedy="correct the list of builds, or the command",
            )
        stamp.touch()
        return python


def folder_name(name: str) -> str:
    """A build's name as that of a folder."""
    return re.sub(r"[^\w.+-]+", "-", name).strip("-.") or "build"


def ready_builds(texts: Sequence[str]) -> list[Build]:
    """Builds that are there, each "PATH" or "NAME=PATH"."""
    builds: list[Build] = []
    for text in texts:
        name, equals, path = text.partition("=")
        if equals and name and path:
            builds.append(ReadyBuild(name, path))
        else:
            builds.append(ReadyBuild(text, text))
    return builds


def made_builds(
    names: Sequence[str],
    command: str,
    folder: Path,
    subjects: Sequence[str] = (),
) -> list[Build]:
    """Builds that a command makes, each in a folder of its own.

    Raises:
        BadBisection: the command does not name the build, or not the folder.
    """
    has_name = any(name in command for name in NAMES)
    if not has_name or FOLDER not in command:
        raise BadBisection(
            tried=f"reading --build {command!r}",
            seen="it does not contain both {build} and {folder}",
            remedy="write a command that makes {folder}/bin/python of {build}, such as "
            "--build 'make-build.sh {commit} {folder}'",
        )
    subjects = subjects or [""] * len(names)
    builds: list[Build] = []
    taken: set[str] = set()
    for name, subject in zip(names, subjects, strict=True):
        # "a/b" and "a-b" are two.
        own = free_name(folder_name(name), taken.__contains__)
        taken.add(own)
        builds.append(CommandBuild(name, command, folder / own, subject))
    return builds


def version_command(package: str) -> str:
    """The command that installs a version of a package, or a wheel, in an environment."""
    python = shlex.quote(sys.executable)
    pip = "{folder}/bin/python -m pip install --quiet"
    return (
        f"{python} -m venv {{folder}} && case {{version}} in "
        f"*.whl) {pip} {{version}};; "
        f"*) {pip} {shlex.quote(package)}=={{version}};; esac"
    )


def listed(text: str) -> list[str]:
    """The items of a list: a file with one a line, or items with commas between them.

    A line may end with a comment that begins with "#".

    Raises:
        BadBisection: the file cannot be read.
    """
    path = locations.expanded(text)
    if "," in text or not path.is_file():
        return [item.strip() for item in text.split(",") if item.strip()]
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadBisection(
            tried=f"reading the list of builds in {path}",
            seen=str(error),
            remedy="write a text file with one build a line",
        ) from error
    items = [re.sub(r"(^|\s)#.*", "", line).strip() for line in lines]
    return [item for item in items if item]


def between(
    builds: Sequence[Build],
    good: str | None,
    bad: str | None,
    echo: Callable[[str], None],
) -> list[Build]:
    """The builds from the good one to the bad one, each of which is in the list.

    Args:
        good, bad: names or paths; None: the first and the last one.

    Raises:
        BadBisection: one is not in the list, or they are in another order, or there are
            two builds of one name.
    """
    names = [build.name for build in builds]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise BadBisection(
            tried="reading the list of builds",
            seen=f"{formatting.listed(twice)} is in it twice",
            remedy="name each build once: NAME=PATH",
        )
    first = _place(builds, good, "--good", 0)
    last = _place(builds, bad, "--bad", len(builds) - 1)
    if first >= last:
        raise BadBisection(
            tried=f"looking between --good {good or names[:1]} and --bad "
            f"{bad or names[-1:]}",
            seen=f"the list has {formatting.count(len(builds), 'build')}, and the good "
            "one is not before the bad one",
            remedy="list the builds from the oldest to the newest",
        )
    left_out = len(builds) - (last - first + 1)
    if left_out:
        count = formatting.count(left_out, "build")
        echo(f"{count} outside --good and --bad left out")
    return list(builds[first : last + 1])


def _place(
    builds: Sequence[Build], wanted: str | None, option: str, default: int
) -> int:
    if wanted is None:
        return default
    for index, build in enumerate(builds):
        is_path = isinstance(build, ReadyBuild) and build.path == wanted
        if build.name == wanted or is_path:
            return index
    names = [build.name for build in builds]
    raise BadBisection(
        tried=f"{option} {wanted}",
        seen=f"it is not in the list of builds: {formatting.listed(names)}",
        remedy=f"{formatting.suggestion(wanted, names)}name one of the list",
    )
