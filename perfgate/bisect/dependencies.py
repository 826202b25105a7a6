"""Dependencies: builds between two environments, with one more package exchanged in each.

The good environment stays as it is. A package of the bad one is linked into a folder,
which comes first on the path of a small script that starts the good Python. So nothing
is installed or fetched, and it is exactly the build of the bad environment.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from perfgate import formatting
from perfgate.bisect.builds import Build, BuildFailed, ReadyBuild, folder_name
from perfgate.bisect.state import BadBisection
from perfgate.engines import environment
from perfgate.foreign_text import one_line

COPY = environment.INSIDE / "perfgate_copy_distribution.py"
# They start no server: an engine's environment differs in them for no reason.
_TOOLS = frozenset({"python", "pip", "setuptools", "wheel", "uv"})


@dataclass(frozen=True)
class ExchangedBuild:
    """The good environment with some packages of the bad one.

    Attributes:
        packages: distributions that come from the bad one, the last one new.
        folder: of the script and the packages.
    """

    name: str
    good: Path
    bad: Path
    packages: tuple[str, ...]
    folder: Path

    @property
    def title(self) -> str:
        """The package that is new, and how many others came before it."""
        others = formatting.count(len(self.packages) - 1, "package")
        return f"{self.name} (with {others} before it)"

    @property
    def origin(self) -> str:
        """Nothing more: the name says all."""
        return self.name

    @property
    def end(self) -> str:
        """Its Python: that is what --packages takes."""
        return str(self._script)

    @property
    def _script(self) -> Path:
        return self.folder / "pythons" / folder_name(self.name)

    def python(self) -> Path:
        """A script that starts the good Python with these packages first."""
        folders = [str(self._package(name)) for name in self.packages]
        script = self._script
        script.parent.mkdir(parents=True, exist_ok=True)
        path = shlex.quote(":".join(folders))
        script.write_text(
            "#!/bin/sh\n"
            f"export PYTHONPATH={path}${{PYTHONPATH:+:$PYTHONPATH}}\n"
            f'exec {shlex.quote(str(self.good))} "$@"\n',
            encoding="utf-8",
        )
        script.chmod(0o755)
        return script

    def _package(self, name: str) -> Path:
        """The folder with a package of the bad environment; made at the first call."""
        target = self.folder / "packages" / folder_name(name)
        if target.exists():
            return target
        part = target.with_name(f"{target.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        done = subprocess.run(
            [self.bad, COPY, name, part],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise BuildFailed(
                tried=f"taking the package {name} out of {self.bad}",
                seen=one_line(done.stderr),
                remedy="install it as a package, not as an editable checkout",
            )
        part.rename(target)
        return target


def exchanged_builds(good: Path, bad: Path, folder: Path) -> list[Build]:
    """The good Python, it with one more package of the bad one each, and the bad Python.

    Raises:
        BadBisection: no package differs, or the two Pythons are of other versions.
        EngineMissing: one of them does not run.
    """
    before = environment.distributions(good)
    after = environment.distributions(bad)
    versions = before["python"], after["python"]
    minors = [version.rpartition(".")[0] for version in versions]
    if minors[0] != minors[1]:
        raise BadBisection(
            tried="exchanging packages between two environments",
            seen=f"one has Python {versions[0]}, the other one {versions[1]}",
            remedy="make both environments with the same Python",
        )
    names = changed_packages(before, after)
    if not names:
        raise BadBisection(
            tried="exchanging packages between two environments",
            seen=f"{good} and {bad} have the same packages",
            remedy="what differs is no package: bisect builds instead (--builds)",
        )
    builds: list[Build] = [ReadyBuild("good", str(good))]
    for count, name in enumerate(names, start=1):
        label = f"{name} {before.get(name, '(none)')} -> {after[name]}"
        packages = tuple(names[:count])
        builds.append(ExchangedBuild(label, good, bad, packages, folder))
    return [*builds, ReadyBuild("what is no package", str(bad))]


def changed_packages(
    before: Mapping[str, str], after: Mapping[str, str]
) -> Sequence[str]:
    """Distributions of the second environment that the first one has otherwise, or not."""
    names = []
    for name in sorted(after):
        is_note = " " in name  # "vllm commit" is no distribution
        if name in _TOOLS or is_note or before.get(name) == after[name]:
            continue
        names.append(name)
    return names
