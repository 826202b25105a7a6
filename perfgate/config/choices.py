"""Choices: what options, environment variables and the project file come to, together.

The plugin parses options; these functions give them meaning. None of them starts
anything, except that `attachments` asks the servers that ``--attach`` names.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Sequence
from pathlib import Path

from perfgate.config.project import Project
from perfgate.engines import injection
from perfgate.engines.injection import Injection
from perfgate.errors import Failure
from perfgate.judge.baseline_store import Store
from perfgate.results import schema
from perfgate.servers.external import AttachedServer, attach


class BadOption(Failure):
    """An option that cannot be understood."""


def run_dir(option: argparse.Namespace, project: Project) -> Path:
    """The directory that --run-dir names, or a new one in the run store."""
    if option.run_dir:
        return Path(option.run_dir).expanduser().resolve()
    return project.locations.runs / schema.new_run_id()


def run_id(option: argparse.Namespace, folder: Path) -> str:
    """A folder that was made for this run gives its name; one that the user named does not."""
    if option.run_dir:
        return schema.new_run_id()
    return folder.name


def store(option: argparse.Namespace, project: Project) -> Store:
    """The baselines to judge by: the store that --baselines names, or the project's."""
    named = None
    if option.baselines:
        named = Path(option.baselines).expanduser().resolve()
    return project.store(named)


def refuse_taken(folder: Path, resume: bool) -> None:
    """A run is resumed only where that was asked for.

    Raises:
        BadOption: the folder holds a run already, or a packed one.
    """
    packed = folder / f"{schema.RESULTS_FILE}.gz"
    if packed.exists() and not (folder / schema.RESULTS_FILE).exists():
        raise BadOption(
            tried=f"starting a run in {folder}",
            seen=f"it holds a packed run: {packed.name}",
            remedy=(
                f"name another --run-dir, or go on with that run: gunzip {packed}, "
                "then --resume"
            ),
        )
    if (folder / schema.RESULTS_FILE).exists() and not resume:
        raise BadOption(
            tried=f"starting a run in {folder}",
            seen="it holds a run already",
            remedy="name another --run-dir, or go on with that run by --resume",
        )


def pairs(option: str, texts: Sequence[str]) -> dict[str, str]:
    """Read a repeatable NAME=VALUE option.

    Raises:
        BadOption: one of them has another form.
    """
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise BadOption(
                tried=f"reading {option} {text}",
                seen="no NAME=VALUE",
                remedy=f"write {option} NAME=VALUE",
            )
        found[name] = value
    return found


def injected(option: argparse.Namespace) -> dict[str, Injection]:
    """What the options inject: model -> what is changed in its servers.

    Raises:
        BadInjection: one of them cannot be understood.
    """
    return injection.parse_injections(
        option.inject_delay, option.inject_arg, option.inject_env
    )


@functools.cache
def attachments(texts: tuple[str, ...]) -> dict[tuple[str, str], AttachedServer]:
    """What --attach names, asked once: (engine, model) -> server."""
    return attach(texts)
