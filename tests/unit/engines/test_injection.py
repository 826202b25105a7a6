"""Injections: they change the launch, and never become a baseline."""

from __future__ import annotations

import dataclasses

import msgspec
import pytest

from perfgate.engines.base import LaunchPlan
from perfgate.engines.injection import (
    NOTHING,
    BadInjection,
    Injection,
    format_injection,
    parse_injections,
)
from perfgate.judge.identity import identity
from perfgate.judge.observation import RunReader
from perfgate.results.schema import Launch
from tests.support import builders as m

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
            per_token_ms=6.0,
            arguments=("--enforce-eager", "--x", "3 4"),
            environment=(("N", "1=2"), ("M", "")),
        ),
        "b": Injection(per_token_ms=0.5),
    }

    assert expected == parse_injections(
        ["a=6", "b=.5"],
        ["a=--enforce-eager", "a=--x '3 4'"],
        ["a=N=1=2", "a=M="],
    )
    assert {} == parse_injections([], [], [])


@pytest.mark.parametrize(
    ("options", "seen"),
    [
        ((["a"], [], []), "has no MODEL=VALUE"),
        ((["a=slow"], [], []), "'slow' is not a delay in milliseconds"),
        ((["a=-5"], [], []), "'-5' is not a delay in milliseconds"),
        (([], ["=--eager"], []), "has no MODEL=VALUE"),
        (([], ["a='"], []), "No closing quotation"),
        (([], [], ["a=VALUE"]), "has no NAME=VALUE"),
    ],
    ids=[
        "no-value",
        "no-number",
        "negative",
        "no-model",
        "quotes",
        "no-variable",
    ],
)
def test_options_that_cannot_be_read(options, seen):
    """What is wrong is said, with the option."""
    with pytest.raises(BadInjection) as refused:
        parse_injections(*options)
    assert seen in refused.value.seen
    assert "--inject-" in refused.value.tried


def test_plan_is_changed_and_nothing_else():
    """Arguments come last, variables replace the plan's.

    A search path keeps the suite's own folder in front.
    """
    injection = Injection(
        arguments=("--enforce-eager",),
        environment=(("A", "2"), ("B", "3"), ("PYTHONPATH", "/injected")),
    )

    changed = injection.apply_to(PLAN)

    assert ("python", "--dtype", "bfloat16", "--enforce-eager") == changed.argv
    assert {
        "A": "2",
        "B": "3",
        "PYTHONPATH": "/inside:/injected:/inherited",
    } == dict(changed.env)
    assert PLAN == dataclasses.replace(changed, argv=PLAN.argv, env=PLAN.env)
    assert PLAN == NOTHING.apply_to(PLAN)
    bare = dataclasses.replace(PLAN, env=())
    assert {"PYTHONPATH": "/injected"} == dict(
        Injection(environment=(("PYTHONPATH", "/injected"),)).apply_to(bare).env
    )


def test_launch_notes_its_injections():
    """Numbers stay numbers, so that old files load; a person reads words."""
    injection = Injection(
        per_token_ms=6.0, arguments=("--x", "3 4"), environment=(("N", "1"),)
    )

    assert {
        "per_token_ms": 6.0,
        "arguments": "--x '3 4'",
        "environment": "N=1",
    } == injection.record()
    assert (
        "a delay of 6 ms per token, arguments --x '3 4', environment N=1"
        == format_injection(injection.record())
    )
    assert {} == NOTHING.record()
    launch = m.run(
        {m.MOE_LOAD: {"output_throughput": [1.0]}},
        [],
        injected=injection.record(),
    ).launches[0]
    for noted in (
        launch,
        msgspec.structs.replace(launch, injected={"per_token_ms": 5.0}),
    ):
        assert noted == msgspec.json.decode(
            msgspec.json.encode(noted), type=Launch
        )


def test_injected_run_is_judged_under_its_declared_identity():
    """An injection is no part of the identity, and the reader of a run finds it."""
    values = {m.MOE_LOAD: {"output_throughput": [1.0]}}
    plain, injected = (
        m.run(values, [m.THROUGHPUT], injected=what)
        for what in ({}, {"arguments": "--enforce-eager"})
    )

    assert identity(plain, m.MOE_LOAD) == identity(injected, m.MOE_LOAD)
    assert {"arguments": "--enforce-eager"} == RunReader(injected).injected(
        m.THROUGHPUT
    )
