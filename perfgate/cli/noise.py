"""The command `noise`: how much metrics vary from launch to launch, learned from the store."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from perfgate.cli.project import existing_store

if TYPE_CHECKING:
    from perfgate.judge.noise_table import GroupNoise, NoiseTable

_FOLDER = click.Path(path_type=Path)

HELP = """Show how much each metric varies from launch to launch.

The gate knows it from the launches of one baseline, and from what the whole store says
of such a metric under such a load. That table is a file of the store, noise.json. Update
it after you accepted runs.
"""


@click.command("noise", help=HELP)
@click.option(
    "--baselines", type=_FOLDER, help="Baseline store (default: the project's)."
)
@click.option(
    "--update",
    is_flag=True,
    help="Learn the table anew from the recorded launches, and write noise.json.",
)
def noise(baselines: Path | None, update: bool) -> None:
    """Show the noise table of a store, or learn it anew."""
    # Imported here: `--help` must not wait for them.
    from perfgate.judge import noise_learning, noise_table

    store = existing_store(baselines)
    path = store.root / noise_table.FILE
    if update:
        day = datetime.date.today().isoformat()
        table = noise_learning.learn(store.series(), day)
        _refuse_empty(table, store.root)
        noise_table.write(path, table)
        click.echo(f"Wrote {path}: {summary(table)}.")
    found = store.noise_table
    if found is None:
        click.echo(
            "There is no noise table. Learn one from the recorded launches: "
            "`perfgate noise --update`"
        )
        return
    if not update:
        click.echo(f"Noise table, {summary(found)}.")
    for line in lines(found):
        click.echo(line)


def _refuse_empty(table: NoiseTable, root: Path) -> None:
    """Refuse to write a table of nothing: it would take the place of the shipped one.

    Raises:
        BadNoiseTable: nothing was learned.
    """
    from perfgate.judge.noise_learning import (
        FEWEST_DEGREES_OF_FREEDOM,
        FEWEST_SERIES,
    )
    from perfgate.judge.noise_table import FILE, BadNoiseTable

    if not table.groups:
        launches = FEWEST_SERIES + FEWEST_DEGREES_OF_FREEDOM
        raise BadNoiseTable(
            tried=f"learning how metrics vary from the baselines in {root}",
            seen="too few launches are recorded there of each kind of metric",
            remedy=(
                f"accept runs until {FEWEST_SERIES} cases or machines of a kind have "
                f"{launches} launches together; without a {FILE} there the shipped "
                "table counts"
            ),
        )


def summary(table: NoiseTable) -> str:
    """What the table was made from, in a phrase."""
    return (
        f"learned on {table.learned} from {table.launches} recorded values, "
        f"{len(table.groups)} groups"
    )


def lines(table: NoiseTable) -> Iterable[str]:
    """One line for each group, under a heading."""
    width = max([len("group"), *map(len, table.groups)])
    yield f"{'group':<{width}}  launch CV  weight  series  machine CV  weight"
    for name, group in sorted(table.groups.items()):
        yield f"{name:<{width}}  {_columns(group)}".rstrip()


def _columns(group: GroupNoise) -> str:
    launches = group.launches
    text = (
        f"{100 * launches.cv:7.2f} %  {launches.degrees_of_freedom:6.1f}  "
        f"{group.series:6d}"
    )
    if group.machines is None:
        return text
    machines = group.machines
    return (
        f"{text}  {100 * machines.cv:8.2f} %  "
        f"{machines.degrees_of_freedom:6.1f}"
    )
