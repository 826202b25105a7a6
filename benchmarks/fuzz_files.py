"""Fuzz of files: damaged results.json and baseline files, each refused or rightly read.

    python -m benchmarks.fuzz_files --seed 7 --count 1000

Each kind of damage comes in turn: bits, truncation, blocks, numbers, nesting, repeated
keys, values, names, encodings, conflict marks, links, pipes, packed files. `judge`,
`accept`, `report` and `history` read each of them. The exit status is 1 if anything was
half read, or ended in an exception of Python.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import click

from tests.support.file_fuzz import Tally, fuzz_baselines, fuzz_results


@click.command()
@click.option("--seed", default=1, show_default=True)
@click.option("--count", default=1000, show_default=True)
@click.option(
    "--what",
    type=click.Choice(["results", "baselines", "both"]),
    default="both",
)
def main(seed: int, count: int, what: str) -> None:
    """Damage so many files of each kind, and print what became of them."""
    broken: list[str] = []
    for name, fuzz in (
        ("results", fuzz_results),
        ("baselines", fuzz_baselines),
    ):
        if what not in (name, "both"):
            continue
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            tally = fuzz(Path(folder), count, seed)
        show(name, tally)
        broken += tally.broken
    for line in broken:
        click.echo(line)
    if broken:
        sys.exit(1)


def show(name: str, tally: Tally) -> None:
    """The table of one kind of file, in Markdown."""
    click.echo(f"| damage of {name} | refused | rightly read |")
    click.echo("|---|--:|--:|")
    for kind in dict.fromkeys([*tally.refused, *tally.read]):
        click.echo(f"| {kind} | {tally.refused[kind]} | {tally.read[kind]} |")
    totals = tally.refused.total(), tally.read.total()
    click.echo(f"| all | {totals[0]} | {totals[1]} |")


if __name__ == "__main__":
    main()
