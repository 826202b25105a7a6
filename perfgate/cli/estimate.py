"""The command `estimate`: weights, bytes per step and communication of models on GPUs."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click
import msgspec

from perfgate.cli.estimate_tables import Answer, Overview, show, show_overview
from perfgate.cli.project import opened
from perfgate.errors import Failure
from perfgate.locations import expanded
from perfgate.machine import datasheets
from perfgate.models.catalogue import (
    BYTES_PER_PARAMETER,
    CATALOGUE,
    Architecture,
    lookup,
    read_config,
)
from perfgate.models.estimate import Question, estimate
from perfgate.models.shapes.formats import BYTES_PER_CACHE_VALUE, ONLINE
from perfgate.results.expert_shares import recorded_shares
from perfgate.study.claims import claims

if TYPE_CHECKING:
    from rich.console import Console

    from perfgate.models.architecture import Shares
    from perfgate.study import StudyFile

# A log has no width: there no number is broken.
LOG_WIDTH = 400


@click.command("estimate")
@click.argument("models", metavar="MODEL...", nargs=-1, required=True)
@click.option(
    "--gpu",
    default="h200",
    show_default=True,
    help=", ".join(gpu.name for gpu in datasheets.GPUS),
)
@click.option(
    "--tp",
    "ranks",
    type=click.IntRange(1),
    default=2,
    show_default=True,
    help="GPUs that divide the attention (tensor parallel size).",
)
@click.option(
    "--dp",
    "data_parallel",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help=(
        "Groups of such GPUs, each with all of the attention for its own requests; "
        "experts are spread over all GPUs."
    ),
)
@click.option(
    "--ep",
    "expert_parallel",
    is_flag=True,
    help="Spread whole experts over the GPUs.",
)
@click.option(
    "--redundant-experts",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Copies of experts in each layer that --ep spreads too.",
)
@click.option(
    "--dtype",
    type=click.Choice(sorted(BYTES_PER_PARAMETER)),
    default="bfloat16",
    show_default=True,
    help="Of weights that are not quantized.",
)
@click.option(
    "--quantization",
    type=click.Choice(tuple(ONLINE)),
    help="What the engine makes of the weights while it loads them.",
)
@click.option(
    "--kv-dtype",
    "cache_dtype",
    type=click.Choice(sorted(BYTES_PER_CACHE_VALUE)),
    help="Of the KV cache (default: --dtype).",
)
@click.option(
    "--versus",
    help=(
        "Model to compare with (default: that of its pair, or of the first one); "
        "'none' for none."
    ),
)
@click.option("--beside", "old_versus", hidden=True)
@click.option(
    "--context",
    "context_tokens",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    metavar="TOKENS",
    help="Mean tokens in a sequence's KV cache, read at each step.",
)
@click.option(
    "--routing",
    metavar="RUN",
    help=(
        "A run whose routing was measured, or a JSON file with a list of counts for "
        "each sparse layer: how often MODEL's experts are chosen, in place of equally."
    ),
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    models: tuple[str, ...],
    versus: str | None,
    old_versus: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Estimate weights, bytes read per step and communication of MODEL on some GPUs.

    MODEL is a name in the study, a folder, or a config.json; no weights are needed. How
    the weights are quantized is read from the same place. Several models are shown
    as a table with a row each.
    """
    gpu = datasheets.by_name(options.pop("gpu"))
    question = Question(gpu=gpu, **options)
    study = opened().study
    if len(models) > 1:
        _print_overview(models, question, as_json)
        return
    reference = versus or old_versus or _reference_of(study, models[0])
    answer = _answer(study, models[0], reference, question)
    if as_json:
        _print_json(answer)
        return
    show(answer, _console())


def _print_json(value: object) -> None:
    click.echo(msgspec.json.format(msgspec.json.encode(value)).decode())


def _console() -> Console:
    # Imported here: neither --help nor --json must wait for it.
    from rich.console import Console

    width = shutil.get_terminal_size().columns
    if not sys.stdout.isatty():
        width = max(width, LOG_WIDTH)
    return Console(
        file=sys.stdout,
        width=width,
        highlight=False,
        soft_wrap=True,
        # A folder's name may hold brackets or colons.
        markup=False,
        emoji=False,
    )


def _print_overview(
    models: Sequence[str], question: Question, as_json: bool
) -> None:
    """Print several models; exits with 1 if there is one without an estimate."""
    estimates = []
    refused = {}
    for model in models:
        try:
            name, architecture = _find(model)
            shares = _shares(question, architecture)
            found = estimate(name, architecture, question, shares=shares)
            estimates.append(found)
        except Failure as failure:
            refused[model] = failure.seen
    overview = Overview(
        question=question, models=tuple(estimates), refused=refused
    )
    if as_json:
        _print_json(overview)
    else:
        show_overview(overview, _console())
    if refused:
        sys.exit(1)


def _answer(
    study: StudyFile, model: str, reference: str, question: Question
) -> Answer:
    name, architecture = _find(model)
    shares = _shares(question, architecture)
    answer = Answer(
        question=question,
        model=estimate(name, architecture, question, shares=shares),
        reference=None,
        claims=(),
    )
    if reference in ("none", model):
        return answer
    reference_name, reference_architecture = _find(reference)
    plain = msgspec.structs.replace(question, redundant_experts=0)
    return msgspec.structs.replace(
        answer,
        reference=estimate(reference_name, reference_architecture, plain),
        claims=claims(study, architecture, reference_architecture),
    )


def _shares(question: Question, architecture: Architecture) -> Shares | None:
    """The experts' shares that --routing names; None for uniform routing."""
    if question.routing is None:
        return None
    return recorded_shares(expanded(question.routing), architecture)


def _reference_of(study: StudyFile, model: str) -> str:
    """The model that it is compared with in the study; else that of the first pair."""
    references = [pair.reference for pair in study.pairs.values()]
    for pair in study.pairs.values():
        if pair.model == model:
            references.insert(0, pair.reference)
            break
    return next(iter(references), "none")


def _find(model: str) -> tuple[str, Architecture]:
    """Name and shape of a model in the study, in a folder, or of a config.json."""
    path = expanded(model)
    is_file = path.suffix == ".json"
    is_path = is_file or "/" in model or path.exists()
    if model in CATALOGUE or not is_path:
        return model, lookup(model).architecture
    architecture = read_config(path)
    name = path.resolve().name
    if path.name == "config.json":
        name = path.resolve().parent.name
    return name.removesuffix(".json"), architecture
