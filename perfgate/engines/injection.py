"""Injection: a change made to a server on purpose, to test the gate.

An injection stands for an undeclared change inside the engine. It changes what is
launched, but not the identity under which the launch is judged. Every launch records
its injections, and such a run never becomes a baseline or part of the history. What the
engine reports of an injection (another attention backend) is named as the cause.
"""

from __future__ import annotations

import dataclasses
import math
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from perfgate import formatting
from perfgate.engines.base import LaunchPlan
from perfgate.errors import Failure
from perfgate.foreign_text import secret_value, without_secrets

DELAY, ARGUMENTS, ENVIRONMENT = "per_token_ms", "arguments", "environment"
OPTIONS = "--inject-delay, --inject-arg and --inject-env"
InjectionRecord = Mapping[str, float | str]


class BadInjection(Failure):
    """An injection that cannot be parsed, or whose model no server serves."""


@dataclass(frozen=True)
class Injection:
    """What is injected into the servers of one model.

    Attributes:
        per_token_ms: delay of each token, None for none.
        arguments: appended to the engine's command line.
        environment: (name, value) pairs set for the engine.
    """

    per_token_ms: float | None = None
    arguments: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()

    def apply_to(self, plan: LaunchPlan) -> LaunchPlan:
        """The plan with these arguments and variables.

        A PYTHONPATH follows the folder that the suite puts first.
        """
        env = dict(plan.env)
        for name, value in self.environment:
            if name == "PYTHONPATH":
                env[name] = _python_path(env.get(name, ""), value)
            else:
                env[name] = value
        return dataclasses.replace(
            plan,
            argv=(*plan.argv, *self.arguments),
            env=tuple(sorted(env.items())),
        )

    def record(self) -> dict[str, float | str]:
        """As a launch records it: delays in ms, the rest as shell text."""
        fields: dict[str, float | str] = {}
        if self.per_token_ms is not None:
            fields[DELAY] = self.per_token_ms
        if self.arguments:
            arguments = shlex.join(self.arguments)
            fields[ARGUMENTS] = without_secrets(arguments)
        if self.environment:
            settings = [
                f"{name}={secret_value(name, value)}"
                for name, value in self.environment
            ]
            fields[ENVIRONMENT] = shlex.join(settings)
        return fields


NOTHING = Injection()


def format_injection(record: InjectionRecord) -> str:
    """A launch's record as text: "a delay of 6 ms per token, arguments --enforce-eager"."""
    texts = []
    for name, value in record.items():
        if isinstance(value, str):
            texts.append(f"{name} {value}")
        elif name == DELAY:
            texts.append(f"a delay of {value:g} ms per token")
        else:
            texts.append(f"{name} {value:g} ms")
    return ", ".join(texts)


def parse_injections(
    delays: Sequence[str], arguments: Sequence[str], environments: Sequence[str]
) -> dict[str, Injection]:
    """Model -> what is injected into its servers, from three repeatable options.

    Raises:
        BadInjection: one of them has another form.
    """
    injections: dict[str, Injection] = {}
    for option, texts in (
        ("--inject-delay", delays),
        ("--inject-arg", arguments),
        ("--inject-env", environments),
    ):
        for text in texts:
            model, _, value = text.partition("=")
            if not (model and value):
                advice = f"write {option} MODEL=VALUE"
                raise _bad_option(option, text, "it has no MODEL=VALUE", advice)
            injection = injections.get(model, NOTHING)
            injections[model] = _extended(injection, option, text, value)
    return injections


def refuse_unserved(
    injections: Mapping[str, Injection], models: Sequence[str]
) -> None:
    """Refuse an injection into a model that no server serves.

    Args:
        models: models of the servers that this session plans.

    Raises:
        BadInjection: an injection's model is none of them.
    """
    unserved = sorted(set(injections) - set(models))
    if not unserved:
        return
    served = ", ".join(sorted(set(models))) or "nothing"
    raise BadInjection(
        tried=f"injecting a change into {', '.join(unserved)}",
        seen=f"this session serves {served}",
        remedy=(
            f"{formatting.suggestion(unserved[0], models)}correct the model in "
            f"{OPTIONS}, or select tests that serve it"
        ),
    )


def _extended(
    injection: Injection, option: str, text: str, value: str
) -> Injection:
    """The injection with the value of one more option."""
    if option == "--inject-delay":
        delay_ms = _delay_ms(option, text, value)
        return dataclasses.replace(injection, per_token_ms=delay_ms)
    if option == "--inject-arg":
        arguments = _shell_words(option, text, value)
        arguments = (*injection.arguments, *arguments)
        return dataclasses.replace(injection, arguments=arguments)
    name, equals, setting = value.partition("=")
    if not (name and equals):
        problem = f"{value!r} has no NAME=VALUE"
        advice = f"write {option} MODEL=NAME=VALUE"
        raise _bad_option(option, text, problem, advice)
    environment = (*injection.environment, (name, setting))
    return dataclasses.replace(injection, environment=environment)


def _delay_ms(option: str, text: str, value: str) -> float:
    try:
        delay_ms = float(value)
    except ValueError:
        delay_ms = math.nan
    if not 0 <= delay_ms < math.inf:
        problem = f"{value!r} is not a delay in milliseconds (0 or more)"
        advice = "write the milliseconds per token: --inject-delay MODEL=10"
        raise _bad_option(option, text, problem, advice)
    return delay_ms


def _shell_words(option: str, text: str, value: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(value))
    except ValueError as error:
        advice = "quote the arguments as for a shell"
        raise _bad_option(option, text, str(error), advice) from None


def _bad_option(option: str, text: str, seen: str, remedy: str) -> BadInjection:
    return BadInjection(
        tried=f"reading {option} {text}", seen=seen, remedy=remedy
    )


def _python_path(path: str, injected: str) -> str:
    """A search path: the suite's own folder, the injected one, then the inherited ones."""
    first, separator, inherited = path.partition(os.pathsep)
    parts = [part for part in (first, injected) if part]
    return os.pathsep.join(parts) + separator + inherited
