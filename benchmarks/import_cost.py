"""Import cost: the CPU time of light commands, as a ratio to a bare interpreter.

python -m benchmarks.import_cost [--rounds N]

Each round runs every command once, one after the other, so that a slow spell of the
machine falls on all alike. CPU time (user and system) of the process and its children;
medians over the rounds. Bytecode is cached, as where perfgate is installed: a first run
that is not counted writes it.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parent.parent
BARE = "python -c pass"
SUBCOMMANDS = (
    "accept",
    "bisect",
    "comment",
    "crosscheck",
    "doctor",
    "engines",
    "estimate",
    "fleet",
    "history",
    "judge",
    "noise",
    "prompts",
    "report",
    "schema",
)


def commands() -> dict[str, list[str]]:
    """What is run, by the words that a person would write."""
    perfgate = ["-m", "perfgate"]
    pytest = ["-m", "pytest", "-p", "no:cacheprovider", "--collect-only", "-q"]
    found = {
        BARE: ["-c", "pass"],
        "perfgate --help": [*perfgate, "--help"],
        "perfgate --version": [*perfgate, "--version"],
    }
    for name in SUBCOMMANDS:
        found[f"perfgate {name} --help"] = [*perfgate, name, "--help"]
    found["import pytest"] = ["-c", "import pytest"]
    found["import perfgate.plugin"] = ["-c", "import perfgate.plugin"]
    found["pytest -m cpu --collect-only -q"] = [*pytest, "-m", "cpu"]
    found["pytest --collect-only -q"] = pytest
    return found


def cpu_s(arguments: list[str]) -> float:
    """CPU time of one run of this Python with these arguments.

    Raises:
        RuntimeError: it failed.

    """
    env = {
        name: value
        for name, value in os.environ.items()
        if name != "PYTHONDONTWRITEBYTECODE"
    }
    env["PYTHONPATH"] = os.pathsep.join(
        filter(None, [str(ROOT), env.get("PYTHONPATH")])
    )
    command = [sys.executable, *arguments]
    process = subprocess.Popen(
        command, cwd=ROOT, env=env, stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise RuntimeError(
            f"{' '.join(arguments)} exited with {process.returncode}"
        )
    return usage.ru_utime + usage.ru_stime


def measured(rounds: int) -> dict[str, float]:
    """Median CPU seconds of each command, over so many rounds."""
    asked = commands()
    times: dict[str, list[float]] = {name: [] for name in asked}
    for number in range(rounds + 1):
        for name, arguments in asked.items():
            took_s = cpu_s(arguments)
            if number > 0:  # the first one writes bytecode
                times[name].append(took_s)
    return {name: statistics.median(taken) for name, taken in times.items()}


@click.command()
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True)
def main(rounds: int) -> None:
    """Print the CPU seconds of each command, and how many bare interpreters that is."""
    medians = measured(rounds)
    click.echo(f"{'command':34} {'CPU s':>7} {'ratio':>7}")
    for name, taken in medians.items():
        click.echo(f"{name:34} {taken:7.3f} {taken / medians[BARE]:7.1f}")


if __name__ == "__main__":
    main()
