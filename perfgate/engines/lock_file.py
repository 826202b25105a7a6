"""Lock file header: for which Pythons a lock file is, and which torch goes first.

`make locks` writes these files. Their pins are for the installer; only the header is
read here:

    # requires-python: >=3.11,<3.14
    # torch: 2.13.0+cpu
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from perfgate.errors import Failure

_HEADER = re.compile(r"# (requires-python|torch): (.+)")
# Minor versions of Python 3 that `newest_python` tries.
_MINORS = range(11, 30)


class BadLock(Failure):
    """A lock file without a usable header."""


@dataclass(frozen=True)
class Lock:
    """A lock file of an engine.

    Attributes:
        path: the file, a complete list of requirements with hashes, torch left out.
        torch: version of the build that is installed first.
        requires_python: the Pythons for which each pin has a wheel: ">=3.11,<3.14".
        packages: how many it pins.
    """

    path: Path
    torch: str
    requires_python: str
    packages: int

    def allows(self, python: str) -> bool:
        """Whether a Python of that version ("3.12.1") can be used.

        Its first two numbers decide.
        """
        return SpecifierSet(self.requires_python).contains(
            minor_version(python)
        )

    def newest_python(self) -> str | None:
        """The newest Python that can be used, as its command: "python3.13"."""
        for minor in reversed(_MINORS):
            version = f"3.{minor}"
            if self.allows(version):
                return f"python{version}"
        return None


def minor_version(python: str) -> str:
    """The first two numbers: "3.12" of "3.12.1" and of "3.12.0rc1"."""
    return ".".join(python.split(".")[:2])


def read(path: Path) -> Lock:
    """The header of a lock file.

    Raises:
        BadLock: it lacks a line, or one cannot be parsed.
    """
    header = {}
    packages = 0
    for line in path.read_text().splitlines():
        match = _HEADER.fullmatch(line)
        if match is not None:
            header[match[1]] = match[2].strip()
        elif line and line[0] not in "# ":
            packages += 1
    try:
        requires_python = header["requires-python"]
        SpecifierSet(requires_python)
        return Lock(path, header["torch"], requires_python, packages)
    except (KeyError, InvalidSpecifier) as error:
        raise BadLock(
            tried=f"reading the header of {path}",
            seen=f"no usable line for {error}",
            remedy="write it again: `make locks`",
        ) from None
