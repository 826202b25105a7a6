"""What light commands do not load: asserted by module, for times depend on the machine."""

import subprocess
import sys

import pytest

from benchmarks import import_cost
from perfgate.cli.main import COMMANDS

HEAVY = ("jinja2", "matplotlib", "numpy", "requests", "rich", "scipy")
CALL = "from perfgate.cli.main import main; main({arguments}, standalone_mode=False)"


def loaded(code, modules):
    """Which of the modules a fresh interpreter has loaded after this code."""
    code = f"{code}\nimport sys; print(*[name for name in {modules!r} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()[-1].split()


def test_a_loaded_module_is_seen():
    """What this test looks for it finds."""
    assert ["json"] == loaded("import json", ("json", "scipy"))


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_the_command_itself_loads_nothing_heavy(option):
    """The list of commands is shown without any of what single commands need, msgspec included."""
    code = CALL.format(arguments=[option])

    assert [] == loaded(code, (*HEAVY, "msgspec", "psutil", "pytest"))


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_help_of_a_command_loads_nothing_heavy(name):
    """Each subcommand's help comes without what only its work needs."""
    code = CALL.format(arguments=[name, "--help"])

    assert [] == loaded(code, (*HEAVY, "tokenizers", "uvloop"))


def test_the_plugin_loads_nothing_heavy():
    """Pytest loads the plugin in every run, also where only unit tests are collected."""
    unwanted = (
        *HEAVY,
        "httptools",
        "prometheus_client",
        "pynvml",
        "tokenizers",
        "uvloop",
    )

    assert [] == loaded("import perfgate.plugin", unwanted)


def test_data_of_a_run_are_read_without_the_client():
    """Who reads a run loads neither the load client nor numpy."""
    code = "import perfgate.results.schema, perfgate.judge.verdict"

    assert [] == loaded(
        code,
        ("httptools", "numpy", "perfgate.load.client", "requests", "uvloop"),
    )


def test_the_benchmark_asks_every_command():
    """Benchmarks.import_cost has each subcommand, and a bare interpreter to divide by."""
    asked = import_cost.commands()

    assert sorted(COMMANDS) == sorted(import_cost.SUBCOMMANDS)
    assert import_cost.BARE in asked


def test_the_benchmark_counts_cpu_time():
    """A process that works longer has more of it; one that fails is an error."""
    idle = import_cost.cpu_s(["-c", "pass"])
    busy = import_cost.cpu_s(["-c", "for _ in range(30_000_000): pass"])

    assert busy > idle
    with pytest.raises(RuntimeError, match="exited with 3"):
        import_cost.cpu_s(["-c", "raise SystemExit(3)"])
