"""Workflows in docs/ci: they can be used as they are."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / "docs" / "ci"
BIN = Path(sys.executable).parent
CHECKS = {
    "github-actions.yml": [
        BIN / "check-jsonschema",
        "--builtin-schema",
        "vendor.github-workflows",
    ],
    "gitlab-ci.yml": [
        BIN / "check-jsonschema",
        "--builtin-schema",
        "vendor.gitlab-ci",
        "--data-transform",
        "gitlab-ci",
    ],
    "slurm.sh": [BIN / "shellcheck"],
    "kubernetes.yaml": [BIN / "kubernetes-validate", "--strict"],
}


def test_every_workflow_is_checked():
    """No workflow is shipped without its check."""
    assert sorted(CHECKS) == sorted(
        path.name for path in FOLDER.iterdir() if path.suffix != ".md"
    )


@pytest.mark.parametrize("name", CHECKS)
def test_workflow_is_valid(name):
    """Its linter or schema has nothing to say."""
    done = subprocess.run(
        [*CHECKS[name], FOLDER / name],
        capture_output=True,
        text=True,
        check=False,
    )

    assert 0 == done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("name", CHECKS)
def test_options_exist(name, pytestconfig):
    """Each pytest option that a workflow names is one of the suite's."""
    text = (FOLDER / name).read_text()
    known = {
        option
        for action in pytestconfig._parser._anonymous.options
        for option in action.names()
    }
    known |= {
        option
        for group in pytestconfig._parser._groups
        for action in group.options
        for option in action.names()
    }
    named = {
        word
        for word in ("--run-dir", "--gate", "--baseline-record")
        if word in text
    }

    assert named
    assert set() == named - known
