"""The command `estimate`: weights, bytes per step and communication of a model on GPUs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from perfgate.cli.project import opened
from perfgate.machine import datasheets
from perfgate.models.catalogue import (
    BYTES_PER_PARAMETER,
    CATALOGUE,
    Architecture,
    lookup,
    read_config,
)
from perfgate.models.estimate import (
    BATCHES,
    RESERVE_BYTES,
    UTILIZATION,
    Claim,
    Estimate,
    Question,
    Step,
    estimate,
)
from perfgate.study.claims import claims

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from perfgate.study import StudyFile


class Answer(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """What `--json` prints.

    Attributes:
        reference: the model that it is compared with; None for none.
    """

    question: Question
    model: Estimate
    reference: Estimate | None
    claims: tuple[Claim, ...]

    @property
    def columns(self) -> list[Estimate]:
        """The models that a table shows."""
        if self.reference is None:
            return [self.model]
        return [self.model, self.reference]


def _data_parallel_weights(column: Estimate) -> str:
    return _gb(column.data_parallel_weights_bytes_per_gpu)


def _data_parallel_copies(column: Estimate) -> str:
    return _gb(column.data_parallel_copied_bytes)


def _all_to_all(column: Estimate) -> str:
    kib = column.communication.all_to_all / 1024
    least_kib = column.communication.all_to_all_once / 1024
    return f"{kib:,.0f} KiB, at least {least_kib:,.0f}"


# Where the experts are spread over the GPUs, and each GPU has all of the attention for
# its own requests.
_DATA_PARALLEL: dict[str, Callable[[Estimate], str]] = {
    "  weights on each GPU": _data_parallel_weights,
    "  duplicated weights": _data_parallel_copies,
    "  sent to experts and back per token": _all_to_all,
}


@click.command("estimate")
@click.argument("model")
@click.option(
    "--gpu",
    default="h200",
    show_default=True,
    help=", ".join(gpu.name for gpu in datasheets.GPUS),
)
@click.option(
    "--tp",
    type=click.IntRange(1),
    default=2,
    show_default=True,
    help="Number of GPUs (tensor parallel size).",
)
@click.option("--ep", is_flag=True, help="Spread whole experts over the GPUs.")
@click.option(
    "--dtype",
    type=click.Choice(sorted(BYTES_PER_PARAMETER)),
    default="bfloat16",
    show_default=True,
)
@click.option(
    "--versus",
    help=(
        "Model to compare with (default: the dense model of the study's first pair); "
        "'none' for none."
    ),
)
@click.option("--beside", "old_versus", hidden=True)
@click.option(
    "--context",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    metavar="TOKENS",
    help="Mean tokens in a sequence's KV cache, read at each step.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    model: str,
    versus: str | None,
    old_versus: str | None,
    as_json: bool,
    **options: object,
) -> None:
    """Estimate weights, bytes read per step and communication of MODEL on some GPUs.

    MODEL is a name in the study, a folder, or a config.json; no weights are needed.
    """
    question = Question(
        gpu=datasheets.by_name(str(options["gpu"])),
        ranks=msgspec.convert(options["tp"], int),
        expert_parallel=bool(options["ep"]),
        dtype=str(options["dtype"]),
        context_tokens=msgspec.convert(options["context"], int),
    )
    study = opened().study
    reference = versus or old_versus or _first_dense(study)
    answer = _answer(study, model, reference, question)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(answer)).decode())
        return
    # Imported here: neither --help nor --json must wait for it.
    from rich.console import Console

    show(answer, Console(file=sys.stdout, highlight=False, soft_wrap=True))


def _answer(
    study: StudyFile, model: str, reference: str, question: Question
) -> Answer:
    name, architecture = _find(model)
    answer = Answer(
        question=question,
        model=estimate(name, architecture, question),
        reference=None,
        claims=(),
    )
    if reference in ("none", model):
        return answer
    reference_name, reference_architecture = _find(reference)
    return msgspec.structs.replace(
        answer,
        reference=estimate(reference_name, reference_architecture, question),
        claims=claims(study, architecture, reference_architecture),
    )


def _first_dense(study: StudyFile) -> str:
    for pair in study.pairs.values():
        return pair.reference
    return "none"


def _find(model: str) -> tuple[str, Architecture]:
    """Name and shape of a model in the study, in a folder, or of a config.json."""
    path = Path(model).expanduser()
    is_file = path.suffix == ".json"
    is_path = is_file or "/" in model or path.exists()
    if model in CATALOGUE or not is_path:
        return model, lookup(model).architecture
    folder = path
    if is_file:
        folder = path.parent
    return folder.resolve().name, read_config(path)


def show(answer: Answer, console: Console) -> None:
    """Print the answer as tables."""
    question = answer.question
    console.print(_summary(answer))
    console.print(_steps(answer))
    for column in answer.columns:
        if column.why_not is not None:
            console.print(f"{column.name} does not fit: {column.why_not}")
    for claim in answer.claims:
        word = "holds" if claim.holds else "WRONG"
        console.print(f"published: {claim.claim}\n  {word}: {claim.arithmetic}")
    bandwidth = f"{question.gpu.bandwidth_bytes_per_s / 1e12:g} TB/s"
    reserve = f"{RESERVE_BYTES / 1e9:.1f} GB"
    console.print(
        "The time of a step is a lower bound: bytes read over "
        f"{bandwidth} ({question.gpu.source}), with uniform routing and a KV cache of "
        f"{question.context_tokens} tokens per sequence. Room for the KV cache: "
        f"{UTILIZATION:.0%} of the memory, less the weights and {reserve}."
    )


def _summary(answer: Answer) -> Table:
    from rich.table import Table

    question = answer.question
    parallel = "tensor parallel"
    if question.expert_parallel:
        parallel = "expert parallel"
    title = (
        f"{question.ranks}x {question.gpu.name}, {parallel}, {question.dtype}"
    )
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for column in answer.columns:
        table.add_column(column.name, justify="right")
    for label, format_cell in _rows(question).items():
        cells = [format_cell(column) for column in answer.columns]
        table.add_row(label, *cells)
    return table


def _billions(count: float) -> str:
    return f"{count / 1e9:,.2f} B"


def _gb(size_bytes: float) -> str:
    return f"{size_bytes / 1e9:,.2f} GB"


def _rows(question: Question) -> dict[str, Callable[[Estimate], str]]:
    """Label of each row -> the text of a model's cell."""
    rows: dict[str, Callable[[Estimate], str]] = {
        "parameters": lambda c: _billions(c.parameters),
        "  used by one token": lambda c: _billions(c.active_parameters),
        "weights": lambda c: _gb(c.weights_bytes),
        "  on each GPU": lambda c: _gb(c.weights_bytes_per_gpu),
        "  of these on every GPU": lambda c: (
            f"{c.copied_bytes_per_gpu / 1e6:,.2f} MB"
        ),
        "KV cache per token": lambda c: f"{c.kv_bytes_per_token:,} B",
        "fits": lambda c: "yes" if c.fits else "NO",
        "tokens of KV cache that fit": lambda c: f"{c.kv_tokens:,}",
        "summed over GPUs per token": lambda c: (
            f"{c.communication.all_reduce / 1024:,.0f} KiB"
        ),
    }
    if question.expert_parallel:
        rows["with attention data parallel:"] = lambda _: ""
        for label, format_cell in _DATA_PARALLEL.items():
            rows[label] = _of_sparse(format_cell)
    return rows


def _of_sparse(
    format_cell: Callable[[Estimate], str],
) -> Callable[[Estimate], str]:
    """The cell of a model with experts; "-" for a dense one."""

    def cell(column: Estimate) -> str:
        if column.parameters > column.active_parameters:
            return format_cell(column)
        return "-"

    return cell


def _steps(answer: Answer) -> Table:
    from rich.table import Table

    table = Table(title="one decode step", title_justify="left")
    table.add_column("batch", justify="right")
    for column in answer.columns:
        for head in ("experts read", "GB read", "floor, ms"):
            table.add_column(f"{column.name}\n{head}", justify="right")
    if answer.reference is not None:
        table.add_column("ratio", justify="right")
    for index, batch in enumerate(BATCHES):
        steps = [column.steps[index] for column in answer.columns]
        cells = [str(batch)]
        for step in steps:
            cells += _cells(step)
        if answer.reference is not None:
            ratio = steps[0].bytes_read / steps[1].bytes_read
            cells.append(f"{ratio:.2f}")
        table.add_row(*cells)
    return table


def _cells(step: Step) -> tuple[str, str, str]:
    experts = "-"
    if step.experts_touched != 1:
        experts = f"{step.experts_touched:.2f}"
    return experts, f"{step.bytes_read / 1e9:.1f}", f"{step.floor_ms:.2f}"
