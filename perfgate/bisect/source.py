"""Source: the options that say which builds there are, made into the list of builds."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from perfgate import locations
from perfgate.bisect import builds as listing
from perfgate.bisect import commits, dependencies
from perfgate.bisect.builds import Build
from perfgate.bisect.state import BadBisection


@dataclass(frozen=True)
class Source:
    """Where the builds come from, as the command names it; exactly one of the kinds.

    Attributes:
        folder: of the bisection; builds that are made lie in it.
        builds: a list of Pythons, or of what `build` makes.
        versions: a list of versions and wheels.
        package: distribution that the versions are of; None: that of the engine.
        checkout: whose commits are the builds.
        build: a command that makes a build.
        packages: whether packages of two Pythons are exchanged.
    """

    engine: str
    folder: Path
    good: str | None = None
    bad: str | None = None
    builds: str | None = None
    versions: str | None = None
    package: str | None = None
    checkout: Path | None = None
    build: str | None = None
    packages: bool = False

    def listed(self, echo: Callable[[str], None]) -> list[Build]:
        """The builds, the good one first, the bad one last.

        Args:
            echo: shows a line: builds that are left out.

        Raises:
            BadBisection: no kind is named, or two; or a list does not hold the ends.
        """
        kinds = {
            "--builds": bool(self.builds),
            "--versions": bool(self.versions),
            "--checkout": self.checkout is not None,
            "--packages": self.packages,
        }
        named = [name for name, is_named in kinds.items() if is_named]
        if len(named) != 1:
            raise BadBisection(
                tried="listing the builds",
                seen=f"{' and '.join(named) or 'none'} of {', '.join(kinds)} named",
                remedy="name one of them; `perfgate bisect --help` has examples",
            )
        makes = self.checkout is not None or self.builds is not None
        if self.build is not None and not makes:
            raise BadBisection(
                tried=f"--build with {named[0]}",
                seen="it makes commits, or the builds of a list",
                remedy="leave --build out, or name --checkout or --builds",
            )
        if self.packages:
            return self._of_packages()
        if self.checkout is not None:
            return self._of_commits(self.checkout)
        found = self._of_list()
        return listing.between(found, self.good, self.bad, echo)

    @property
    def _made(self) -> Path:
        return self.folder / "builds"

    def _of_list(self) -> list[Build]:
        if self.versions:
            command = listing.version_command(self.package or self.engine)
            names = listing.listed(self.versions)
            return listing.made_builds(names, command, self._made)
        names = listing.listed(self.builds or "")
        if self.build is not None:
            return listing.made_builds(names, self.build, self._made)
        return listing.ready_builds(names)

    def _of_commits(self, checkout: Path) -> list[Build]:
        good, bad = self._ends("a commit")
        if self.build is None:
            raise BadBisection(
                tried=f"bisecting the commits of {checkout}",
                seen="no command makes a build of a commit",
                remedy="add --build 'COMMAND {commit} {folder}', which makes "
                "{folder}/bin/python",
            )
        found = commits.first_parents(checkout, good, bad)
        names = [commit.name for commit in found]
        subjects = [commit.subject for commit in found]
        return listing.made_builds(names, self.build, self._made, subjects)

    def _of_packages(self) -> list[Build]:
        good, bad = self._ends("a Python")
        before, after = _python("--good", good), _python("--bad", bad)
        return dependencies.exchanged_builds(before, after, self._made)

    def _ends(self, what: str) -> tuple[str, str]:
        if not (self.good and self.bad):
            raise BadBisection(
                tried="looking between --good and --bad",
                seen="one of them is missing",
                remedy=f"name {what} with each of them",
            )
        return self.good, self.bad


def _python(option: str, text: str) -> Path:
    found = shutil.which(locations.expanded(text))
    if found is None:
        raise BadBisection(
            tried=f"{option} {text}",
            seen="it is not an executable file",
            remedy="name the Python of an environment",
        )
    return Path(found).absolute()
