"""Formatting of numbers, units, changes and counts, and the form of a message.

Three lines, as of any failure: what was tried, what was seen, what to do. Directions
are words ("lower by 12.1 %"), because a minus sign is read past.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping, Sequence

SHOWN = 6  # reasons or differing fields that a message lists


def told(tried: str, seen: str, do: str, more: Iterable[str] = ()) -> str:
    """The message of a verdict; `more` are lines between what was seen and what to do."""
    return "\n".join(
        [tried, f"  seen: {seen}", *(f"  {line}" for line in more), f"  do:   {do}"]
    )


def number(value: float, unit: str) -> str:
    """A value with its unit, to four digits: "1,225 tok/s", "8.12 ms", "46.7 GB"; a ratio has no unit."""
    if unit in ("B", "bytes") and value >= 1e6:
        return f"{value / 1e9:.4g} GB"
    text = f"{value:,.0f}" if value >= 999.95 else f"{value:.4g}"
    return f"{text} {unit}".rstrip()


def percent(fraction: float) -> str:
    """A fraction without its sign: "3.3 %", with a second digit where it would be lost: "0.21 %"."""
    size = abs(fraction) * 100
    return f"{size:.2f} %" if 0 < size < 0.995 else f"{size:.1f} %"


def moved(change: float) -> str:
    """The direction in words."""
    if abs(change) < 5e-6:
        return "unchanged"
    return f"{'higher' if change > 0 else 'lower'} by {percent(change)}"


def suggestion(name: str, known: Collection[str]) -> str:
    """A question, "did you mean X? ", where one of the known names is near; else nothing."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if near:
        return f"did you mean {near[0]}? "
    return ""


def count(number_of: int, noun: str) -> str:
    """A number and its noun: "1 launch", "6 launches"."""
    if number_of == 1:
        return f"1 {noun}"
    return f"{number_of} {noun}{'es' if noun.endswith('ch') else 's'}"


def differing(now: Mapping[str, str], then: Mapping[str, str]) -> list[str]:
    """Names of the fields that differ; a field missing on one side differs."""
    return [
        field
        for field in sorted(now.keys() | then.keys())
        if now.get(field) != then.get(field)
    ]


def differences(now: Mapping[str, str], then: Mapping[str, str]) -> list[str]:
    """Fields that differ, each with both values."""
    apart = differing(now, then)
    return [
        f"{field}: {_shown(now, field)} now, {_shown(then, field)} in the baseline"
        for field in apart
    ]


def _shown(fields: Mapping[str, str], field: str) -> str:
    return fields.get(field, "(none)") or "(empty)"


def listed(items: Sequence[str]) -> str:
    """Some of the items, and how many more there are."""
    rest = len(items) - SHOWN
    return "; ".join(items[:SHOWN]) + (f"; and {rest} more" if rest > 0 else "")
