"""Layout of the tests: `tests/unit` mirrors `perfgate`, path by path."""

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PACKAGE, UNIT = ROOT / "perfgate", ROOT / "tests" / "unit"
# Whole runs of the plugin, real engines, and the repository itself mirror nothing.
OWN = ("plugin", "real", "repository")
LONG_LINES = 60
# Modules of more lines that have no test of their own, and what tests them.
TESTED_BY = {
    "accept/evidence": "accept/test_proposal.py, accept/test_accept_recorded.py",
    "accept/new_metric": "accept/test_proposal.py, accept/test_accept.py",
    "accept/provenance": "accept/test_accept.py",
    "accept/refusals": "accept/test_accept.py",
    "accept/table": "accept/test_accept.py",
    "accept/remarks": "accept/test_proposal.py, accept/test_accept.py",
    "accept/target_effect": "accept/test_accept.py",
    "config/contradictions": "config/test_parsing.py, plugin/test_usage.py",
    "engines/inside/sglang_cpu/torchvision": "real/test_engine_contract.py",
    "fleet/cluster": "fleet/test_driver.py",
    "fixtures": "plugin/test_plugin.py, plugin/test_in_hand.py",
    "perf_tests": "plugin/test_plugin.py, plugin/test_hooks.py",
    "plugin": "plugin/",
    "report/figures/gaps": "report/test_page.py, results/test_samples_everywhere.py",
    "judge/measured_case": "judge/test_gate.py, judge/test_routing_shift.py",
    "run/campaign": "plugin/test_plugin.py, plugin/test_against.py",
    "run/escalation": "plugin/test_plugin.py, plugin/test_suspects.py",
    "run/launcher": "plugin/test_plugin.py, plugin/test_prepare_next.py",
    "run/one_launch": "plugin/test_in_hand.py, plugin/test_escalation_failure.py",
    "run/duel_launches": "plugin/test_duels.py",
    "run/in_hand": "plugin/test_in_hand.py",
    "study/building": "study/test_study.py",
    "run/started_launch": "run/test_launch_runner.py",
    "servers/running": "servers/test_server.py, servers/test_external.py",
}


def modules() -> dict[str, int]:
    """Lines of each module, by its path in the package."""
    return {
        str(path.relative_to(PACKAGE).with_suffix("")): len(
            path.read_text().splitlines()
        )
        for path in PACKAGE.rglob("*.py")
        if not path.stem.startswith("__")
    }


def mirrored() -> list[Path]:
    """The test files that mirror a module, below tests/unit."""
    found = (path.relative_to(UNIT) for path in sorted(UNIT.rglob("test_*.py")))
    return [path for path in found if path.parts[0] not in OWN]


def is_of(test: Path, module: str) -> bool:
    """Whether that is a module's test: test_MODULE.py, or test_MODULE_ASPECT.py."""
    folder, _, name = module.rpartition("/")
    named = test.stem.removeprefix("test_")
    here = test.parent == Path(folder)
    return here and (named == name or named.startswith(f"{name}_"))


def test_each_test_is_of_a_module():
    """Each lies where its module lies, and begins with its name."""
    known = modules()
    lost = [
        str(t) for t in mirrored() if not any(is_of(t, name) for name in known)
    ]

    assert [] == lost, "no module of perfgate/ has the path of these tests"


def test_each_long_module_is_tested():
    """By a test of its own, or by what is said above; what is said is no more than that."""
    files = mirrored()
    without = {
        name: lines
        for name, lines in modules().items()
        if not any(is_of(test, name) for test in files)
    }
    long = {name for name, lines in without.items() if lines > LONG_LINES}

    assert [] == sorted(long - TESTED_BY.keys()), (
        "these have no test of their own"
    )
    assert [] == sorted(TESTED_BY.keys() - without.keys()), (
        "these have a test of their own now, or are no modules any more"
    )


@pytest.mark.parametrize("module", TESTED_BY)
def test_what_tests_it_is_there(module):
    """The files that are named exist."""
    named = TESTED_BY[module].split(", ")

    assert [] == [path for path in named if not (UNIT / path).exists()]


def test_support_holds_no_tests():
    """What tests share is in tests/support, and tests are in tests/unit."""
    assert [] == list((ROOT / "tests" / "support").rglob("test_*.py"))
    shared = {path.name for path in UNIT.rglob("*.py")} - {"conftest.py"}
    assert [] == sorted(name for name in shared if not name.startswith("test_"))
