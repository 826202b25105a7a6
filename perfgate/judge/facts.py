"""Facts of a launch compared with the recorded ones, name by name.

A setting of the engine, an answer, how often an operator was called. Launches repeat
them exactly, so one that no recorded launch had is a change. It is red in either
direction: nothing tells which side is right.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from perfgate import formatting
from perfgate.judge import wording
from perfgate.judge.verdict import Outcome
from perfgate.load.metrics import family_of

Facts = Mapping[str, str]
ABSENT = "none"


def is_judged_by_facts(metric: str) -> bool:
    """Whether the facts decide, and not the number of them."""
    return family_of(metric) == "facts"


@dataclass(frozen=True)
class Change:
    """One fact that no recorded launch had.

    Attributes:
        before: the recorded values, ABSENT where no launch had the fact.
    """

    name: str
    before: str
    now: str

    @property
    def size(self) -> int:
        """By how much a count changed; 0 of a text."""
        return abs(_count(self.now) - _count(self.before))

    @property
    def text(self) -> str:
        """As a message shows it: "chunked_prefill_tokens 4096 -> 64"."""
        return wording.FACT.format(
            name=self.name, before=self.before, now=self.now
        )


@dataclass(frozen=True)
class Comparison:
    """The facts of a run against those of the recorded launches."""

    compared: int
    changes: tuple[Change, ...]

    @property
    def outcome(self) -> Outcome:
        """Any change is a regression."""
        if self.changes:
            return Outcome.REGRESSED
        return Outcome.PASSED

    @property
    def changes_text(self) -> str:
        """The changes, those of counts with the largest difference first."""
        texts = [
            change.text
            for change in sorted(self.changes, key=lambda change: -change.size)
        ]
        return formatting.listed(texts)

    @property
    def summary(self) -> str:
        """How many are as before, or which are not."""
        if not self.changes:
            return wording.FACTS_EQUAL.format(compared=self.compared)
        return wording.FACTS_CHANGED.format(
            changed=len(self.changes),
            compared=self.compared,
            changes=self.changes_text,
        )


def compare(
    current: Sequence[Facts], recorded: Sequence[Facts]
) -> Comparison | None:
    """The comparison; None where a side has no facts.

    Args:
        current: of each launch of this run.
        recorded: of each recorded launch.
    """
    current = [facts for facts in current if facts]
    known = _values(recorded)
    if not current or not known:
        return None
    changes: dict[str, Change] = {}
    for facts in current:
        for name in sorted(known.keys() | facts.keys()):
            now = facts.get(name, ABSENT)
            before = known.get(name, [ABSENT])
            if now not in before:
                changes[name] = Change(name, " or ".join(before), now)
    names = known.keys() | {name for facts in current for name in facts}
    return Comparison(len(names), tuple(changes.values()))


def of_known_names(
    current: Sequence[Facts], recorded: Sequence[Facts]
) -> Sequence[Facts]:
    """The facts whose names a recorded launch has.

    Of settings: one that nobody had read when the baseline was recorded is unknown.
    """
    known = {name for facts in recorded for name in facts}
    kept: list[Facts] = []
    for facts in current:
        kept.append({name: facts[name] for name in facts if name in known})
    return kept


def _count(value: str) -> int:
    if value.isdecimal():
        return int(value)
    return 0


def _values(recorded: Sequence[Facts]) -> dict[str, list[str]]:
    """Name -> its values in the recorded launches, ABSENT where one lacks it."""
    values: dict[str, list[str]] = defaultdict(list)
    launches = [facts for facts in recorded if facts]
    names = {name for facts in launches for name in facts}
    for facts in launches:
        for name in names:
            value = facts.get(name, ABSENT)
            if value not in values[name]:
                values[name].append(value)
    return dict(values)
