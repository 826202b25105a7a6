"""Options end in perfgate/config: no other module reads pytest's options."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import perfgate

PACKAGE = Path(perfgate.__file__).parent
NAMES = ("option", "getoption")
# Those that may know of an option: declared, parsed, used, shown.
MOST_MODULES = 4


def modules():
    """Every module of the package but the configuration's."""
    for path in sorted(PACKAGE.rglob("*.py")):
        if PACKAGE / "config" not in path.parents:
            yield path


def option_reads(tree):
    """Lines that read an attribute called option or getoption, or an attribute of a variable option."""
    lines = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute):
            continue
        owner = node.value.id if isinstance(node.value, ast.Name) else None
        if owner == "click":  # its decorator
            continue
        if node.attr in NAMES or owner in NAMES:
            lines.append(node.lineno)
    return lines


def attribute_reads(tree, name):
    """Lines that read an attribute of that name."""
    return [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr == name]


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("config.option.tp", [1]),
        ("config.getoption('tp')", [1]),
        ("option.tp", [1]),
        ("@click.option('--tp')\ndef command(): ...", []),
        ("config.tensor_parallel_size", []),
    ],
)
def test_a_read_is_found(code, expected):
    """What the next test looks for it finds, and the command's own options it does not."""
    assert expected == option_reads(ast.parse(code))


def test_no_other_module_reads_options():
    """A module that needs a choice of the user gets a `Config`."""
    found = {str(path): option_reads(ast.parse(path.read_text())) for path in modules()}

    assert {} == {path: lines for path, lines in found.items() if lines}


def test_no_other_module_sees_a_namespace():
    """Argparse's untyped namespace has no way out."""
    found = [str(path) for path in modules() if "Namespace" in path.read_text()]

    assert [] == found


@pytest.mark.parametrize("name", ["launches", "engine_pythons"])
def test_an_option_is_known_to_few_modules(name):
    """Whoever changes an option reads four modules at most: where it is declared, parsed, used and shown."""
    config = PACKAGE / "config"
    users = []
    for path in [*modules(), *config.glob("*.py")]:
        tree = ast.parse(path.read_text())
        if any(is_config(node.value) and node.attr == name for node in ast.walk(tree) if isinstance(node, ast.Attribute)):
            users.append(path.name)

    assert len(users) + len(["options.py", "config.py"]) <= MOST_MODULES, users


def is_config(node):
    """Whether an expression is called config or settings, whatever holds it."""
    text = ast.unparse(node)
    return text.split(".")[-1].strip("_") in ("config", "settings", "context")
