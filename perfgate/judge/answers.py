"""Answers: how many of the fixed greedy answers changed, from their short hashes.

`perfgate.run.probes.answers` reads them, `perfgate.results.schema.Launch` keeps them. In
the context of a load they stand as one field: the hashes of all answers, joined by a
space, "varies" in the place of an answer on which the launches of the run disagree.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from perfgate import formatting
from perfgate.judge import packages

FIELD = "answers"
# Of each hash. Two of 16 answers are confused once in a million changes.
DIGITS = 6
VARIES = "varies"


@dataclass(frozen=True)
class AnswerChange:
    """How many of the answers that both sides know have changed."""

    changed: int
    compared: int

    @property
    def is_most(self) -> bool:
        """Whether more than half of them changed."""
        return 2 * self.changed > self.compared

    def __str__(self) -> str:
        return f"{self.changed} of {self.compared}"


def joined(launches: Iterable[Sequence[str]]) -> str:
    """The answers of the launches of one server as one field; "" where none is known.

    Args:
        launches: hashes of each launch's answers, empty where it has none.
    """
    known = [answers for answers in launches if answers]
    texts = []
    for hashes in zip(*known, strict=False):
        short = {text[:DIGITS] for text in hashes}
        text = VARIES
        if len(short) == 1:
            text = short.pop()
        texts.append(text)
    return " ".join(texts)


def is_answers(field: str) -> bool:
    """Whether a field of a context holds answers, of a ratio's side as well."""
    return field.rpartition(".")[2] == FIELD


def compare(current: str, reference: str) -> AnswerChange | None:
    """How many answers changed; None where a side has none that can be compared.

    Args:
        current: a field as `joined` makes it.
        reference: another one.
    """
    new, old = current.split(), reference.split()
    if len(new) != len(old):
        return None
    changed = compared = 0
    for pair in zip(new, old, strict=True):
        if VARIES in pair:
            continue
        compared += 1
        if pair[0] != pair[1]:
            changed += 1
    if not compared:
        return None
    return AnswerChange(changed, compared)


def largest_change(
    current: Mapping[str, str], reference: Mapping[str, str]
) -> AnswerChange | None:
    """The change of the answers between two contexts; of a ratio that of the worse side."""
    changes = []
    for field in filter(is_answers, current):
        change = compare(current[field], reference.get(field, ""))
        if change is not None:
            changes.append(change)
    if not changes:
        return None
    return max(changes, key=lambda change: change.changed)


def context_differences(
    current: Mapping[str, str], reference: Mapping[str, str]
) -> list[str]:
    """Fields of a context that differ, each with both values; of answers how many changed.

    Answers and packages that one side does not have are no difference.
    """
    others, recorded = _others(current, reference)
    lines = formatting.differences(others, recorded)
    for field in filter(is_answers, current):
        change = compare(current[field], reference.get(field, ""))
        if change is not None and change.changed:
            lines.append(f"{field}: {change} changed")
        varying = current[field].split().count(VARIES)
        if varying:
            lines.append(f"{field}: {varying} differ between launches")
    return lines


def with_counts(
    current: Mapping[str, str], reference: Mapping[str, str]
) -> tuple[dict[str, str], dict[str, str]]:
    """Both contexts for a table: "3 of 16 changed", and "0 of 16 changed", for hashes."""
    shown, recorded = _others(current, reference)
    for field in filter(is_answers, current):
        change = compare(current[field], reference.get(field, ""))
        if change is not None and change.changed:
            shown[field] = f"{change} changed"
            recorded[field] = f"0 of {change.compared} changed"
    return shown, recorded


def _others(
    current: Mapping[str, str], reference: Mapping[str, str]
) -> tuple[dict[str, str], dict[str, str]]:
    """Both contexts without answers, and with packages where both know them."""
    return packages.comparable(
        _without_answers(current), _without_answers(reference)
    )


def _without_answers(context: Mapping[str, str]) -> dict[str, str]:
    fields = {}
    for field, value in context.items():
        if not is_answers(field):
            fields[field] = value
    return fields
