"""The command `perfgate`: everything besides running perf tests.

Each subcommand has a module of its own, which is imported when it is called.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import click

from perfgate import __version__
from perfgate.cli.lazy import Entry, LazyGroup

if TYPE_CHECKING:
    from perfgate.errors import Failure

COMMANDS = {
    "accept": Entry(
        "perfgate.cli.gate:accept",
        "Accept the launches of one or several runs RUN into the baselines.",
    ),
    "bisect": Entry(
        "perfgate.cli.bisect:bisect",
        "Find the build of an engine that made it slower, by pairs of launches.",
    ),
    "comment": Entry(
        "perfgate.cli.comment:comment",
        "Print the run RUN as a comment of under forty lines, or post it.",
    ),
    "crosscheck": Entry(
        "perfgate.cli.crosscheck:crosscheck",
        "Compare this suite's load client with that of an engine on a running server.",
    ),
    "doctor": Entry(
        "perfgate.cli.doctor_command:command",
        "Check what this machine can run, and say how to install what is missing.",
    ),
    "engines": Entry(
        "perfgate.cli.engines:engines",
        "List and install the Python environments of the engines.",
    ),
    "estimate": Entry(
        "perfgate.cli.estimate:command",
        "Estimate weights, bytes read per step and communication of MODEL on some GPUs.",
    ),
    "fleet": Entry(
        "perfgate.cli.fleet:fleet",
        "Spread the study over the hosts of a Ray cluster.",
    ),
    "history": Entry(
        "perfgate.cli.history:history",
        "Show the metric of CASE over all runs and its change points.",
    ),
    "judge": Entry(
        "perfgate.cli.gate:judge",
        "Judge the run RUN again from its data; exits with 1 if it fails.",
    ),
    "noise": Entry(
        "perfgate.cli.noise:noise",
        "Show how much each metric varies from launch to launch.",
    ),
    "prompts": Entry(
        "perfgate.cli.prompts:prompts",
        "Draw the prompts that sessions send from the ShareGPT JSON file DATASET.",
    ),
    "report": Entry(
        "perfgate.cli.report:report",
        "Write report.html, summary.md, junit.xml and pytest-benchmark.json of the run RUN.",
    ),
    "schema": Entry(
        "perfgate.cli.schema:schema",
        "Print the JSON Schema of a run's results.json, or of a baseline file.",
    ),
}
# Their status 1 is an answer; 2, as for a bad option, says that there is none.
ANSWERING = ("bisect", "doctor", "fleet", "judge")


class _NoAnswer(click.ClickException):
    exit_code = 2


class _Group(LazyGroup):
    """Shows a Failure, or what the system refused, as a message, not as a traceback."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except Exception as error:
            failure = _failure(error, ctx.invoked_subcommand)
            if failure is None:
                raise
            kind = click.ClickException
            if ctx.invoked_subcommand in ANSWERING:
                kind = _NoAnswer
            raise kind(str(failure)) from error


def _failure(error: Exception, command: str | None) -> Failure | None:
    """What is shown of an error; None of one that is click's, or a fault of the suite."""
    # `--help` raises none, and need not load what defines it.
    from perfgate.errors import Failure, describe_error

    if isinstance(error, Failure):
        return error
    # click ends quietly where nobody reads on.
    if not isinstance(error, OSError) or error.errno == errno.EPIPE:
        return None
    return Failure(
        tried=f"perfgate {command}",
        seen=describe_error(error),
        remedy="correct the path, or let this user use it",
    )


@click.group(
    cls=_Group,
    entries=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, prog_name="perfgate")
def main() -> None:
    """A performance gate for LLM servers: the commands besides pytest.

    The gate itself is `pytest -m cpu` (or h200, h100, a100).
    """
