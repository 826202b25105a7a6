"""The command `bisect`: which build of an engine, or which of its packages, made it slower."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from perfgate.bisect.bisection import Answer, Bisection

_FOLDER = click.Path(path_type=Path)
EXAMPLES = """Find the build of an engine that made it slower, by pairs of launches.

PYTEST_ARGUMENTS, after "--", say what is served and measured. Few tests are best: those
that lost something. Builds come from one of these:

\b
  Pythons, or a file with one a line (PATH or NAME=PATH, the oldest first):
    perfgate bisect --builds /b/1/bin/python,/b/2/bin/python,/b/3/bin/python
        -- -m h200 --tp 1 -k "llama and batch-32"
  versions or wheels, each installed in an environment of its own:
    perfgate bisect --versions 0.29.0,0.30.0,0.31.0,0.32.0 -- -m h200 --tp 1
  commits of a checkout, and a command that makes {folder}/bin/python of one:
    perfgate bisect --checkout ~/vllm --good v0.31.0 --bad main
        --build 'make-build.sh {commit} {folder}' -- -m h200 --tp 1
  packages that differ between two environments, one after the other:
    perfgate bisect --packages --good /a/bin/python --bad /b/bin/python -- -m h200

First the bad build is compared with the good one; then builds between them, each until
it is sure; at last three pairs confirm the answer. A build that fails to start is
skipped. The same command goes on where an earlier one was ended.

Exits with 1 if the answer is not confirmed, with 2 if there is none.
"""
NO_ARGUMENTS = (
    'what is served is not named: add arguments of pytest after "--", such as '
    '-- -m cpu -k "llama and output_throughput"'
)
NO_ANSWER = 2


@click.command("bisect", help=EXAMPLES)
@click.option(
    "--good", help="The last good build: default the first of the list."
)
@click.option("--bad", help="The bad build: default the last one of the list.")
@click.option(
    "--builds",
    metavar="LIST",
    help="Builds with commas between them, or a file.",
)
@click.option(
    "--versions",
    metavar="LIST",
    help="Versions or wheels to install, or a file.",
)
@click.option(
    "--package",
    help="Distribution that --versions are of (default: the engine's name).",
)
@click.option(
    "--checkout",
    type=_FOLDER,
    help="Git checkout whose commits are the builds.",
)
@click.option(
    "--build",
    metavar="COMMAND",
    help="Makes {folder}/bin/python of {build}, {version} or {commit}; for a shell.",
)
@click.option(
    "--packages",
    is_flag=True,
    help="Exchange the packages that differ between two Pythons, one by one.",
)
@click.option("--engine", default="vllm", show_default=True)
@click.option(
    "--case",
    "cases",
    multiple=True,
    metavar="CASE",
    help="Case that decides, or a pattern (default: the surest loss); repeatable.",
)
@click.option(
    "--most-pairs",
    type=click.IntRange(min=1),
    default=8,
    show_default=True,
    help="Pairs of one build at most; then the likelier side counts.",
)
@click.option(
    "--folder",
    type=_FOLDER,
    help="Keeps state, builds and runs (default: bisect in the project's runs).",
)
@click.option(
    "--plan", is_flag=True, help="Show builds and cost, and launch nothing."
)
@click.argument("arguments", nargs=-1, metavar="-- [PYTEST_ARGUMENTS]...")
def bisect(
    arguments: tuple[str, ...],
    engine: str,
    cases: tuple[str, ...],
    most_pairs: int,
    folder: Path | None,
    plan: bool,
    **sources: object,
) -> None:
    """Find the build that made an engine slower."""
    # Imported here: `--help` must not wait for scipy and numpy.
    from perfgate.bisect import answer_text, cost
    from perfgate.bisect import state as states
    from perfgate.bisect.bisection import Bisection, Rules
    from perfgate.bisect.pair_session import PytestPairs, refuse_injections
    from perfgate.bisect.source import Source
    from perfgate.cli.project import opened
    from perfgate.progress import Progress

    project = opened()
    folder = (folder or project.locations.runs / "bisect").absolute()
    if not arguments:
        raise click.UsageError(NO_ARGUMENTS)
    refuse_injections(arguments)
    source = Source(engine=engine, folder=folder, **sources)  # type: ignore[arg-type]
    builds = source.listed(click.echo)
    names = tuple(build.name for build in builds)
    question = states.Question(engine=engine, builds=names, arguments=arguments)
    state = states.opened(folder, question)
    for number, build in enumerate(builds, start=1):
        origin = "" if build.origin == build.name else f"  {build.origin}"
        click.echo(f"{number:4}  {build.title}{origin}")
    click.echo(cost.text(state, folder))
    if plan:
        return
    pairs = PytestPairs(engine, arguments, folder, project.store())
    progress = Progress(
        lambda text: click.echo(text, nl=False), rewritable=False
    )
    bisection = Bisection(
        state,
        builds,
        pairs,
        save=lambda state: states.save(folder, state),
        tell=progress.line,
        rules=Rules(cases or None, most_pairs),
    )
    answer = _found(bisection, folder)
    again = pairs.again(
        builds[answer.position.good].python(),
        builds[answer.position.bad].python(),
    )
    for line in answer_text.lines(answer, builds, folder, again):
        click.echo(line)
    if not answer.is_confirmed:
        sys.exit(1)


def _found(bisection: Bisection, folder: Path) -> Answer:
    """The answer; a Ctrl-C ends the command, and nothing that was measured is lost.

    Args:
        folder: of the bisection; no other one uses it meanwhile.
    """
    from perfgate.run import run_lock

    reservation = run_lock.reserve(folder)
    try:
        return bisection.run()
    except KeyboardInterrupt:
        click.echo("\nStopped. The same command goes on.")
        sys.exit(NO_ANSWER)
    finally:
        reservation.release()
