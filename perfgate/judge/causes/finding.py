"""Finding: what a rule says of one server, and what rules ask of its rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from perfgate.judge.causes import words
from perfgate.judge.causes.symptoms import Moved, ServerSymptoms
from perfgate.results.diagnosis import Cause, Phase

Servers = Sequence[ServerSymptoms]


@dataclass(frozen=True)
class Finding:
    """What a rule says of one server."""

    cause: Cause
    phase: Phase
    evidence: tuple[str, ...]
    by_choice: bool = False


Rule = Callable[[ServerSymptoms, Servers], Finding | None]


def are_worse(rows: Sequence[Moved]) -> bool:
    """Whether one of them lost more than noise explains."""
    return any(row.is_worse for row in rows)


def told(rows: Sequence[Moved]) -> list[Moved]:
    """The rows that are worth telling: others are the same figure in other units."""
    return [row for row in rows if row.is_red or row.metric in words.NAMES]


def lost(server: ServerSymptoms) -> list[Moved]:
    """What lost most, judged rows first; one figure for what says the same."""
    rows = [row for row in told(server.moved) if row.is_worse]
    return sorted(rows, key=lambda row: (not row.is_red, -row.loss))


def phase_of(server: ServerSymptoms) -> Phase:
    """Where the time is lost, by one stream's first tokens and by the steps."""
    prefill, decode = are_worse(server.first_tokens), are_worse(server.steps)
    return _phase(prefill, decode)


def both(phases: Sequence[Phase]) -> Phase:
    """Where servers lost time: all of their phases, where they differ."""
    if len(set(phases)) == 1:
        return phases[0]
    both_phases = "prefill and decode" in phases
    prefill = both_phases or "prefill" in phases
    return _phase(prefill, both_phases or "decode" in phases)


def _phase(prefill: bool, decode: bool) -> Phase:
    if prefill and decode:
        return "prefill and decode"
    if decode:
        return "decode"
    if prefill:
        return "prefill"
    return "unknown"
