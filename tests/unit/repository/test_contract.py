"""Who may import whom: the contracts in pyproject.toml, held by import-linter."""

import ast
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

pytest.importorskip("importlinter")

ROOT = Path(__file__).resolve().parents[3]
LINT = (
    "from importlinter.cli import lint_imports_command; lint_imports_command()"
)
SUPERVISOR = "perfgate/servers/supervisor"


def lint(folder):
    """Run import-linter on the package in a folder; the folder comes first among Python's."""
    command = [sys.executable, "-c", LINT, "--no-cache", "--no-logo"]
    env = os.environ | {"NO_COLOR": "1", "COLUMNS": "200"}
    return subprocess.run(
        command,
        cwd=folder,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def foreign(path):
    """What a file of the supervisor imports that is neither standard library nor the supervisor."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            assert 0 == node.level, f"{path} has a relative import"
            names.add(node.module)
    own = SUPERVISOR.replace("/", ".")
    allowed = {
        name
        for name in names
        if name.partition(".")[0] in sys.stdlib_module_names
    }
    return names - allowed - {name for name in names if name.startswith(own)}


@pytest.fixture
def copy(tmp_path):
    """A copy of the package and of its contracts."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for file in (ROOT / "perfgate").rglob("*.py"):
        target = tmp_path / file.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)
    return tmp_path


def test_the_contracts_hold():
    """No module imports what it must not."""
    done = lint(ROOT)

    assert 0 == done.returncode, done.stdout


@pytest.mark.parametrize(
    ("file", "line", "broken"),
    [
        (
            "machine/memory.py",
            "from perfgate.models import catalogue",
            "A package imports only",
        ),
        (
            "run/campaign.py",
            "from perfgate.report import page",
            "A package imports only",
        ),
        (
            "config/options.py",
            "from perfgate.accept import accept",
            "A package imports only",
        ),
        ("newcomer.py", "import os", "A package imports only"),
        ("judge/gate.py", "import pytest", "Only the plugin"),
        ("load/client.py", "import torch", "The engines run"),
        ("models/weights.py", "import transformers.models", "The engines run"),
        ("machine/memory.py", "import pynvml", "Only machine.nvml"),
        (
            "servers/supervisor/client.py",
            "from perfgate.errors import Failure",
            "The supervisor",
        ),
        (
            "servers/supervisor/client.py",
            "from perfgate.servers import log",
            "The supervisor",
        ),
    ],
)
def test_a_forbidden_import_is_refused(copy, file, line, broken):
    """One line more breaks the contract that is meant for it, and the answer names the module."""
    path = copy / "perfgate" / file
    before = path.read_text() if path.exists() else ""
    path.write_text(f"{before}\n{line}\n")

    done = lint(copy)

    assert 1 == done.returncode, done.stdout
    failed = [row for row in done.stdout.splitlines() if " BROKEN" in row]
    assert [broken] == [row[: len(broken)] for row in failed], done.stdout
    assert path.stem in done.stdout


@pytest.mark.parametrize(
    "path", sorted((ROOT / SUPERVISOR).glob("*.py")), ids=lambda p: p.stem
)
def test_the_supervisor_needs_no_installed_package(path):
    """Its files import the standard library and each other: the supervisor has no site-packages."""
    assert set() == foreign(path)


def test_an_installed_package_in_the_supervisor_is_seen(tmp_path):
    """What is neither standard library nor the supervisor's own is found, at any depth."""
    path = tmp_path / "client.py"
    path.write_text(
        "import os.path\n"
        "from perfgate.servers.supervisor.processes import end\n"
        "def later():\n"
        "    import msgspec\n"
        "    from perfgate import errors\n"
    )

    assert {"msgspec", "perfgate"} == foreign(path)


def test_every_package_is_in_the_wheel():
    """The list of packages in pyproject.toml names each folder of the package."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    listed = settings["tool"]["setuptools"]["packages"]
    folders = set()
    for file in (ROOT / "perfgate").rglob("__init__.py"):
        folders.add(".".join(file.parent.relative_to(ROOT).parts))

    assert set() == folders - set(listed)
