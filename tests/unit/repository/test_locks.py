"""Lock files: every supported Python finds a wheel of all that is pinned.

The names of the wheels lie in tests/data/wheels.json, written by `make locks`,
so nothing is asked here.
"""

import functools
import json
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest
from packaging.markers import Marker
from packaging.specifiers import SpecifierSet
from packaging.tags import compatible_tags, cpython_tags
from packaging.utils import parse_wheel_filename

from perfgate.engines import lock_file
from perfgate.engines.environment import LOCKS

ROOT = Path(__file__).resolve().parents[3]
WHEELS = json.loads((ROOT / "tests" / "data" / "wheels.json").read_text())
METADATA = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
VERSION = "Programming Language :: Python :: "
VERSIONS = [
    text.removeprefix(VERSION)
    for text in METADATA["classifiers"]
    if VERSION in text
]
SUPPORTED = [text for text in VERSIONS if text.startswith("3.")]
ENGINES = sorted(LOCKS.glob("*.txt"))
RUNTIME, DEVELOPERS = ROOT / "requirements.txt", ROOT / "requirements-dev.txt"
# What the main job needs, and all. On the second architecture linters are not supported.
MAIN = [*ENGINES, RUNTIME]
EVERY = [*MAIN, DEVELOPERS]
# The oldest that README.md names: Debian 12, Ubuntu 22.04 and RHEL 9 have it.
GLIBC_MINOR = 34


@dataclass(frozen=True)
class Pin:
    """A requirement of a lock file."""

    key: str
    marker: str
    hashes: int

    def wanted(self, python, architecture):
        """Whether that machine installs it."""
        machine = {
            "python_version": python,
            "python_full_version": f"{python}.0",
            "implementation_name": "cpython",
            "platform_python_implementation": "CPython",
            "platform_machine": architecture,
            "platform_system": "Linux",
            "sys_platform": "linux",
        }
        return not self.marker or Marker(self.marker).evaluate(machine)


def pins(path):
    """The requirements of a lock file, torch among them where its header names one."""
    found = []
    for block in path.read_text().replace("\\\n", " ").splitlines():
        if block.startswith("# torch: "):
            version = block.removeprefix("# torch: ").partition("+")[0]
            found.append(
                Pin(
                    f"torch=={version}",
                    "",
                    len(WHEELS[f"torch=={version}"]["wheels"]),
                )
            )
        elif not block.startswith("#"):
            requirement, *hashes = block.split("--hash=sha256:")
            key, _, marker = requirement.partition(" ; ")
            found.append(Pin(key.strip(), marker.strip(), len(hashes)))
    return found


def pythons(path):
    """The supported Pythons that a lock file is for."""
    lines = path.read_text().splitlines()
    allowed = next(
        line for line in lines if line.startswith("# requires-python: ")
    )
    spec = SpecifierSet(allowed.removeprefix("# requires-python: "))
    return [python for python in SUPPORTED if spec.contains(python)]


@functools.cache
def tags(python, architecture):
    """The wheel tags that such a Python takes."""
    version = tuple(int(part) for part in python.split("."))
    platforms = [
        f"manylinux_2_{minor}_{architecture}"
        for minor in range(GLIBC_MINOR, 4, -1)
    ]
    older = ("manylinux2014", "manylinux2010", "manylinux1", "linux")
    platforms += [f"{name}_{architecture}" for name in older]
    interpreter = "cp" + python.replace(".", "")
    return frozenset(
        [
            *cpython_tags(version, platforms=platforms),
            *compatible_tags(
                version, interpreter=interpreter, platforms=platforms
            ),
        ]
    )


def without_wheel(path, python, architecture):
    """Pins that such a machine would want and cannot have."""
    able = tags(python, architecture)
    return [
        pin.key
        for pin in pins(path)
        if pin.wanted(python, architecture)
        and not any(
            able & parse_wheel_filename(name)[3]
            for name in WHEELS[pin.key]["wheels"]
        )
    ]


def named(paths):
    """The parameter `lock`, told by its name."""
    return pytest.mark.parametrize("lock", paths, ids=lambda path: path.stem)


def test_supported_pythons_are_named_once():
    """Classifiers and requires-python name the same Pythons, without a gap."""
    allowed = SpecifierSet(METADATA["requires-python"])

    assert ["3.11", "3.12", "3.13", "3.14"] == SUPPORTED
    assert SUPPORTED == [
        f"3.{minor}" for minor in range(30) if allowed.contains(f"3.{minor}")
    ]


@named(EVERY)
@pytest.mark.parametrize("python", SUPPORTED)
def test_wheel_for_each_python(lock, python):
    """On x86-64 each pin has a wheel, or the lock's header leaves that Python out."""
    if python in pythons(lock):
        assert [] == without_wheel(lock, python, "x86_64")


@named(MAIN)
@pytest.mark.parametrize("python", SUPPORTED)
def test_main_job_has_wheels_on_aarch64(lock, python):
    """What `make perf` installs could be installed there, too."""
    if python in pythons(lock):
        assert [] == without_wheel(lock, python, "aarch64")


@named(EVERY)
def test_no_python_is_left_out_without_need(lock):
    """A Python that the header leaves out lacks a wheel; the suite itself leaves out none."""
    left_out = [python for python in SUPPORTED if python not in pythons(lock)]

    assert [] == [
        python
        for python in left_out
        if not without_wheel(lock, python, "x86_64")
    ]
    assert lock in ENGINES or [] == left_out


def test_list_of_wheels_is_that_of_the_locks():
    """Each pin is listed and nothing else: lock files and list come of one run of `make locks`."""
    assert sorted(WHEELS) == sorted(
        {pin.key for lock in EVERY for pin in pins(lock)}
    )


@named(EVERY)
def test_each_wheel_has_its_hash(lock):
    """As many hashes as wheels, at least one: nothing can be installed that was not there."""
    found = pins(lock)

    assert [] == [
        pin.key for pin in found if len(WHEELS[pin.key]["wheels"]) != pin.hashes
    ]
    assert 0 < min(pin.hashes for pin in found)


@named(ENGINES)
def test_torch_goes_first_and_alone(lock):
    """The header names a build for the CPU; no pin is torch, nor what must be built for it."""
    written = [
        line.partition("==")[0] for line in lock.read_text().splitlines()
    ]

    assert lock_file.read(lock).torch.endswith("+cpu")
    assert set() == {"torch", "torchvision", "torchaudio"} & set(written)


def test_developers_have_what_measures():
    """Their list holds all of the shorter one, in the same versions."""
    assert {pin.key for pin in pins(RUNTIME)} < {
        pin.key for pin in pins(DEVELOPERS)
    }


@pytest.mark.parametrize(
    "tool", ["ruff", "mypy", "mkdocs", "playwright", "hypothesis", "uv"]
)
def test_gpu_hosts_get_no_tools(tool):
    """Linters, documentation and browsers are for developers alone."""
    assert tool not in {pin.key.partition("==")[0] for pin in pins(RUNTIME)}
    assert tool in {pin.key.partition("==")[0] for pin in pins(DEVELOPERS)}
