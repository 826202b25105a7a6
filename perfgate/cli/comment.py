"""The command `comment`: a run as a comment for a pull or merge request."""

from __future__ import annotations

import os
from pathlib import Path

import click

# Lines below "\b" stay as they are.
HELP = """Print the run RUN as a comment of under forty lines, or post it.

\b
  perfgate comment runs/pr
  perfgate comment runs/pr --post github --link "$REPORT_URL"

GitHub needs GITHUB_TOKEN with `pull-requests: write`; GitLab a GITLAB_TOKEN with the
scope `api`.
"""


@click.command("comment", help=HELP)
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--post",
    "service",
    type=click.Choice(["github", "gitlab"]),
    help="Write it to the job's request, in place of the comment of an earlier run.",
)
@click.option(
    "--number",
    type=click.IntRange(min=1),
    help="The pull or merge request (default: that of the job).",
)
@click.option("--link", default="", help="Where the report is published.")
def comment(
    run: Path, service: str | None, number: int | None, link: str
) -> None:
    """Print or post a run."""
    # Imported here: `--help` must not wait for scipy, numpy and rich.
    from perfgate.report import comment as text_of
    from perfgate.results import schema as rundata

    text = text_of.markdown(rundata.load(run), link)
    if service is None:
        click.echo(text, nl=False)
        return
    from perfgate.report import posting

    thread = posting.thread_of(service, number, os.environ)
    verb = "replaced" if posting.post(thread, text) else "wrote"
    click.echo(f"{verb} the comment at {thread.comments}")
