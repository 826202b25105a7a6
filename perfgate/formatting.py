"""Formatting: numbers, units, changes, counts and lists as text.

The only place that turns a number into text, so that messages, tables, figures and
pages print a number in the same way.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping, Sequence

MAX_LISTED = 6  # reasons, or differing fields, that a message lists
RATIO_UNIT = "x"
MOST_EXTRA_DIGITS = 4
SMALLEST_CHANGE = 5e-5  # a smaller one would be printed as 0.00 %

# Unit -> what an increase and a decrease mean.
_DIRECTIONS = {
    "ms": ("slower", "faster"),
    "s": ("slower", "faster"),
    "tok/s": ("faster", "slower"),
    "req/s": ("faster", "slower"),
    "bytes": ("larger", "smaller"),
    "tokens": ("more", "fewer"),
}


def number(value: float | None, unit: str = "") -> str:
    """A value to four digits with its unit: "1,225 tok/s", "8.12 ms", "46.7 GB", "2.674x".

    Args:
        value: None prints a dash.
        unit: "x" for a ratio.
    """
    if value is None:
        return "-"
    if unit in ("B", "bytes") and abs(value) >= 1e6:
        return f"{value / 1e9:.4g} GB"
    text = f"{value:.4g}"
    if abs(value) >= 999.95:
        text = f"{value:,.0f}"
    if unit == RATIO_UNIT:
        return text + unit
    return f"{text} {unit}".rstrip()


def percent(fraction: float, extra_digits: int = 0) -> str:
    """A fraction without its sign: "3.3 %"; a second digit below one per cent: "0.21 %".

    Args:
        extra_digits: more than these, see `extra_digits`.
    """
    size = abs(fraction) * 100
    digits = 1
    if 0 < size < 0.995:
        digits = 2
    return f"{size:.{digits + extra_digits}f} %"


def signed_percent(fraction: float, extra_digits: int = 0) -> str:
    """A fraction with its sign: "+3.2 %", "-0.21 %"."""
    sign = "-" if fraction < 0 else "+"
    return sign + percent(fraction, extra_digits)


def extra_digits(fraction: float, limits: Iterable[float]) -> int:
    """How many more digits tell a fraction from its limits; 0 where the usual ones do."""
    others = [limit for limit in limits if limit != fraction]
    for digits in range(MOST_EXTRA_DIGITS):
        text = signed_percent(fraction, digits)
        if all(signed_percent(other, digits) != text for other in others):
            return digits
    return MOST_EXTRA_DIGITS


def signed_range(low: float, high: float) -> str:
    """Two fractions with their signs: "-5.0 to +5.3 %"."""
    return f"{signed_percent(low).removesuffix(' %')} to {signed_percent(high)}"


def ratio(value: float) -> str:
    """A ratio of two values: "2.674x"."""
    return number(value, RATIO_UNIT)


def change(fraction: float, extra_digits: int = 0) -> str:
    """A change: "+3.2 %"; "unchanged" where it would print as 0.00 %."""
    if abs(fraction) < SMALLEST_CHANGE and not extra_digits:
        return "unchanged"
    return signed_percent(fraction, extra_digits)


def change_in_words(fraction: float, unit: str, extra_digits: int = 0) -> str:
    """A change and what it means for the unit: "+6.2 % (slower)"; a ratio has no word."""
    text = change(fraction, extra_digits)
    if text == "unchanged" or unit not in _DIRECTIONS:
        return text
    increase, decrease = _DIRECTIONS[unit]
    word = increase if fraction > 0 else decrease
    return f"{text} ({word})"


def suggestion(name: str, known: Collection[str]) -> str:
    """A question, "did you mean X? ", where a known name is similar; else ""."""
    matches = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if matches:
        return f"did you mean {matches[0]}? "
    return ""


def count(number_of: int, noun: str) -> str:
    """A number and its noun: "1 launch", "6 launches"."""
    if number_of == 1:
        return f"1 {noun}"
    ending = "es" if noun.endswith(("ch", "s")) else "s"
    return f"{number_of} {noun}{ending}"


def differing(
    current: Mapping[str, str], reference: Mapping[str, str]
) -> list[str]:
    """Names of the fields that differ; a field missing on one side differs."""
    names = sorted(current.keys() | reference.keys())
    return [name for name in names if current.get(name) != reference.get(name)]


def differences(
    current: Mapping[str, str], reference: Mapping[str, str]
) -> list[str]:
    """Fields that differ, each with both values."""
    lines = []
    for name in differing(current, reference):
        new, old = _field(current, name), _field(reference, name)
        lines.append(f"{name}: {new} now, {old} in the baseline")
    return lines


def _field(fields: Mapping[str, str], name: str) -> str:
    return fields.get(name, "(none)") or "(empty)"


def listed(items: Sequence[str]) -> str:
    """The first items, and the number of the others."""
    text = "; ".join(items[:MAX_LISTED])
    rest = len(items) - MAX_LISTED
    if rest > 0:
        text += f"; and {rest} more"
    return text
