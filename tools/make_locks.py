"""Makes the lock files, and the list of the wheels that there are of what they pin: `make locks`.

The lock files of the engines and of the suite are complete and have hashes. The list
names all wheels that a promised Python might take; the unit tests read it, and need no
network. Versions stay as they are in the lock files; ``--upgrade`` takes the newest
that fit.

Only wheels for Linux are listed and hashed, so nothing is ever built from source. uv
resolves, since it does so for all Pythons at once.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from packaging.markers import Marker
from packaging.specifiers import SpecifierSet
from packaging.utils import parse_wheel_filename

ROOT = Path(__file__).resolve().parent.parent
LOCKS = ROOT / "perfgate" / "engines" / "locks"
WHEELS = ROOT / "tests" / "data" / "wheels.json"
ARCHITECTURES = ("x86_64", "aarch64")
OLDEST_MINOR = 11
# Installed by a step of its own, from another index: perfgate/engines/environment.py.
TORCH = "torch"
REQUIREMENT = re.compile(r"(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^ ;\\]+)")


@dataclass(frozen=True)
class Lock:
    """A lock file and what it is made from.

    Attributes:
        output: the lock file.
        sources: files that uv reads; the first is copied as pyproject.toml.
        arguments: further ones for uv.
        title: first line of the lock file.
    """

    output: Path
    sources: tuple[Path, ...]
    title: str
    arguments: tuple[str, ...] = ()

    @property
    def project(self) -> dict[str, Any]:
        """Its input, parsed."""
        return tomllib.loads(self.sources[0].read_text())

    @property
    def requires_python(self) -> str:
        """The Pythons that it is made for."""
        return str(self.project["project"]["requires-python"])

    @property
    def torch(self) -> str | None:
        """The build of torch that goes before it; None for an environment without."""
        told = self.project.get("tool", {}).get("perfgate", {})
        version: str | None = told.get("torch")
        return version

    def pythons(self) -> list[str]:
        """Of the minor versions those that it is made for: "3.11"."""
        allowed = SpecifierSet(self.requires_python)
        every = [f"3.{minor}" for minor in range(OLDEST_MINOR, 30)]
        return [python for python in every if allowed.contains(python)]


@dataclass
class Pin:
    """One package of a lock.

    Attributes:
        marker: where it is wanted; empty for everywhere.
        hashes: wheel -> SHA-256.
        sdist: whether there is a source distribution, too.
    """

    name: str
    version: str
    marker: str = ""
    hashes: dict[str, str] = field(default_factory=dict)
    sdist: bool = False


def all_locks() -> list[Lock]:
    """Those of the engines, then the suite's two."""
    engines = [
        Lock(
            path.with_suffix(".txt"),
            (path,),
            path.read_text().splitlines()[0].partition(": ")[2],
        )
        for path in sorted(LOCKS.glob("*.toml"))
    ]
    project, build = ROOT / "pyproject.toml", ROOT / "requirements.in"
    runtime, dev = ROOT / "requirements.txt", ROOT / "requirements-dev.txt"
    measures = "What measures: all that `make perf` and a GPU host need."
    develops = "requirements.txt and what its developers need: tests, linters, documentation."
    extras = ("--extra", "dev", "--extra", "docs")
    return [
        *engines,
        Lock(runtime, (project, build), measures),
        Lock(dev, (project, build, runtime), develops, extras),
    ]


def resolve(lock: Lock, upgrade: bool) -> list[Pin]:
    """Ask the package index for versions, wheels and hashes."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        names = ["pyproject.toml", *(path.name for path in lock.sources[1:])]
        for name, path in zip(names, lock.sources, strict=True):
            (folder / name).write_text(path.read_text())
        pins = folder / "pins.txt"
        if lock.output.is_file() and not upgrade:
            # uv keeps the versions of the file that it writes.
            pins.write_text("".join(f"{pin}\n" for pin in versions(lock)))
        _uv(folder, [*names, *lock.arguments, "--output-file", pins.name])
        found = folder / "pylock.toml"
        to_pylock = [
            "--no-deps",
            "--format",
            "pylock.toml",
            "--output-file",
            found.name,
        ]
        _uv(folder, [pins.name, *to_pylock])
        packages = tomllib.loads(found.read_text())["packages"]
        wanted = markers(pins.read_text(), lock)
    return [
        pin
        for package in packages
        if (pin := read_package(package, wanted)) is not None
    ]


def _uv(folder: Path, arguments: Sequence[str]) -> None:
    command = [
        sys.executable,
        "-m",
        "uv",
        "pip",
        "compile",
        "--quiet",
        "--universal",
    ]
    command += [
        "--python-version",
        f"3.{OLDEST_MINOR}",
        "--no-header",
        "--no-annotate",
    ]
    subprocess.run([*command, *arguments], cwd=folder, check=True)


def versions(lock: Lock) -> Iterator[str]:
    """name==version of each pin in the lock file as it is."""
    for line in lock.output.read_text().splitlines():
        if found := REQUIREMENT.match(line):
            yield found[0]
    if lock.torch is not None:
        yield f"{TORCH}=={lock.torch.partition('+')[0]}"


def markers(requirements: str, lock: Lock) -> dict[str, str]:
    """name==version -> its marker, reduced; absent where no promised machine wants the package."""
    found = {}
    for line in requirements.splitlines():
        pin, _, text = line.partition(" ; ")
        kept = reduced(text.strip(), lock.pythons())
        if kept is not None:
            found[pin.strip()] = kept
    return found


def reduced(marker: str, pythons: Sequence[str]) -> str | None:
    """A marker as far as it tells promised machines apart; None where it excludes them all."""
    if not marker:
        return ""
    machines = [
        environment(python, arch)
        for python in pythons
        for arch in ARCHITECTURES
    ]
    told = [Marker(marker).evaluate(machine) for machine in machines]
    if all(told):
        return ""
    return marker if any(told) else None


def environment(python: str, architecture: str) -> dict[str, str]:
    """What markers are asked about: CPython on Linux."""
    return {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "implementation_name": "cpython",
        "implementation_version": f"{python}.0",
        "platform_python_implementation": "CPython",
        "platform_machine": architecture,
        "platform_system": "Linux",
        "sys_platform": "linux",
        "os_name": "posix",
    }


def read_package(
    package: Mapping[str, Any], wanted: Mapping[str, str]
) -> Pin | None:
    """A package of uv's answer with its wheels for Linux; None where no machine wants it."""
    pin = Pin(package["name"], package["version"], sdist="sdist" in package)
    marker = wanted.get(f"{pin.name}=={pin.version}")
    if marker is None:
        return None
    pin.marker = marker
    for wheel in package.get("wheels", ()):
        name = unquote(wheel["url"].rpartition("/")[2])
        if is_for_linux(name):
            pin.hashes[name] = wheel["hashes"]["sha256"]
    return pin


def is_for_linux(wheel: str) -> bool:
    """Whether some promised Python on Linux might take it: no PyPy, no Python without its lock."""
    for tag in parse_wheel_filename(wheel)[3]:
        manylinux = tag.platform.startswith(
            "manylinux"
        ) and tag.platform.endswith(ARCHITECTURES)
        ours = not tag.interpreter.startswith("pp") and not tag.abi.endswith(
            "t"
        )
        if ours and (manylinux or tag.platform == "any"):
            return True
    return False


def written(lock: Lock, pins: Sequence[Pin]) -> str:
    """The lock file, in the form that pip and uv read."""
    lines = [
        f"# {lock.title}",
        "# Made by `make locks`; nothing is left to resolve. Hashes are of wheels for Linux.",
        f"# requires-python: {lock.requires_python}",
    ]
    if lock.torch is not None:
        lines.append(f"# torch: {lock.torch}")
    for pin in pins:
        if pin.name == TORCH:
            continue
        marker = f" ; {pin.marker}" if pin.marker else ""
        hashes = [
            f"    --hash=sha256:{value}"
            for value in sorted(pin.hashes.values())
        ]
        lines.append(
            " \\\n".join([f"{pin.name}=={pin.version}{marker}", *hashes])
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write every lock file and the list of wheels."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--upgrade",
        action="store_true",
        help="take the newest versions that fit",
    )
    upgrade = parser.parse_args().upgrade
    wheels: dict[str, dict[str, object]] = {}
    for lock in all_locks():
        pins = resolve(lock, upgrade)
        lock.output.write_text(written(lock, pins))
        for pin in pins:
            listed = {"wheels": sorted(pin.hashes), "sdist": pin.sdist}
            wheels[f"{pin.name}=={pin.version}"] = listed
        sys.stdout.write(
            f"{lock.output.relative_to(ROOT)}: {len(pins)} packages\n"
        )
    WHEELS.write_text(json.dumps(dict(sorted(wheels.items())), indent=1) + "\n")


if __name__ == "__main__":
    main()
