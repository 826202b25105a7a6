"""The command `crosscheck`: this suite's load client compared with another one."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from perfgate import locations
from perfgate.cli.numbers import FiniteRange
from perfgate.engines.registry import ENGINES

if TYPE_CHECKING:
    from perfgate.load.workload import ShareGPT, Synthetic

# As in `perfgate.load.other_clients.CLIENTS`, which `--help` must not wait for.
CLIENT_NAMES = ("sglang", "vllm")
_FILE = click.Path(exists=True, path_type=Path)


@click.command("crosscheck")
@click.option(
    "--url",
    required=True,
    help="Base address of a running server, http://127.0.0.1:8000.",
)
@click.option(
    "--client",
    type=click.Choice(CLIENT_NAMES),
    default="vllm",
    show_default=True,
)
@click.option(
    "--client-python",
    default="python",
    show_default=True,
    help="Python in which the client is installed.",
)
@click.option(
    "--tokenizer",
    type=_FILE,
    required=True,
    help="Folder or file of the tokenizer.",
)
@click.option(
    "--model",
    help="Name under which it is served (default: the first of /v1/models).",
)
@click.option(
    "--engine",
    type=click.Choice(sorted(ENGINES)),
    default="vllm",
    show_default=True,
)
@click.option(
    "--num-prompts", type=click.IntRange(min=1), default=64, show_default=True
)
@click.option(
    "--max-concurrency",
    type=click.IntRange(min=1),
    default=16,
    show_default=True,
)
@click.option(
    "--lengths",
    type=(click.IntRange(min=1), click.IntRange(min=2)),
    default=(32, 32),
    show_default=True,
    help="Input and output tokens of each request.",
)
@click.option(
    "--shared-prefix",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="How many of the input tokens all prompts share, for a server with a prefix cache.",
)
@click.option(
    "--dataset",
    type=_FILE,
    help="ShareGPT JSON file whose conversations are sent, in place of lengths.",
)
@click.option(
    "--allow-truncated-dataset",
    is_flag=True,
    help="Use the whole conversations of a file that is cut off.",
)
@click.option(
    "--rounds", type=click.IntRange(min=2), default=6, show_default=True
)
@click.option(
    "--tolerance",
    type=FiniteRange(min=0),
    default=0.03,
    show_default=True,
    help="Largest relative difference that counts as agreement.",
)
def crosscheck(
    url: str, client: str, client_python: str, tokenizer: Path, **options: Any
) -> None:
    """Compare this suite's load client with that of an engine on a running server.

    The other client is `vllm bench serve` or sglang.bench_serving. Exits with 1 unless
    every metric agrees.
    """
    # Imported here: `--help` must not wait for scipy, tokenizers and rich.
    from rich.console import Console

    from perfgate import web
    from perfgate.load.crosscheck import interleave, served_model, table
    from perfgate.load.measurement import Target
    from perfgate.load.other_clients import CLIENTS, ClientFailed
    from perfgate.load.prompts import load_tokenizer
    from perfgate.load.workload import Workload

    rounds, tolerance = options["rounds"], options["tolerance"]
    python = shutil.which(locations.expanded(client_python))
    if python is None:
        raise ClientFailed(
            tried=f"running the {client} client with --client-python {client_python}",
            seen="there is no such executable file",
            remedy=f"name a Python in which {client} is installed",
        )
    loaded_tokenizer = load_tokenizer(tokenizer)
    address = web.address_of(url)
    authorization = address.authorization or web.key_authorization()
    target = Target(
        url=address.url,
        authorization=authorization,
        served_model=options["model"]
        or served_model(address.url, authorization),
        vocab_size=loaded_tokenizer.get_vocab_size(),
        engine=options["engine"],
        tokenizer=str(tokenizer.resolve()),
    )
    workload = Workload(
        name="crosscheck",
        prompts=_prompts(tokenizer, options),
        num_prompts=options["num_prompts"],
        max_concurrency=options["max_concurrency"],
    )
    absolute = str(Path(python).absolute())
    comparisons = interleave(
        CLIENTS[client], absolute, target, workload, loaded_tokenizer, rounds
    )
    Console(width=120, markup=False, emoji=False).print(
        table(comparisons, client, rounds, tolerance)
    )
    if any(row.verdict(tolerance) != "agree" for row in comparisons):
        raise SystemExit(1)


def _prompts(
    tokenizer: Path, options: Mapping[str, Any]
) -> Synthetic | ShareGPT:
    """What both clients send."""
    from perfgate.load.workload import ShareGPT, Synthetic

    if options["dataset"] is not None:
        return ShareGPT(
            path=str(options["dataset"]),
            tokenizer=str(tokenizer),
            allow_truncated=options["allow_truncated_dataset"],
        )
    input_len, output_len = options["lengths"]
    if options["shared_prefix"] > input_len:
        raise click.UsageError(
            f"--shared-prefix {options['shared_prefix']} is longer than the "
            f"{input_len} input tokens of --lengths"
        )
    return Synthetic(
        input_len_tokens=input_len,
        output_len_tokens=output_len,
        shared_prefix_tokens=options["shared_prefix"],
    )
