"""Secret variables: what is written of a server has *** for them, and the engine has them.

A token is no setting: a server with another one is the same server. So the value stands
in no configuration, file, identity or baseline, but in this process alone. The same
holds of arguments.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from perfgate.errors import Failure
from perfgate.foreign_text import MASK, secret_value, shown_arguments

_VALUES: dict[tuple[str, str], str] = {}
"""(variable or argument before it, what is shown) -> the value."""


class SecretTwice(Failure):
    """One secret of servers has two values in a session."""


def hidden(variables: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """(name, value) of variables, sorted, with *** for secrets.

    Raises:
        SecretTwice: a secret has another value than before.
    """
    pairs = []
    for name, value in sorted(variables.items()):
        shown = secret_value(name, value)
        _keep(name, shown, value)
        pairs.append((name, shown))
    return tuple(pairs)


def revealed(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Variables as the engine gets them."""
    variables = {}
    for name, shown in pairs:
        variables[name] = _VALUES.get((name, shown), shown)
    return variables


def hidden_arguments(arguments: Sequence[str]) -> tuple[str, ...]:
    """Arguments with *** for secrets.

    Raises:
        SecretTwice: a secret has another value than before.
    """
    all_shown = shown_arguments(arguments)
    names = _names(all_shown)
    for name, shown, value in zip(names, all_shown, arguments, strict=True):
        _keep(name, shown, value)
    return all_shown


def revealed_arguments(all_shown: Sequence[str]) -> tuple[str, ...]:
    """Arguments as the engine gets them."""
    arguments = []
    for name, shown in zip(_names(all_shown), all_shown, strict=True):
        arguments.append(_VALUES.get((name, shown), shown))
    return tuple(arguments)


def _names(all_shown: Sequence[str]) -> list[str]:
    """What names each argument: the one before it; of several secrets all of these."""
    names = []
    name = ""
    for shown in all_shown:
        names.append(name)
        name = f"{name} {MASK}" if shown == MASK else shown
    return names


def _keep(name: str, shown: str, value: str) -> None:
    if shown == value:
        return
    if _VALUES.setdefault((name, shown), value) != value:
        raise SecretTwice(
            tried=f"giving {name or shown} to several servers",
            seen="it is a secret with two values, which no file would tell apart",
            remedy="leave it out of the study, and export its variable for pytest",
        )
