"""Does the house stand as drawn?"""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
FIXTURES = ROOT / "fixtures"
MODULES = {
    str(path.relative_to(FIXTURES).with_suffix("")).replace("/", ".").removesuffix(".__init__"): path
    for path in sorted(FIXTURES.rglob("*.py"))
    if path.parent.name != "inside" and path != FIXTURES / "__init__.py"
}
ENGINES = {"torch", "vllm", "sglang", "transformers", "triton"}


def drawn_order() -> list[str]:
    """The modules in the order of CONTRIBUTING.md's drawing of the house."""
    drawing = re.search(r"## The house.*?```\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)
    assert drawing is not None
    return [line.split()[0] for line in drawing.group(1).splitlines() if line and not line.startswith(" ")]


def imported(path: Path) -> set[str]:
    """Full names of what a file imports, wherever in the file."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def own_imports(path: Path) -> set[str]:
    """Modules of fixtures/ that a file imports."""
    return {name.removeprefix("fixtures.") for name in imported(path)} & MODULES.keys()


def test_every_module_is_drawn():
    """CONTRIBUTING.md names every module, once, and none that is not there."""
    assert sorted(MODULES) == sorted(drawn_order())


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_one_way(module):
    """A module imports only modules that stand above it."""
    order = drawn_order()
    below = {name for name in own_imports(MODULES[module]) if order.index(name) >= order.index(module)} - {module}

    assert set() == below


@pytest.mark.parametrize("module", MODULES)
def test_no_module_imports_an_engine(module):
    """The suite imports none of the engines nor torch: they live in environments of their own."""
    assert set() == {name.split(".")[0] for name in imported(MODULES[module])} & ENGINES


def test_only_the_plugin_knows_pytest():
    """Everything but the plugin can be used without pytest."""
    knowing = {name for name, path in MODULES.items() if {"pytest", "_pytest"} & imported(path)}

    assert {"plugin"} == knowing


@pytest.mark.parametrize("module", MODULES)
def test_first_line_is_a_question(module):
    """A module's docstring begins with the question that it answers."""
    docstring = ast.get_docstring(ast.parse(MODULES[module].read_text())) or ""

    assert "?" in docstring.splitlines()[0]
