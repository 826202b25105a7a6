"""Injections in whole runs: seen where they were injected; invalid ones are refused."""

from __future__ import annotations

import sys

import pytest

from perfgate.results.schema import load
from tests.support.projects import newest_run, outcomes, perfgate, verdicts

pytest_plugins = ["pytester"]
MOE, DENSE = (
    f"fake-{model}-small-tp2/closed-c16/output_throughput"
    for model in ("mixtral", "llama")
)
AGAINST = ("--against-engine", f"fake={sys.executable}")
TWO_SERVERS = ("-m", "cpu", "-k", "test_output_throughput")


def test_injected_argument_is_red_in_its_model_alone(project, pytester):
    """An engine argument slows the candidate's sparse model: its cases alone fail.

    They are INJECTED and kept out of baselines.
    """
    injection = ("--inject-arg", "mixtral-small=--set itl_s=0.004")
    slowed = project(
        *TWO_SERVERS,
        *AGAINST,
        "--run-dir",
        "slowed",
        "--perf-report",
        "yes",
        *injection,
    )

    assert (1, {"failed": 1, "passed": 1}) == (slowed.ret, outcomes(slowed)), (
        slowed.stdout.str()
    )
    assert {MOE: "REGRESSED", DENSE: "PASSED"} == verdicts(
        pytester.path / "slowed"
    )
    results = load(pytester.path / "slowed")
    assert {"fake-mixtral-small-tp2"} == {
        launch.server for launch in results.launches if launch.injected
    }
    line = "INJECTED in fake-mixtral-small-tp2: arguments --set itl_s=0.004"
    slowed.stdout.fnmatch_lines([line])
    for name in ("summary.md", "report.html"):
        assert line in (pytester.path / "slowed" / name).read_text()
    assert () == results.servers["fake-mixtral-small-tp2"].config.extra_args


def test_injected_variable_reaches_the_engine(project, pytester):
    """A variable reaches the engine through a script instead of its Python; accept refuses."""
    script = pytester.path / "engine-python"
    script.write_text(
        '#!/bin/sh\nexport PYTHONPATH="$PYTHONPATH:/opt/site"\nexec '
        f'{sys.executable} "$@" $INJECTED_ARGUMENTS\n'
    )
    script.chmod(0o755)
    slow = project(
        *TWO_SERVERS,
        *(
            "--engine-python",
            f"fake={script}",
            "--inject-env",
            "mixtral-small=INJECTED_ARGUMENTS=--set itl_s=0.004",
        ),
    )

    # Nothing is recorded.
    assert {"skipped": 2} == outcomes(slow), slow.stdout.str()
    slow.stdout.fnmatch_lines(
        [
            "INJECTED in fake-mixtral-small-tp2: environment 'INJECTED_ARGUMENTS=--set itl_s=0.004'"
        ]
    )
    run = newest_run(pytester)
    values = {row.case: row.value for row in load(run).verdicts}
    # 1,000 / 4 ms vs 1,000 / 1 ms.
    assert {MOE: 250.0, DENSE: 1000.0} == {
        case: round(value) for case, value in values.items()
    }
    refused = perfgate(pytester, "accept", str(run))
    assert 1 == refused.ret
    assert "had an injection: INJECTED environment" in refused.stderr.str()


def test_only_the_same_injection_is_resumed(project, pytester):
    """--resume launches again what was injected otherwise."""
    run = (*TWO_SERVERS, "--run-dir", "mine")
    project(*run, "--inject-arg", "mixtral-small=--set itl_s=0.004")
    again = project(
        *run, "--resume", "--inject-arg", "mixtral-small=--set itl_s=0.004"
    )
    plain = project(*run, "--resume")

    assert "2 launches kept of 2" in again.stdout.str()
    assert "1 launches kept of 2" in plain.stdout.str()
    assert (
        "INJECTED" not in plain.stdout.str().rpartition("performance gate")[2]
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            ("--inject-arg", "mixtral-small=--x", "--baseline-record"),
            "leave --baseline-record out",
        ),
        (
            (
                "--inject-env",
                "mixtral-small=A=1",
                "--attach",
                "fake=http://127.0.0.1:9",
            ),
            "leave --attach out",
        ),
    ],
    ids=["record", "attach"],
)
def test_injections_that_cannot_be_meant(project, options, said):
    """What is changed on purpose is not recorded, and is injected only in servers of our own."""
    result = project("-m", "cpu", *options)

    assert pytest.ExitCode.USAGE_ERROR == result.ret
    assert said in result.stderr.str()


def test_injection_in_a_model_that_is_not_served(project):
    """An injection that would be injected nowhere fails the tests instead of proving nothing."""
    result = project(
        *TWO_SERVERS, "--inject-arg", "mixtral-8x7b=--enforce-eager"
    )

    assert (1, {"failed": 2}) == (result.ret, outcomes(result))
    result.stdout.fnmatch_lines(
        ["*this session serves llama-small, mixtral-small*"]
    )
