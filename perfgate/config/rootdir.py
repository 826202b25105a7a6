"""Root directory: options whose value pytest would take for the place of the tests.

Pytest determines its root directory from the arguments before plugins declare their
options. An existing path after ``--run-dir`` then counts as a path to collect, and the
project is not found. Joined by an equals sign, option and value cannot be mistaken.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path


def join_values(arguments: Sequence[str], options: Collection[str]) -> list[str]:
    """The arguments with each of these options joined to its value, if that is an existing path.

    Args:
        arguments: as given on the command line.
        options: names of options that take a value, such as "--run-dir".
    """
    joined: list[str] = []
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        if argument == "--":
            return [*joined, argument, *rest]
        if argument in options and rest and _could_be_a_path(rest[0]):
            argument = f"{argument}={rest.pop(0)}"
        joined.append(argument)
    return joined


def _could_be_a_path(text: str) -> bool:
    """Whether pytest would look for its root directory there."""
    if text.startswith("-"):
        return False
    try:
        return Path(text.split("::")[0]).exists()
    except OSError:  # too long for a file name
        return False
