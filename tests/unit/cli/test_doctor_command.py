"""The command `doctor` prints each finding with its remedy, and its exit code says what runs."""

import pytest

from perfgate.cli import doctor, doctor_command
from perfgate.cli.finding import Finding
from perfgate.machine import hardware

OK = Finding("platform", "pytest -m cpu", "2 cores")
LACKING = Finding(
    "platform", "pytest -m h200", "found no GPU", "run it on two H200s", True
)


@pytest.fixture
def findings(monkeypatch):
    """Replaces what the doctor finds; keeps what it was asked."""
    asked = {}

    def put(*found, runs=True):
        def examine(machine, study, store, pythons, folders):
            asked.update(pythons=dict(pythons), folders=dict(folders))
            return iter(found)

        def platforms(machine, study, ranks, found, detect):
            asked["ranks"] = ranks
            return iter([OK])

        monkeypatch.setattr(doctor, "examine", examine)
        monkeypatch.setattr(doctor, "platforms", platforms)
        monkeypatch.setattr(doctor, "can_run", lambda found, chosen: runs)
        monkeypatch.setattr(hardware, "detect", lambda: None)
        return asked

    return put


def test_each_finding_has_a_line_and_its_remedy(findings, call):
    """One without a remedy is ok, one with a remedy is to be done."""
    findings(LACKING)

    result = call(doctor_command.command)

    assert [
        "todo  pytest -m h200: found no GPU",
        "      -> run it on two H200s",
        "",
        "ok    pytest -m cpu: 2 cores",
    ] == result.output.splitlines()
    assert 0 == result.exit_code


def test_it_fails_where_nothing_can_run(findings, call):
    """For a script that asks before it starts a run."""
    findings(LACKING, runs=False)

    assert 1 == call(doctor_command.command).exit_code


def test_options_are_handed_on(findings, call):
    """Pairs are parsed as pytest's options are."""
    asked = findings(OK)

    call(
        doctor_command.command,
        "--tp=4",
        "--engine-python=vllm=/a",
        "--engine-python=sglang=/b",
        "--model-dir=m=/c",
    )

    assert 4 == asked["ranks"]
    assert {"vllm": "/a", "sglang": "/b"}.items() <= asked["pythons"].items()
    assert {"m": "/c"}.items() <= asked["folders"].items()


@pytest.mark.parametrize("option", ["--engine-python", "--model-dir"])
def test_a_bad_pair_is_a_usage_error(findings, call, option):
    """Click's exit code 2, with the option and the text."""
    findings(OK)

    result = call(doctor_command.command, option, "vllm")

    assert 2 == result.exit_code
    assert f"reading {option} vllm: " in result.output


@pytest.mark.parametrize("ranks", ["0", "-3"])
def test_a_server_has_a_rank(findings, call, ranks):
    """No GPU at all would be enough for none of them."""
    findings()

    result = call(doctor_command.command, "--tp", ranks)

    assert 2 == result.exit_code
    assert "Invalid value for '--tp'" in result.output


def test_a_name_that_nothing_reads_is_said(findings, call):
    """A typo would leave the option without effect; a hook may know the name."""
    findings(OK)

    result = call(
        doctor_command.command,
        *("--engine-python", "vlm=/x"),
        *("--model-dir", "llama-3-8b=/x"),
        *("--model-dir", "llama-3.1-8b=/x"),
    )

    assert 0 == result.exit_code
    lines = result.output.splitlines()
    assert lines[0] == (
        "todo  --engine-python vlm=: there is no engine vlm, so it is not looked at"
    )
    assert lines[1].startswith("      -> did you mean vllm? use one of ")
    assert lines[2].startswith(
        "todo  --model-dir llama-3-8b=: there is no model"
    )
    assert lines[3].startswith("      -> did you mean llama-3.1-8b? ")
    assert lines[4] == "ok    pytest -m cpu: 2 cores"
