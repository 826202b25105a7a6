"""Choices of the engine: what it chose by itself, against what it chose for the baseline.

Attention backend, MoE backend, graphs, chunk size. A person who fixes one of them changes
the identity of the load. What the engine chose is judged by value and named as the cause.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import msgspec

from perfgate import formatting
from perfgate.engines import chosen
from perfgate.judge import wording
from perfgate.judge.identity import without_side
from perfgate.judge.observation import Observation
from perfgate.judge.verdict import Decision, Outcome

# Outcomes of a value that changed, or may have.
_CHANGED = frozenset(
    {Outcome.REGRESSED, Outcome.IMPROVED, Outcome.INCONCLUSIVE, Outcome.INVALID}
)


def differing(
    current: Mapping[str, str], recorded: Mapping[str, str]
) -> list[str]:
    """Names of the choices that changed, whatever they were called when recorded.

    One that was not recorded, or not seen on one side, is unknown and says nothing.
    """
    now = chosen.canonical_all(current)
    names = []
    for name, choice in sorted(chosen.canonical_all(recorded).items()):
        current_choice = now.get(name, chosen.NOT_SEEN)
        if chosen.NOT_SEEN in (choice, current_choice):
            continue
        if current_choice != choice:
            names.append(name)
    return names


def not_seen(
    current: Mapping[str, str], recorded: Mapping[str, str]
) -> list[str]:
    """Names of the choices that were recorded and are not seen now: unknown."""
    now = chosen.canonical_all(current)
    names = []
    for name, choice in sorted(chosen.canonical_all(recorded).items()):
        if choice == chosen.NOT_SEEN:
            continue
        if now.get(name, chosen.NOT_SEEN) == chosen.NOT_SEEN:
            names.append(name)
    return names


def changes(
    current: Mapping[str, str], recorded: Mapping[str, str]
) -> list[str]:
    """Each changed choice: "moe_backend TRITON -> FLASHINFER_CUTLASS (numerator)".

    What changed alike on both sides of a ratio is one entry.
    """
    sides: dict[str, list[str]] = defaultdict(list)
    for field in differing(current, recorded):
        name = without_side(field)
        choice = wording.CHOICE.format(
            name=name,
            before=chosen.canonical(name, recorded[field]),
            now=chosen.canonical(name, current[field]),
        )
        sides[choice].append(field.removesuffix(name).rstrip("."))
    lines = []
    for choice, names in sides.items():
        side = " and ".join(filter(None, names))
        line = choice
        if side:
            line = wording.CHOICE_OF_SIDE.format(choice=choice, side=side)
        lines.append(line)
    return lines


def cause(observation: Observation, recorded: Mapping[str, str]) -> str:
    """The changed choices as the cause of a verdict; "" where nothing changed.

    Args:
        recorded: what the engine chose for the baseline.
    """
    changed = changes(observation.chosen, recorded)
    if not changed:
        return ""
    template = wording.CHOSEN
    if observation.injected:
        template = wording.CHOSEN_INJECTED
    return template.format(changes=formatting.listed(changed))


def explained(
    decision: Decision, observation: Observation, recorded: Mapping[str, str]
) -> Decision:
    """The decision with what the engine chose otherwise than for the baseline.

    It is the cause of a change, and a detail where nothing is lost. What cannot be
    compared has no cause.
    """
    unknown = not_seen(observation.chosen, recorded)
    if unknown and decision.outcome in _CHANGED:
        line = wording.CHOICE_NOT_SEEN.format(
            choices=formatting.listed(unknown)
        )
        details = (*decision.details, line)
        decision = msgspec.structs.replace(decision, details=details)
    text = cause(observation, recorded)
    if not text or decision.outcome is Outcome.INCOMPARABLE:
        return decision
    if decision.outcome in _CHANGED:
        return msgspec.structs.replace(decision, cause=text)
    line = wording.CHOICE_CHANGED.format(cause=text)
    details = (*decision.details, line)
    return msgspec.structs.replace(decision, details=details)
