"""The command that draws what sessions send of a data set into a small file."""

from __future__ import annotations

from pathlib import Path

import click

_FILE = click.Path(exists=True, path_type=Path)

HELP = """Draw the prompts that sessions send from the ShareGPT JSON file DATASET.

The file that it writes is small, and needs neither the data set nor a tokenizer. Give it
to a session on any machine with --dataset NAME=FILE.jsonl.
"""


@click.command("prompts", help=HELP)
@click.argument("dataset", type=_FILE)
@click.option(
    "--tokenizer",
    type=_FILE,
    help="Folder or file of the tokenizer (default: each word is a token).",
)
@click.option(
    "--name",
    default="sharegpt",
    show_default=True,
    help="Name of the data set in the study.",
)
@click.option(
    "--length-filter",
    type=click.Choice(("vllm", "sglang")),
    default="vllm",
    show_default=True,
    help="Whose rule leaves out prompts that are too short or too long.",
)
@click.option(
    "--allow-truncated-dataset",
    is_flag=True,
    help="Use the whole conversations of a file that is cut off.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    help="File to write, ending in .jsonl.",
)
def prompts(
    dataset: Path,
    tokenizer: Path | None,
    name: str,
    length_filter: str,
    allow_truncated_dataset: bool,
    out: Path,
) -> None:
    """Draw the prompts of a data set into a small file."""
    # Imported here: `--help` must not wait for tokenizers and numpy.
    import msgspec

    from perfgate.load.frozen import SUFFIX, freeze
    from perfgate.load.prompts import WORDS, ShareGPT

    if out.suffix != SUFFIX:
        raise click.BadParameter(
            f"must end in {SUFFIX}, by which --dataset knows it",
            param_hint="--out",
        )
    source = WORDS
    if tokenizer is not None:
        source = str(tokenizer.resolve())
    fields = {
        "path": str(dataset.resolve()),
        "tokenizer": source,
        "length_filter": length_filter,
        "allow_truncated": allow_truncated_dataset,
    }
    drawn = freeze(
        name, msgspec.convert(fields | {"kind": "sharegpt"}, ShareGPT), out
    )
    size_mb = out.stat().st_size / 1e6
    click.echo(f"Wrote {out} ({size_mb:.1f} MB): {drawn.source}.")
    click.echo(f"Send them: --dataset {name}={out}")
