"""Dependencies: packages of one environment on the path of another one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from perfgate.bisect import dependencies
from perfgate.bisect.builds import BuildFailed
from perfgate.bisect.dependencies import changed_packages, exchanged_builds
from perfgate.bisect.state import BadBisection
from perfgate.engines import environment


def python_with(folder: Path, **packages: str) -> Path:
    """A Python with these distributions alone, each a module that knows its version."""
    site = folder / "site"
    for name, version in packages.items():
        info = site / f"{name}-{version}.dist-info"
        info.mkdir(parents=True)
        module = site / f"{name}.py"
        module.write_text(f"VERSION = {version!r}\n")
        (info / "METADATA").write_text(f"Name: {name}\nVersion: {version}\n")
        (info / "RECORD").write_text(
            f"{name}.py,,\n{info.name}/METADATA,,\n../bin/{name},,\n"
        )
    script = folder / "python"
    path = f"{site}${{PYTHONPATH:+:$PYTHONPATH}}"
    # Packages of the good environment come after those that are put first.
    path = f"${{PYTHONPATH:+$PYTHONPATH:}}{site}"
    script.write_text(
        f'#!/bin/sh\nPYTHONPATH="{path}" exec {sys.executable} -S "$@"\n'
    )
    script.chmod(0o755)
    return script


@pytest.fixture
def pythons(tmp_path):
    """A good and a bad environment: one package the same, two others, one more."""
    good = python_with(tmp_path / "a", kernels="1.0", torchlet="2.0", same="1")
    bad = python_with(
        tmp_path / "b", kernels="1.1", torchlet="2.1", same="1", added="3"
    )
    environment.distributions.cache_clear()
    return good, bad


def version(python, module):
    """The version of a module that a Python imports."""
    code = f"import {module}; print({module}.VERSION)"
    done = subprocess.run(
        [python, "-c", code], capture_output=True, text=True, check=False
    )
    return done.stdout.strip()


def test_one_more_package_in_each_build(pythons, tmp_path):
    """From the good environment, by name, to all packages; the bad one is the last."""
    builds = exchanged_builds(*pythons, tmp_path / "made")

    assert [
        "good",
        "added (none) -> 3",
        "kernels 1.0 -> 1.1",
        "torchlet 2.0 -> 2.1",
        "what is no package",
    ] == [build.name for build in builds]
    assert "kernels 1.0 -> 1.1 (with 1 package before it)" == builds[2].title
    assert builds[2].end == str(builds[2].python())
    seen = []
    for build in builds:
        python = build.python()
        seen.append(
            tuple(
                version(python, name)
                for name in ("added", "kernels", "torchlet")
            )
        )
    assert [
        ("", "1.0", "2.0"),
        ("3", "1.0", "2.0"),
        ("3", "1.1", "2.0"),
        ("3", "1.1", "2.1"),
        ("3", "1.1", "2.1"),
    ] == seen


def test_versions_of_a_build_are_those_that_it_imports(pythons, tmp_path):
    """As the run records them."""
    kernels = exchanged_builds(*pythons, tmp_path / "made")[2]

    found = environment.distributions(kernels.python())

    assert ("1.1", "2.0") == (found["kernels"], found["torchlet"])


def test_good_environment_stays_as_it_is(pythons, tmp_path):
    """Nothing is installed into it, and files are linked."""
    before = sorted((tmp_path / "a").rglob("*"))
    builds = exchanged_builds(*pythons, tmp_path / "made")
    builds[-2].python()

    assert before == sorted((tmp_path / "a").rglob("*"))
    linked = tmp_path / "made" / "packages" / "kernels" / "kernels.py"
    assert (
        linked.stat().st_ino == (tmp_path / "b/site/kernels.py").stat().st_ino
    )


def test_package_without_files_is_a_build_that_failed(pythons, tmp_path):
    """An editable checkout: the message says so."""
    record = tmp_path / "b" / "site" / "kernels-1.1.dist-info" / "RECORD"
    record.write_text("kernels-1.1.dist-info/METADATA,,\n")
    kernels = exchanged_builds(*pythons, tmp_path / "made")[2]

    with pytest.raises(BuildFailed) as caught:
        kernels.python()

    assert "editable checkout" in caught.value.seen


def test_same_packages_are_refused(pythons, tmp_path):
    """There is nothing to exchange."""
    with pytest.raises(BadBisection) as caught:
        exchanged_builds(pythons[0], pythons[0], tmp_path)

    assert "--builds" in caught.value.remedy


def test_other_pythons_are_refused(monkeypatch, tmp_path):
    """Packages of one do not load in the other."""
    versions = iter([{"python": "3.11.7"}, {"python": "3.12.1"}])
    monkeypatch.setattr(
        dependencies.environment, "distributions", lambda _: next(versions)
    )

    with pytest.raises(BadBisection) as caught:
        exchanged_builds(Path("/a"), Path("/b"), tmp_path)

    assert "3.11.7" in caught.value.seen


def test_packages_that_differ():
    """Without tools, notes, and what only the good environment has."""
    before = {"python": "3.11", "pip": "1", "torch": "2", "old": "1"}
    after = {"python": "3.11", "pip": "2", "torch": "3", "vllm commit": "abc"}

    assert ["torch"] == changed_packages(before, after)
