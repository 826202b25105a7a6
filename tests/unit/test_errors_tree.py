"""The tree of errors in the docstring of `perfgate.errors` lists every subclass of Failure."""

import ast
import re
from pathlib import Path

from perfgate import errors

PACKAGE = Path(errors.__file__).resolve().parent
# "  + NvmlError            machine.nvml             NVML does not answer"
ROW = re.compile(r"^( *)[*+-] (\w+) +([\w.]+) {2,}\S.*$", re.MULTILINE)


def drawn_tree():
    """(class, module, parent) of each row of the drawing; the indent tells the parent."""
    rows = []
    parents = {}
    for indent, name, module in ROW.findall(errors.__doc__):
        depth = len(indent) // 2
        parents[depth] = name
        rows.append((name, module, parents.get(depth - 1)))
    return rows


def existing_tree():
    """(class, module, parent) of Failure and its subclasses in the source of the package."""
    classes = []
    for path in sorted(PACKAGE.rglob("*.py")):
        module = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                bases = [
                    ast.unparse(base).split(".")[-1] for base in node.bases
                ]
                classes.append((node.name, module, bases))
    found = {("Failure", "errors", None)}
    names = {"Failure"}
    while True:
        more = set()
        for name, module, bases in classes:
            for parent in names.intersection(bases):
                more.add((name, module, parent))
        if more <= found:
            return found
        found |= more
        names |= {name for name, _, _ in more}


def test_the_drawing_is_the_tree():
    """Each class once, under its parent, with the module that defines it."""
    drawn = drawn_tree()
    existing = existing_tree()

    assert set() == existing - set(drawn), "draw these in perfgate/errors.py"
    assert set() == set(drawn) - existing, (
        "remove these from perfgate/errors.py"
    )
    assert len(existing) == len(drawn)


def test_siblings_are_in_the_order_of_their_modules():
    """A reader finds a class by its module."""
    siblings = [row for row in drawn_tree() if "Failure" == row[2]]

    assert siblings == sorted(siblings, key=lambda row: (row[1], row[0]))
