"""Does an injection change what is launched, say so everywhere, and become nobody's baseline?"""

from __future__ import annotations

import dataclasses
import sys

import msgspec
import pytest

from perfgate.engines.base import LaunchPlan
from perfgate.engines.injection import BadInjection, Injection, NOTHING, format_injection, parse_injections
from perfgate.judge.identity import identity
from perfgate.judge.observation import RunReader
from perfgate.results.schema import Launch, load
from tests.unit import measured as m
from tests.unit.projects import newest_run, outcomes, perfgate, verdicts

pytest_plugins = ["pytester"]
MOE, DENSE = (f"fake-{model}-small-tp2/closed-c16/output_throughput" for model in ("mixtral", "llama"))
AGAINST = ("--against-engine", f"fake={sys.executable}")
TWO_SERVERS = ("-m", "cpu", "-k", "test_output_throughput")
PLAN = LaunchPlan(
    key="vllm-mixtral-8x7b-tp1",
    argv=("python", "--dtype", "bfloat16"),
    env=(("A", "1"), ("PYTHONPATH", "/inside:/inherited")),
    host="127.0.0.1",
    port=1,
    health_path="/health",
    phases=(),
    remedies=(),
    startup_timeout_s=1.0,
)


def test_options_are_read():
    """Repeated options of one model add up; arguments are split as a shell would."""
    expected = {
        "a": Injection(
            per_token_ms=6.0, arguments=("--enforce-eager", "--x", "3 4"), environment=(("N", "1=2"), ("M", ""))
        ),
        "b": Injection(per_token_ms=0.5),
    }

    assert expected == parse_injections(["a=6", "b=.5"], ["a=--enforce-eager", "a=--x '3 4'"], ["a=N=1=2", "a=M="])
    assert {} == parse_injections([], [], [])


@pytest.mark.parametrize(
    ("options", "seen"),
    [
        ((["a"], [], []), "no NAME=VALUE"),
        ((["a=slow"], [], []), "'slow' is no number from 0 on"),
        ((["a=-5"], [], []), "'-5' is no number from 0 on"),
        (([], ["=--eager"], []), "no NAME=VALUE"),
        (([], ["a='"], []), "No closing quotation"),
        (([], [], ["a=VALUE"]), "no NAME=VALUE"),
    ],
    ids=["no-value", "no-number", "negative", "no-model", "quotes", "no-variable"],
)
def test_options_that_cannot_be_read(options, seen):
    """What is wrong is said, with the option."""
    with pytest.raises(BadInjection) as refused:
        parse_injections(*options)
    assert seen in refused.value.seen
    assert "--inject-" in refused.value.tried


def test_plan_is_changed_and_nothing_else():
    """Arguments come last, variables replace the plan's; a search path keeps the suite's own folder in front."""
    injection = Injection(arguments=("--enforce-eager",), environment=(("A", "2"), ("B", "3"), ("PYTHONPATH", "/injected")))

    changed = injection.apply_to(PLAN)

    assert ("python", "--dtype", "bfloat16", "--enforce-eager") == changed.argv
    assert {"A": "2", "B": "3", "PYTHONPATH": "/inside:/injected:/inherited"} == dict(changed.env)
    assert PLAN == dataclasses.replace(changed, argv=PLAN.argv, env=PLAN.env)
    assert PLAN == NOTHING.apply_to(PLAN)
    bare = dataclasses.replace(PLAN, env=())
    assert {"PYTHONPATH": "/injected"} == dict(Injection(environment=(("PYTHONPATH", "/injected"),)).apply_to(bare).env)


def test_launch_notes_its_injections():
    """Numbers stay numbers, so that old files load; a person reads words."""
    injection = Injection(per_token_ms=6.0, arguments=("--x", "3 4"), environment=(("N", "1"),))

    assert {"per_token_ms": 6.0, "arguments": "--x '3 4'", "environment": "N=1"} == injection.record()
    assert "a delay of 6 ms per token, arguments --x '3 4', environment N=1" == format_injection(injection.record())
    assert {} == NOTHING.record()
    launch = m.run({m.MOE_LOAD: {"output_throughput": [1.0]}}, [], injected=injection.record()).launches[0]
    for noted in (launch, msgspec.structs.replace(launch, injected={"per_token_ms": 5.0})):
        assert noted == msgspec.json.decode(msgspec.json.encode(noted), type=Launch)


def test_injected_run_is_judged_under_its_declared_identity():
    """An injection is no part of the identity, and the reader of a run finds it."""
    values = {m.MOE_LOAD: {"output_throughput": [1.0]}}
    plain, injected = (m.run(values, [m.THROUGHPUT], injected=what) for what in ({}, {"arguments": "--enforce-eager"}))

    assert identity(plain, m.MOE_LOAD) == identity(injected, m.MOE_LOAD)
    assert {"arguments": "--enforce-eager"} == RunReader(injected).injected(m.THROUGHPUT)


def test_injected_argument_is_red_in_its_model_alone(project, pytester):
    """An engine argument slows the candidate's sparse model: red there, told as INJECTED, kept out of baselines."""
    injection = ("--inject-arg", "mixtral-small=--set itl_s=0.004")
    slowed = project(*TWO_SERVERS, *AGAINST, "--run-dir", "slowed", "--perf-report", "yes", *injection)

    assert (1, {"failed": 1, "passed": 1}) == (slowed.ret, outcomes(slowed)), slowed.stdout.str()
    assert {MOE: "REGRESSED", DENSE: "PASSED"} == verdicts(pytester.path / "slowed")
    results = load(pytester.path / "slowed")
    assert {"fake-mixtral-small-tp2"} == {launch.server for launch in results.launches if launch.injected}
    line = "INJECTED in fake-mixtral-small-tp2: arguments --set itl_s=0.004"
    slowed.stdout.fnmatch_lines([line])
    for name in ("summary.md", "report.html"):
        assert line in (pytester.path / "slowed" / name).read_text()
    assert () == results.servers["fake-mixtral-small-tp2"].config.extra_args


def test_injected_variable_reaches_the_engine(project, pytester):
    """A variable reaches the engine through a script in place of its Python; accept refuses the run."""
    script = pytester.path / "engine-python"
    script.write_text(
        f'#!/bin/sh\nexport PYTHONPATH="$PYTHONPATH:/opt/site"\nexec {sys.executable} "$@" $INJECTED_ARGUMENTS\n'
    )
    script.chmod(0o755)
    slow = project(
        *TWO_SERVERS,
        *("--engine-python", f"fake={script}", "--inject-env", "mixtral-small=INJECTED_ARGUMENTS=--set itl_s=0.004"),
    )

    assert {"passed": 2} == outcomes(slow), slow.stdout.str()  # only reported on the CPU
    slow.stdout.fnmatch_lines(["INJECTED in fake-mixtral-small-tp2: environment 'INJECTED_ARGUMENTS=--set itl_s=0.004'"])
    run = newest_run(pytester)
    values = {row.case: row.value for row in load(run).verdicts}
    # 1,000 / 4 ms beside 1,000 / 1 ms.
    assert {MOE: 250.0, DENSE: 1000.0} == {case: round(value) for case, value in values.items()}
    refused = perfgate(pytester, "accept", str(run))
    assert 1 == refused.ret
    assert "changed on purpose: INJECTED environment" in refused.stderr.str()


def test_only_the_same_injection_is_gone_on_with(project, pytester):
    """--resume launches again what was injected otherwise."""
    run = (*TWO_SERVERS, "--run-dir", "mine")
    project(*run, "--inject-arg", "mixtral-small=--set itl_s=0.004")
    again = project(*run, "--resume", "--inject-arg", "mixtral-small=--set itl_s=0.004")
    plain = project(*run, "--resume")

    assert "2 launches kept of 2" in again.stdout.str()
    assert "1 launches kept of 2" in plain.stdout.str()
    assert "INJECTED" not in plain.stdout.str().rpartition("performance gate")[2]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--inject-arg", "mixtral-small=--x", "--baseline-record"), "leave --baseline-record out"),
        (("--inject-env", "mixtral-small=A=1", "--attach", "fake=http://127.0.0.1:9"), "leave --attach out"),
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
    result = project(*TWO_SERVERS, "--inject-arg", "mixtral-8x7b=--enforce-eager")

    assert (1, {"failed": 2}) == (result.ret, outcomes(result))
    result.stdout.fnmatch_lines(["*this session serves llama-small, mixtral-small*"])
