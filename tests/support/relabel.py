"""Other labels for the reports: every letter of a label is replaced, nothing else.

A label is a text in `perfgate.report` with a blank or a colon, or the text of a page
template. Its letters are shifted in the alphabet by a number of its own, so that two
modules that agree on a text do so no longer. Widths, digits, tags and blanks stay.
"""

from __future__ import annotations

import ast
import importlib
import re
import string
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import jinja2

# In the order in which they import each other.
MODULES = tuple(
    f"perfgate.report.{name}"
    for name in (
        "verdict_text",
        "notices",
        "questions",
        "losses",
        "headline",
        "terminal",
        "summary",
        "exports",
        "page",
    )
)
# Texts with a blank or colon that are no labels: a style of rich, commands of GitHub.
NO_LABELS = ("bold red", "::")
_TAG = re.compile(r"(<[^>]*>|`[^`]*`)")
# What a reader of the page never sees, or what jinja or the browser runs.
_TEMPLATE_CODE = re.compile(
    r"(<script>.*?</script>|<style>.*?</style>|\{%.*?%\}|\{\{.*?\}\}|<[^>]*>|&\w+;)",
    re.DOTALL,
)
_LIST = re.compile(r"\{% (set \w+ =|for \w+ in) \['")
_LISTED = re.compile(r"'([^']*)'")


def shifted(text: str, by: int) -> str:
    """The text with its letters moved in the alphabet; tags and code stay."""
    lower, upper = string.ascii_lowercase, string.ascii_uppercase
    table = str.maketrans(
        lower + upper, lower[by:] + lower[:by] + upper[by:] + upper[:by]
    )
    parts = _TAG.split(text)
    for place in range(0, len(parts), 2):
        parts[place] = parts[place].translate(table)
    return "".join(parts)


class Relabel(ast.NodeTransformer):
    """Replaces the labels of a module; counts them."""

    def __init__(self, number: int) -> None:
        self.number = number

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        """Replace a text that is a label."""
        text = node.value
        if not isinstance(text, str) or not is_label(text):
            return node
        self.number += 1
        by = 1 + self.number % 25
        return ast.copy_location(ast.Constant(shifted(text, by)), node)

    def visit_For(self, node: ast.For) -> ast.AST:
        """Replace also single words that name the columns of a table."""
        if isinstance(node.iter, ast.Tuple):
            for item in node.iter.elts:
                if isinstance(item, ast.Constant):
                    self.number += 1
                    item.value = shifted(item.value, 1 + self.number % 25)
        return self.generic_visit(node)

    def visit_FormattedValue(self, node: ast.FormattedValue) -> ast.AST:
        """Leave format specifications alone."""
        node.value = self.visit(node.value)
        return node

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        """Leave docstrings alone."""
        if isinstance(node.value, ast.Constant):
            return node
        return self.generic_visit(node)


def is_label(text: str) -> bool:
    """Whether a person reads it: it has letters, and a blank or a colon."""
    if any(part in text for part in NO_LABELS):
        return False
    has_letters = re.search("[A-Za-z]", text) is not None
    return has_letters and (" " in text or ":" in text)


def relabelled_module(module: ModuleType, number: int) -> int:
    """Run the module again with other labels, in place; returns the labels so far."""
    tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
    relabel = Relabel(number)
    tree = ast.fix_missing_locations(relabel.visit(tree))
    code = compile(tree, module.__file__, "exec")
    exec(code, module.__dict__)
    return relabel.number


class Loader(jinja2.BaseLoader):
    """The page's templates with other labels."""

    def __init__(self, inner: jinja2.BaseLoader) -> None:
        self.inner = inner

    def get_source(
        self, environment: jinja2.Environment, template: str
    ) -> tuple[str, str | None, Callable[[], bool] | None]:
        """The source of a template, its texts replaced."""
        source, name, is_current = self.inner.get_source(environment, template)
        if not template.endswith(".html.j2"):
            return source, name, is_current
        return relabelled_template(source), name, is_current


def relabelled_template(source: str) -> str:
    """A template with other texts, and other names in the lists of columns."""
    parts = _TEMPLATE_CODE.split(source)
    for place, part in enumerate(parts):
        by = 1 + place % 25
        if place % 2 == 0:
            parts[place] = shifted(part, by)
        elif _LIST.match(part):
            parts[place] = _LISTED.sub(
                lambda match, by=by: f"'{shifted(match[1], by)}'", part
            )
    return "".join(parts)


def relabel_report() -> Iterator[int]:
    """Replace the labels of all reports; yields their number, and puts all back."""
    modules = [importlib.import_module(name) for name in MODULES]
    kept = [dict(module.__dict__) for module in modules]
    number = 0
    try:
        for module in modules:
            number = relabelled_module(module, number)
        page = sys.modules["perfgate.report.page"]
        templates = page.templates

        def other_templates() -> jinja2.Environment:
            environment = templates()
            environment.loader = Loader(environment.loader)
            return environment

        page.templates = other_templates
        yield number
    finally:
        for module, names in zip(modules, kept, strict=True):
            module.__dict__.clear()
            module.__dict__.update(names)
