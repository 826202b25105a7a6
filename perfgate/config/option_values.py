"""Option values: parse NAME=VALUE pairs and numbers, and refuse a value with its remedy."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from perfgate import formatting
from perfgate.engines.registry import ENGINES
from perfgate.errors import Failure


class BadOption(Failure):
    """An option with a bad value, or one that contradicts another or the machine."""


def name_value_pairs(option: str, texts: Sequence[str]) -> dict[str, str]:
    """Parse the values of a repeatable NAME=VALUE option; a later value replaces an earlier one.

    Raises:
        BadOption: a value has another form.
    """
    pairs: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise BadOption(
                tried=f"reading {option} {text}",
                seen="no NAME=VALUE",
                remedy=f"write {option} NAME=VALUE",
            )
        pairs[name] = value
    return pairs


def refuse_below(option: str, value: float | None, least: float) -> None:
    """Refuse a number below the least one that makes sense; None is the default.

    Raises:
        BadOption: it is below.
    """
    if value is not None and value < least:
        raise BadOption(
            tried=f"{option} {value:g}",
            seen=f"{least:g} is the least",
            remedy=f"correct {option}",
        )


def refuse_unknown_engines(origin: str, engines: Iterable[str]) -> None:
    """Refuse engines that no adapter knows.

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
            remedy=f"{suggestion}name one of {', '.join(ENGINES)}",
        )


def refuse_combinations(
    option: str, reason: str, others: Collection[str]
) -> None:
    """Refuse options that exclude an option.

    Args:
        reason: why they exclude each other.
        others: the excluded options that were given; empty if none was.

    Raises:
        BadOption: one was given.
    """
    for other in others:
        raise BadOption(
            tried=f"{option} with {other}",
            seen=reason,
            remedy=f"leave {other} out",
        )
