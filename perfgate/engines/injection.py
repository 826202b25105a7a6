"""What is changed in a server on purpose, to see the gate fire?

A plant stands for a change inside the engine that nobody declared: it alters what is
launched and not the identity under which the launch is judged. Every launch notes its
plants, and such a run becomes no baseline and no history. What the engine itself
reports of a plant (another attention backend) is part of the identity as ever.
"""

from __future__ import annotations

import dataclasses
import math
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from perfgate.engines.base import LaunchPlan
from perfgate.errors import Failure

DELAY, ARGUMENTS, ENVIRONMENT = "per_token_ms", "arguments", "environment"
OPTIONS = "--plant-delay, --plant-arg and --plant-env"
Planted = Mapping[str, float | str]


class BadPlant(Failure):
    """A plant that cannot be understood, or that would be planted nowhere."""


@dataclass(frozen=True)
class Plant:
    """What is planted in the servers of one model.

    Attributes:
        per_token_ms: delay of each token, None for none.
        arguments: appended to the engine's command line.
        environment: (name, value) pairs set for the engine.
    """

    per_token_ms: float | None = None
    arguments: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()

    def into(self, plan: LaunchPlan) -> LaunchPlan:
        """The plan with the arguments and variables in it; a PYTHONPATH comes behind what the suite puts there."""
        env = dict(plan.env)
        for name, value in self.environment:
            env[name] = _behind(env.get(name), value) if name == "PYTHONPATH" else value
        return dataclasses.replace(
            plan, argv=(*plan.argv, *self.arguments), env=tuple(sorted(env.items()))
        )

    def recorded(self) -> dict[str, float | str]:
        """As a launch notes it."""
        found: dict[str, float | str] = {}
        if self.per_token_ms is not None:
            found[DELAY] = self.per_token_ms
        if self.arguments:
            found[ARGUMENTS] = shlex.join(self.arguments)
        if self.environment:
            found[ENVIRONMENT] = shlex.join(
                f"{name}={value}" for name, value in self.environment
            )
        return found


NOTHING = Plant()


def words(planted: Planted) -> str:
    """What a launch noted, for a person: "a delay of 6 ms per token, arguments --enforce-eager"."""
    texts = []
    for name, value in planted.items():
        if isinstance(value, str):
            texts.append(f"{name} {value}")
        else:
            texts.append(
                f"a delay of {value:g} ms per token"
                if name == DELAY
                else f"{name} {value:g} ms"
            )
    return ", ".join(texts)


def read(
    delays: Sequence[str], arguments: Sequence[str], environments: Sequence[str]
) -> dict[str, Plant]:
    """Model -> what is planted in its servers, from the values of the three repeatable options.

    Raises:
        BadPlant: one of them has another form.
    """
    plants: dict[str, Plant] = {}
    for option, texts in (
        ("--plant-delay", delays),
        ("--plant-arg", arguments),
        ("--plant-env", environments),
    ):
        for text in texts:
            model, _, value = text.partition("=")
            if not (model and value):
                raise _bad(
                    option,
                    text,
                    "no NAME=VALUE",
                    f"write {option} NAME=VALUE, NAME being a model",
                )
            plants[model] = _with(plants.get(model, NOTHING), option, text, value)
    return plants


def _with(plant: Plant, option: str, text: str, value: str) -> Plant:
    if option == "--plant-delay":
        try:
            delay_ms = float(value)
        except ValueError:
            delay_ms = math.nan
        if not 0 <= delay_ms < math.inf:
            advice = "give milliseconds for each token, such as --plant-delay MODEL=10"
            raise _bad(option, text, f"{value!r} is no number from 0 on", advice)
        return dataclasses.replace(plant, per_token_ms=delay_ms)
    if option == "--plant-arg":
        try:
            return dataclasses.replace(
                plant, arguments=(*plant.arguments, *shlex.split(value))
            )
        except ValueError as error:
            raise _bad(
                option, text, str(error), "quote the arguments as for a shell"
            ) from None
    name, equals, setting = value.partition("=")
    if not (name and equals):
        raise _bad(
            option,
            text,
            f"{value!r} is no NAME=VALUE",
            f"write {option} MODEL=NAME=VALUE",
        )
    return dataclasses.replace(plant, environment=(*plant.environment, (name, setting)))


def refuse_unserved(plants: Mapping[str, Plant], served: Sequence[str]) -> None:
    """What is planted nowhere proves nothing.

    Args:
        served: models of the servers that this session plans.

    Raises:
        BadPlant: a plant's model is none of them.
    """
    if unserved := sorted(set(plants) - set(served)):
        named = ", ".join(sorted(set(served)))
        raise BadPlant(
            tried=f"planting something in {', '.join(unserved)}",
            seen=f"this session serves {named or 'nothing'}",
            remedy=f"correct the model in {OPTIONS}, or select tests that serve it",
        )


def _bad(option: str, text: str, seen: str, remedy: str) -> BadPlant:
    return BadPlant(tried=f"reading {option} {text}", seen=seen, remedy=remedy)


def _behind(ours: str | None, theirs: str) -> str:
    """A search path with the suite's own folder first, what is planted next, and what was inherited last."""
    first, separator, rest = (ours or "").partition(os.pathsep)
    return os.pathsep.join([part for part in (first, theirs) if part]) + (
        separator + rest
    )
