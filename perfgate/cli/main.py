"""The command `perfgate`: all that can be done without pytest.

Each subcommand has a module of its own, which is imported when it is called.
"""

from __future__ import annotations

import click

from perfgate import __version__
from perfgate.cli.lazy import Entry, LazyGroup

COMMANDS = {
    "accept": Entry(
        "perfgate.cli.gate:accept",
        "Accept the launches of one or several runs RUN into the baselines.",
    ),
    "crosscheck": Entry(
        "perfgate.cli.crosscheck:crosscheck",
        (
            "Compare this suite's client with `vllm bench serve` or "
            "sglang.bench_serving on a running server."
        ),
    ),
    "doctor": Entry(
        "perfgate.cli.doctor_command:command",
        "Say what this machine can run, what is missing, and the remedy for each.",
    ),
    "engines": Entry(
        "perfgate.cli.engines:engines",
        "Environments that the engines run in, apart from the suite's own.",
    ),
    "estimate": Entry(
        "perfgate.cli.estimate:command",
        "Say what MODEL weighs, reads and exchanges on some GPUs, from its config.json alone.",
    ),
    "history": Entry(
        "perfgate.cli.history:history",
        "Show the metric of CASE over all runs and its change points.",
    ),
    "judge": Entry(
        "perfgate.cli.gate:judge",
        "Judge the run RUN again from its data alone; exits with 1 if it fails.",
    ),
    "report": Entry(
        "perfgate.cli.report:report",
        "Make report.html, summary.md, junit.xml and pytest-benchmark.json of the run RUN.",
    ),
    "schema": Entry(
        "perfgate.cli.schema:schema",
        "Print the JSON Schema of a run's results.json, or of a baseline file.",
    ),
}


class _Group(LazyGroup):
    """Shows a Failure as a message, not as a traceback."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except Exception as error:
            # `--help` raises none, and need not load what defines it.
            from perfgate.errors import Failure

            if isinstance(error, Failure):
                raise click.ClickException(str(error)) from error
            raise


@click.group(
    cls=_Group,
    entries=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, prog_name="perfgate")
def main() -> None:
    """A performance gate for LLM serving: the parts that need no pytest.

    The gate itself is `pytest -m cpu` (or h200, h100, a100).
    """
