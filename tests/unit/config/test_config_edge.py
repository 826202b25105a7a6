"""Options end in perfgate/config: no other module reads pytest's options."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import perfgate

PACKAGE = Path(perfgate.__file__).parent
CONFIG = PACKAGE / "config"
OPTION_NAMES = ("option", "getoption")
CONFIG_NAMES = ("config", "settings", "context")
# An option is declared in options.py and parsed in config.py; others use and show it.
MOST_USERS = 3  # sessions in turns, held engines, and the plan


def modules_outside_config() -> Iterator[Path]:
    """Every module of the package that may not read options."""
    for path in sorted(PACKAGE.rglob("*.py")):
        if CONFIG not in path.parents:
            yield path


def attributes(code: str) -> Iterator[ast.Attribute]:
    """Every expression with a dot."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Attribute):
            yield node


def last_name(node: ast.expr) -> str:
    """The name behind the last dot, without underscores: "config" of self._config."""
    return ast.unparse(node).split(".")[-1].strip("_")


def option_reads(code: str) -> list[int]:
    """Lines that read an attribute `option` or `getoption`, or one of such an object."""
    lines = []
    for node in attributes(code):
        owner = last_name(node.value)
        if owner == "click":  # the decorator of commands
            continue
        if node.attr in OPTION_NAMES or owner in OPTION_NAMES:
            lines.append(node.lineno)
    return lines


def reads_config(code: str, field: str) -> bool:
    """Whether a field of a configuration is read."""
    for node in attributes(code):
        if node.attr == field and last_name(node.value) in CONFIG_NAMES:
            return True
    return False


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("config.option", [1]),
        ("config.getoption('tp')", [1]),
        ("option.tp", [1]),
        ("@click.option('--tp')\ndef command(): ...", []),
        ("config.tensor_parallel_size", []),
    ],
)
def test_a_read_is_found(code, expected):
    """The search of the next test finds reads, and passes the options of commands."""
    assert expected == option_reads(code)


def test_no_other_module_reads_options():
    """A module that needs a choice of the user gets a `Config`."""
    for path in modules_outside_config():
        assert [] == option_reads(path.read_text()), path


def test_no_other_module_names_a_namespace():
    """Argparse's untyped namespace does not leave the configuration."""
    for path in modules_outside_config():
        assert "Namespace" not in path.read_text(), path


@pytest.mark.parametrize("field", ["launches", "engine_pythons"])
def test_few_modules_know_an_option(field):
    """It is used and shown in few places; declared and parsed in `config`."""
    users = []
    for path in modules_outside_config():
        if reads_config(path.read_text(), field):
            users.append(path.name)

    assert 1 <= len(users) <= MOST_USERS, users
