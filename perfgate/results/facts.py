"""Facts: named texts that a launch says of itself, and that are compared one by one.

What an engine set by itself, or the answers to a batch. A launch repeats them exactly,
so each that differs is a change, however small the number of them is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from perfgate.engines import chosen
from perfgate.results.schema import Launch, Measurement

SETTINGS, ANSWERS = "engine_settings", "work_answers"
OPERATORS = "work_operators"
Facts = dict[str, str]


def settings(launch: Launch) -> Facts:
    """What the engine chose or was set to, as far as it was seen."""
    known = {}
    choices = chosen.canonical_all(launch.effective | launch.settings)
    for name, value in choices.items():
        if value != chosen.NOT_SEEN:
            known[name] = value
    return known


def answers(measurement: Measurement) -> Facts:
    """The hash of each answer to the batch."""
    facts = {}
    for number, text in enumerate(measurement.answers, 1):
        facts[f"answer {number}"] = text
    return facts


def operators(measurement: Measurement) -> Facts:
    """How often each operator was called."""
    return {name: str(count) for name, count in measurement.operators.items()}


# Metric -> the facts of a launch, or of a load on it.
OF_LAUNCHES: Mapping[str, Callable[[Launch], Facts]] = {SETTINGS: settings}
OF_LOADS: Mapping[str, Callable[[Measurement], Facts]] = {
    ANSWERS: answers,
    OPERATORS: operators,
}
