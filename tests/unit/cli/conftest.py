"""Ways to call the command line."""

import pytest
from click.testing import CliRunner

from perfgate.cli.main import main


@pytest.fixture
def call(tmp_path, monkeypatch):
    """Runs a command in a desk's environment."""
    monkeypatch.delenv("CI", raising=False)

    def run(command, *arguments):
        return CliRunner().invoke(
            command, [str(argument) for argument in arguments]
        )

    return run


@pytest.fixture
def perfgate(monkeypatch):
    """Run a command; returns what click's runner returns."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    return lambda *args: CliRunner().invoke(main, args)
