"""An environment outside the checkout: a wheel in a virtual environment of its own.

Third-party packages are those of the environment that runs the tests, by links;
neither the checkout nor its editable install can be imported there.
"""

from __future__ import annotations

import os
import shutil
import site
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.support.projects import ROOT

BUILT_FROM = (
    "pyproject.toml",
    "README.md",
    "LICENSE",
    "perfgate",
    "fixtures",
    "baselines",
)
FAKES = (
    "checkpoints.py",
    "fake_engine.py",
    "fake_stream.py",
    "fake_suite.py",
    "fake_nvml.py",
    "traces.py",
)
# The checkout's own package and what makes it importable; and what is to be
# installed by a test.
LEFT_OUT = ("perfgate", "__editable__", "fixtures")


@dataclass(frozen=True)
class Environment:
    """A virtual environment.

    Attributes:
        fakes: a folder with the stand-ins for engines and GPUs, for a conftest.py.
    """

    folder: Path
    fakes: Path

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"

    @property
    def packages(self) -> Path:
        """Its site-packages."""
        (found,) = self.folder.glob("lib/python3*/site-packages")
        return found

    @property
    def conftest(self) -> str:
        """A conftest.py that enters the fake engine, and fake GPUs where $FAKE_GPUS is set."""
        return f"""
import os, sys
sys.path.insert(0, {str(self.fakes)!r})
from tests.support import fake_suite
fake_suite.enter()
if "FAKE_GPUS" in os.environ:
    fake_suite.enter_gpus(int(os.environ["FAKE_GPUS"]))
"""

    def run(
        self, folder: Path, *command: str, **variables: str
    ) -> subprocess.CompletedProcess:
        """Run Python with these arguments in a folder, as if no checkout existed."""
        leases = str(self.fakes.parent / "leases")
        settings = {"COLUMNS": "200", "PERFGATE_LEASES_DIR": leases}
        return subprocess.run(
            [self.python, *command],
            cwd=folder,
            env=_environ() | settings | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
        )

    def pytest(
        self, folder: Path, *options: str, **variables: str
    ) -> subprocess.CompletedProcess:
        """Run pytest in a folder; only its cache is switched off."""
        return self.run(
            folder,
            "-m",
            "pytest",
            "-p",
            "no:cacheprovider",
            *options,
            **variables,
        )

    def perfgate(
        self, folder: Path, *arguments: str
    ) -> subprocess.CompletedProcess:
        """Run the command perfgate in a folder."""
        return self.run(
            folder, str(self.folder / "bin" / "perfgate"), *arguments
        )

    def install(self, *what: str | Path) -> subprocess.CompletedProcess:
        """Install with pip from outside, for it has none of its own."""
        command = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
        command += ["--python", self.python, "install", "--quiet", *what]
        return subprocess.run(
            command,
            cwd=self.folder,
            env=_environ(),
            capture_output=True,
            text=True,
            timeout=300,
        )


def _environ() -> dict[str, str]:
    """The environment without what would lead to the checkout, or change what is tested."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(
            ("PYTEST_", "PERFGATE_", "PYTHONPATH", "FAKE_", "CI")
        )
    }


def build_wheel(folder: Path) -> Path:
    """Build the wheel from a copy, so that nothing is written into the checkout."""
    source = folder / "source"
    ignored = shutil.ignore_patterns("__pycache__")
    for name in BUILT_FROM:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=ignored)
        else:
            source.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, source / name)
    shutil.copytree(
        ROOT / "tests" / "perf", source / "tests" / "perf", ignore=ignored
    )
    command = [
        sys.executable,
        "-m",
        "pip",
        "--disable-pip-version-check",
        "wheel",
        "--quiet",
    ]
    command += [
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        folder,
        source,
    ]
    subprocess.run(
        command, check=True, env=_environ(), capture_output=True, timeout=300
    )
    (wheel,) = folder.glob("*.whl")
    return wheel


def bare_environment(folder: Path, fakes: Path) -> Environment:
    """A virtual environment with all third-party packages, and nothing of this project."""
    subprocess.run(
        [sys.executable, "-m", "venv", "--without-pip", folder],
        check=True,
        timeout=300,
    )
    made = Environment(folder, fakes)
    for place in site.getsitepackages():
        for path in Path(place).iterdir():
            link = made.packages / path.name
            if (
                not path.name.startswith(LEFT_OUT)
                and path.suffix != ".pth"
                and not link.exists()
            ):
                link.symlink_to(path)
    support = fakes / "tests" / "support"
    support.mkdir(parents=True, exist_ok=True)
    for name in FAKES:
        shutil.copy(ROOT / "tests" / "support" / name, support / name)
    return made


def environment(folder: Path, wheel: Path, fakes: Path) -> Environment:
    """A virtual environment with the wheel in it."""
    made = bare_environment(folder, fakes)
    done = made.install("--no-deps", wheel)
    assert 0 == done.returncode, done.stdout + done.stderr
    return made


def write(folder: Path, files: dict[str, str]) -> Path:
    """Make a folder with these files."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def content(folder: Path) -> set[str]:
    """The files below a folder, what Python and pytest keep for themselves left out."""
    own = {
        "__pycache__",
        ".benchmarks",
        ".hypothesis",
        ".pytest_cache",
        ".venv",
    }
    found = (path.relative_to(folder) for path in folder.rglob("*"))
    return {str(path) for path in found if not own & set(path.parts)}
