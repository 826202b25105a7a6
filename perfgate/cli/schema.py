"""The command `schema`: the JSON Schema of results.json and of baseline files."""

from __future__ import annotations

import click


@click.command("schema")
@click.argument("file", type=click.Choice(["results", "baseline"]))
def schema(file: str) -> None:
    """Print the JSON Schema of a run's results.json, or of a baseline file."""
    # Imported here: `--help` must not wait for them.
    import msgspec

    from perfgate.judge.baseline_schema import BaselineFile
    from perfgate.results.schema import RunResults

    kind = {"results": RunResults, "baseline": BaselineFile}[file]
    click.echo(
        msgspec.json.format(
            msgspec.json.encode(msgspec.json.schema(kind))
        ).decode()
    )
