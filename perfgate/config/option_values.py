"""Option values: parse NAME=VALUE pairs and numbers, and refuse bad ones."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence

from perfgate import formatting
from perfgate.engines.registry import ENGINES
from perfgate.errors import Failure


class BadOption(Failure):
    """An option with a bad value, or one that contradicts another or the machine."""


def name_value_pairs(option: str, texts: Sequence[str]) -> dict[str, str]:
    """Parse the values of a repeatable NAME=VALUE option; the last value of a name counts.

    Raises:
        BadOption: a value has another form.
    """
    pairs: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise BadOption(
                tried=f"reading {option} {text}",
                seen="it has no NAME=VALUE",
                remedy=f"write {option} NAME=VALUE",
            )
        pairs[name] = value
    return pairs


def refuse_below(option: str, value: float | None, minimum: float) -> None:
    """Refuse a number below a minimum, and nan; None is the default.

    Raises:
        BadOption: the number is too small.
    """
    # Every comparison with nan is false.
    if value is not None and not value >= minimum:
        raise BadOption(
            tried=f"{option} {value:g}",
            seen=f"the minimum is {minimum:g}",
            remedy=f"write {option} {minimum:g} or more",
        )


def refuse_endless(option: str, minutes: float) -> None:
    """Refuse a duration that never ends.

    Raises:
        BadOption: it is infinite.
    """
    if math.isinf(minutes):
        raise BadOption(
            tried=f"{option} {minutes:g}",
            seen="it would never end",
            remedy=f"write {option} with a number of minutes",
        )


def refuse_unknown_engines(origin: str, engines: Iterable[str]) -> None:
    """Refuse engines that are not registered.

    Args:
        origin: the option or file that names them, for the message.

    Raises:
        BadOption: one is unknown.
    """
    unknown = sorted(set(engines) - set(ENGINES))
    if unknown:
        suggestion = formatting.suggestion(unknown[0], ENGINES)
        raise BadOption(
            tried=origin,
            seen=f"there is no engine {', '.join(unknown)}",
            remedy=f"{suggestion}use one of {', '.join(ENGINES)}",
        )


def refuse_combinations(
    option: str, reason: str, excluded: Collection[str]
) -> None:
    """Refuse an option together with others that it excludes.

    Args:
        reason: why they exclude each other.
        excluded: the excluded options that were given; empty if none was.

    Raises:
        BadOption: one was given.
    """
    for name in excluded:
        raise BadOption(
            tried=f"{option} with {name}",
            seen=reason,
            remedy=f"leave {name} out",
        )
