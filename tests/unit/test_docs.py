"""Is what the documentation says true: does it build, and do its commands run?"""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
PAGES = sorted((ROOT / "docs").rglob("*.md"))
COMMANDS = sorted(
    {
        line.removeprefix("$ ")
        for page in PAGES
        for block in re.findall(r"```console\n(.*?)```", page.read_text(), re.DOTALL)
        for line in block.splitlines()
        if line.startswith("$ ")
    }
)
PROGRAMS = {
    "perfgate": [sys.executable, "-c", "from fixtures.cli import main; main()"],
    "pytest": [sys.executable, "-m", "pytest", "-p", "no:cacheprovider"],
}


def test_site_is_built(tmp_path):
    """Mkdocs builds all pages in strict mode, and the generated parts are in them."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore", "DISABLE_MKDOCS_2_WARNING": "true"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    reference = (tmp_path / "reference.html").read_text() if done.returncode == 0 else ""

    assert 0 == done.returncode, done.stdout + done.stderr
    assert [] == [
        word for word in ("--plant-delay", "perfgate accept", "itl_median_ms", "VerdictRow") if word not in reference
    ]


@pytest.mark.parametrize("command", COMMANDS)
def test_command_runs(command, tmp_path):
    """Each console block's command ends well and prints something."""
    program, *arguments = shlex.split(command)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [*PROGRAMS[program], *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )

    assert 0 == done.returncode, done.stdout + done.stderr
    assert done.stdout.strip()


def test_commands_exist():
    """There are commands to run, of both programs."""
    assert {"perfgate", "pytest"} == {command.split()[0] for command in COMMANDS}


def test_every_command_of_perfgate_that_is_named_exists():
    """A page names no command that there is not."""
    from fixtures.cli import main

    named = {
        word for page in [*PAGES, ROOT / "README.md"] for word in re.findall(r"perfgate ([a-z]+)\b", page.read_text())
    }
    assert {"accept", "judge", "history", "report"} <= named & main.commands.keys()
