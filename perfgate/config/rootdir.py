"""Root directory: keep pytest from taking an option's value for a path of tests.

Pytest determines its root directory from the arguments before plugins declare their
options. It takes an existing path after ``--run-dir`` for a path to collect, and does
not find the project. It cannot do so after an option is joined to its value by an
equals sign. The options may stand in a file, too, which pytest reads for ``@FILE``.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path


def join_values(
    arguments: Sequence[str], options: Collection[str]
) -> list[str]:
    """Join each of these options to its value, if that is an existing path.

    Where a file of arguments has one, they stand in place of the file.

    Args:
        arguments: as given on the command line, or in $PYTEST_ADDOPTS.
        options: names of options that take a value, such as "--run-dir".
    """
    expanded = _expanded(arguments)
    joined = _joined(expanded, options)
    return list(arguments) if joined == expanded else joined


def _expanded(arguments: Sequence[str]) -> list[str]:
    """The arguments with those of each ``@FILE``, one a line, in its place."""
    expanded = []
    for argument in arguments:
        lines = None
        if argument.startswith("@"):
            lines = _lines(Path(argument[1:]))
        expanded += [argument] if lines is None else lines
    return expanded


def _lines(path: Path) -> list[str] | None:
    """The lines of a file; None where pytest is to say why there are none."""
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return None


def _joined(arguments: Sequence[str], options: Collection[str]) -> list[str]:
    joined: list[str] = []
    remaining = list(arguments)
    while remaining:
        argument = remaining.pop(0)
        if argument == "--":
            joined.append(argument)
            joined.extend(remaining)
            return joined
        if argument in options and remaining and _is_path(remaining[0]):
            value = remaining.pop(0)
            argument = f"{argument}={value}"
        joined.append(argument)
    return joined


def _is_path(text: str) -> bool:
    """Whether pytest would look for its root directory there."""
    return existing_path(text, Path()) is not None


def existing_path(argument: str, folder: Path) -> Path | None:
    """The path that an argument names in a folder; None where there is none.

    The words of -k can be too long for a file name.
    """
    if argument.startswith("-"):
        return None
    path = folder / argument.split("::")[0]
    try:
        return path if path.exists() else None
    except OSError:
        return None
