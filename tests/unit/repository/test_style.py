"""House style: density of the code, length of functions, first lines of modules."""

import ast
import io
import tokenize
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[3]
MODULES = sorted((ROOT / "perfgate").rglob("*.py"))
NO_CODE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENCODING,
    tokenize.ENDMARKER,
}
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
DOCUMENTED = (ast.Module, ast.ClassDef, *FUNCTIONS)


@cache
def tree(path):
    """The syntax tree of a module."""
    return ast.parse(path.read_text())


def docstring_lines(path):
    """Numbers of the lines that docstrings take."""
    lines = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, DOCUMENTED) and ast.get_docstring(node) is not None:
            first = node.body[0]
            lines.update(range(first.lineno, first.end_lineno + 1))
    return lines


def tokens_and_lines(path):
    """Tokens of code, and lines of code that hold them."""
    documented, count, lines = docstring_lines(path), 0, set()
    for token in tokenize.generate_tokens(
        io.StringIO(path.read_text()).readline
    ):
        if token.type in NO_CODE or token.start[0] in documented:
            continue
        count += 1
        lines.update(range(token.start[0], token.end[0] + 1))
    return count, len(lines)


def total_lines():
    """Lines of code of the whole library."""
    return sum(tokens_and_lines(path)[1] for path in MODULES)


def test_code_is_light():
    """Code that is admired has 5.0 to 6.6 tokens a line; at most 7.0 here."""
    tokens = sum(tokens_and_lines(path)[0] for path in MODULES)
    assert tokens / total_lines() <= 7.0


def test_few_conditional_expressions():
    """At most 12 conditional expressions in 1,000 lines: an `if` reads better."""
    count = 0
    for path in MODULES:
        count += sum(
            isinstance(node, ast.IfExp) for node in ast.walk(tree(path))
        )
    assert 1000 * count / total_lines() <= 12


def test_functions_are_short():
    """No function has 60 lines or more."""
    long = []
    for path in MODULES:
        for node in ast.walk(tree(path)):
            if not isinstance(node, FUNCTIONS):
                continue
            if node.end_lineno - node.lineno + 1 >= 60:
                long.append(f"{path.relative_to(ROOT)}: {node.name}")
    assert [] == long


def test_a_module_begins_with_a_statement():
    """Its first line says what it is; a question names no term to search for."""
    others = []
    for path in MODULES:
        docstring = ast.get_docstring(tree(path)) or ""
        if not docstring or docstring.splitlines()[0].endswith("?"):
            others.append(str(path.relative_to(ROOT)))
    assert [] == others


def test_layout_is_left_to_the_formatter():
    """No line is kept from it."""
    kept = [path for path in MODULES if "# fmt:" in path.read_text()]
    assert [] == kept
