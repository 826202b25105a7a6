"""Losses: what is red and what improved, one line for each server.

"REGRESSED: vllm llama-3.1-8b-tp1: ITL +299.8 to +413.1 %, throughput -72.1 to -69.7 %
(3 loads); unchanged: memory". The table has every number; this says which ones move
together.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from perfgate import formatting
from perfgate.cases import parse_id, title
from perfgate.judge.run_status import judged_verdicts
from perfgate.judge.verdict import GREEN, Outcome, Verdict
from perfgate.load.metrics import family_of
from perfgate.report import verdict_text
from perfgate.results.schema import RunResults

MOVED = (Outcome.REGRESSED, Outcome.IMPROVED)
# Families of metrics whose name is no word of the field's.
_WORDS = {
    "itl": "ITL",
    "ttft": "TTFT",
    "tpot": "TPOT",
    "e2el": "E2EL",
    "start_up": "start",
    "memory_peak": "memory",
    "constant": "memory",
    "custom": "other metrics",
}


@dataclass(frozen=True)
class Moved:
    """What moved on one server in one direction, in words."""

    outcome: Outcome
    server: str
    text: str


def moved(results: RunResults) -> list[Moved]:
    """One for each server and direction, the red ones first."""
    rows = judged_verdicts(results)
    found = []
    for outcome in MOVED:
        servers = _by_server(row for row in rows if row.outcome is outcome)
        for server, alike in servers.items():
            found.append(Moved(outcome, server, _text(server, alike, rows)))
    return found


def lines(results: RunResults, run: str = "RUN") -> list[str]:
    """The lines of what moved, and what to do to keep gains; none where nothing moved.

    Args:
        run: the run directory, for commands that can be copied.
    """
    rows = judged_verdicts(results)
    texts = moved_lines(results)
    improved = [row for row in rows if row.outcome is Outcome.IMPROVED]
    if improved:
        advice = verdict_text.most_common_advice(improved, run)
        if advice:
            texts.append(f"  do:   {advice}")
    return texts


def moved_lines(results: RunResults) -> list[str]:
    """A line for each server and direction, the red ones first."""
    return [f"{row.outcome}: {row.text}" for row in moved(results)]


def _by_server(rows: Iterable[Verdict]) -> dict[str, list[Verdict]]:
    by_server: dict[str, list[Verdict]] = {}
    for row in rows:
        by_server.setdefault(_server(row), []).append(row)
    return by_server


def _server(row: Verdict) -> str:
    """The server as people read it, or both of a ratio."""
    servers, _, _ = title(row.case).rpartition(", ")
    return servers


def _text(
    server: str, alike: Sequence[Verdict], rows: Sequence[Verdict]
) -> str:
    parts = []
    for family, of_family in _by_family(alike).items():
        parts.append(f"{family} {_changes(of_family)}")
    loads = sorted({load for row in alike for load in parse_id(row.case)[1]})
    where = formatting.count(len(loads), "load")
    if len(loads) == 1:
        where = loads[0]
    text = f"{server}: {', '.join(parts)} ({where})"
    same = [row for row in rows if _server(row) == server]
    unchanged = _unchanged(same, alike)
    if unchanged:
        text += f"; unchanged: {', '.join(unchanged)}"
    return text


def _by_family(rows: Iterable[Verdict]) -> dict[str, list[Verdict]]:
    families: dict[str, list[Verdict]] = {}
    for row in rows:
        families.setdefault(_family(row), []).append(row)
    return families


def _family(row: Verdict) -> str:
    family = family_of(row.metric)
    return _WORDS.get(family, family)


def _changes(rows: Iterable[Verdict]) -> str:
    """The change, or the least and the largest of several: "+299.8 to +413.1 %"."""
    changes = [row.change for row in rows if row.change is not None]
    if not changes:
        return "moved"
    least = min(changes, key=abs)
    largest = max(changes, key=abs)
    text = formatting.signed_percent(largest)
    if formatting.signed_percent(least) == text:
        return text
    return formatting.signed_range(least, largest)


def _unchanged(rows: Iterable[Verdict], moved: Iterable[Verdict]) -> list[str]:
    """Families of which every case passed, that none of the moved ones belongs to."""
    families = _by_family(rows)
    for family in _by_family(moved):
        families.pop(family, None)
    names = []
    for family, alike in families.items():
        if all(row.outcome in GREEN for row in alike):
            names.append(family)
    return names
