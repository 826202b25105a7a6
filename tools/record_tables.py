"""Runs the simulations whose tables docs/error-rates.md shows, and stores what they print.

    python -m tools.record_tables            # all of them: half an hour of one core
    python -m tools.record_tables bisect     # some

They are seeded, so a table changes only where the code, the noise table, the baselines
or the stored runs do.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TABLES = ROOT / "docs" / "tables"
# Name of the table -> the module in benchmarks/ and its arguments.
COMMANDS: Mapping[str, tuple[str, ...]] = {
    "whole-runs": ("whole_runs",),
    "single-rows": ("gate_simulation", "--scale", "0.2"),
    "machines": ("fleet_simulation", "--trials", "500"),
    "duels": ("duel_simulation",),
    "bisection": ("bisect_simulation",),
    "rules": ("judge_rules", "--brief"),
    "losses": ("real_life_losses", "--named", "0"),
    "creep": ("creep_simulation",),
    "rows-together": ("joint_rules",),
    "cpu-facts": ("cpu_facts", "stored"),
    "cpu-hours": ("cpu_hours",),
}


def command(name: str) -> list[str]:
    """The command that prints a table, as a page shows it."""
    module, *arguments = COMMANDS[name]
    return ["python", "-m", f"benchmarks.{module}", *arguments]


def page(name: str, printed: str) -> str:
    """A page that holds a table, to be shown in another one."""
    heading = name.replace("-", " ").capitalize()
    return (
        f"# {heading}\n\n    {' '.join(command(name))}\n\n{printed.strip()}\n"
    )


def printed(name: str) -> str:
    """Run a simulation; what it prints."""
    done = subprocess.run(
        [sys.executable, *command(name)[1:]],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout


def main(names: Sequence[str]) -> None:
    """Record these tables, or all."""
    TABLES.mkdir(exist_ok=True)
    for name in names or COMMANDS:
        sys.stdout.write(f"{name}: {' '.join(command(name))}\n")
        path = TABLES / f"{name}.md"
        path.write_text(page(name, printed(name)), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
