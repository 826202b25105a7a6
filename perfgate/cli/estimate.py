"""The command `estimate`: what a model weighs, reads and exchanges on some GPUs."""

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
    """What `--json` prints."""

    question: Question
    model: Estimate
    beside: Estimate | None
    claims: tuple[Claim, ...]


# Where experts alone are spread, and every GPU has attention whole for requests of its
# own.
_APART: dict[str, Callable[[Estimate], str]] = {
    "  weights on each GPU": lambda e: (
        f"{e.data_parallel_weights_bytes_per_gpu / 1e9:,.2f} GB"
    ),
    "  held more than once": lambda e: (
        f"{e.data_parallel_copied_bytes / 1e9:,.2f} GB"
    ),
    "  sent to experts and back per token": lambda e: (
        f"{e.communication.all_to_all / 1024:,.0f} KiB, at least "
        f"{e.communication.all_to_all_once / 1024:,.0f}"
    ),
}


@click.command("estimate")
@click.argument("model")
@click.option(
    "--gpu",
    default=datasheets.GPUS[0].name,
    show_default=True,
    help=", ".join(gpu.name for gpu in datasheets.GPUS),
)
@click.option(
    "--tp",
    type=click.IntRange(1),
    default=2,
    show_default=True,
    help="GPUs, tensor parallel size.",
)
@click.option(
    "--ep", is_flag=True, help="Spread the experts over the GPUs whole."
)
@click.option(
    "--dtype",
    type=click.Choice(sorted(BYTES_PER_PARAMETER)),
    default="bfloat16",
    show_default=True,
)
@click.option(
    "--beside",
    help=(
        "A model to compare with (default: the dense model of the study's first "
        "pair); 'none' for none."
    ),
)
@click.option(
    "--context",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    metavar="TOKENS",
    help="Mean tokens in a sequence's KV cache, read at each step.",
)
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def command(
    model: str, beside: str | None, as_json: bool, **asked: object
) -> None:
    """Say what MODEL weighs, reads and exchanges on some GPUs, from its config.json alone.

    MODEL is a name in the study, a folder, or a config.json.
    """
    question = Question(
        gpu=datasheets.by_name(str(asked["gpu"])),
        ranks=msgspec.convert(asked["tp"], int),
        expert_parallel=bool(asked["ep"]),
        dtype=str(asked["dtype"]),
        context_tokens=msgspec.convert(asked["context"], int),
    )
    study = opened().study
    name, architecture = _find(model)
    answer = Answer(
        question=question,
        model=estimate(name, architecture, question),
        beside=None,
        claims=(),
    )
    beside = beside or _first_dense(study)
    if beside not in ("none", model):
        other_name, other = _find(beside)
        answer = msgspec.structs.replace(
            answer,
            beside=estimate(other_name, other, question),
            claims=claims(study, architecture, other),
        )
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(answer)).decode())
        return
    from rich.console import (
        Console,
    )  # here: neither --help nor --json must wait for it

    show(answer, Console(file=sys.stdout, highlight=False, soft_wrap=True))


def _first_dense(study: StudyFile) -> str:
    for pair in study.pairs.values():
        return pair.dense
    return "none"


def _find(model: str) -> tuple[str, Architecture]:
    path = Path(model).expanduser()
    if model not in CATALOGUE and (
        path.exists() or path.suffix == ".json" or "/" in model
    ):
        return (
            path.parent if path.suffix == ".json" else path
        ).resolve().name, read_config(path)
    return model, lookup(model).architecture


def show(answer: Answer, console: Console) -> None:
    """The answer as tables."""
    from rich.table import Table

    asked, columns = (
        answer.question,
        [answer.model, *([answer.beside] if answer.beside else [])],
    )
    parallel = "expert parallel" if asked.expert_parallel else "tensor parallel"
    gpus = f"{asked.ranks}x {asked.gpu.name}, {parallel}, {asked.dtype}"
    table = Table(title=gpus, title_justify="left")
    table.add_column("")
    for column in columns:
        table.add_column(column.name, justify="right")
    for label, cells in _rows(columns, asked):
        table.add_row(label, *cells)
    console.print(table)
    console.print(_steps(answer))
    for row in columns:
        if row.why_not is not None:
            console.print(f"{row.name} does not fit: {row.why_not}")
    for claim in answer.claims:
        console.print(
            f"published: {claim.claim}\n  {'holds' if claim.holds else 'WRONG'}: {claim.arithmetic}"
        )
    console.print(
        "A step's time is a floor: bytes over "
        f"{asked.gpu.bandwidth_bytes_per_s / 1e12:g} TB/s ({asked.gpu.source}), "
        f"routing uniform, KV cache of {asked.context_tokens} tokens a sequence. "
        "Room for the KV cache is "
        f"{UTILIZATION:.0%} of the memory less weights and {RESERVE_BYTES / 1e9:.1f} GB."
    )


def _rows(
    columns: list[Estimate], asked: Question
) -> list[tuple[str, list[str]]]:
    def row(
        label: str, field: str, scale: float, unit: str
    ) -> tuple[str, list[str]]:
        return label, [
            f"{getattr(column, field) / scale:,.2f} {unit}"
            for column in columns
        ]

    rows = [
        row("parameters", "parameters", 1e9, "B"),
        row("  used by one token", "active_parameters", 1e9, "B"),
        row("weights", "weights_bytes", 1e9, "GB"),
        row("  on each GPU", "weights_bytes_per_gpu", 1e9, "GB"),
        row("  of it on every GPU", "copied_bytes_per_gpu", 1e6, "MB"),
        (
            "KV cache per token",
            [f"{column.kv_bytes_per_token:,} B" for column in columns],
        ),
        ("fits", ["yes" if column.fits else "NO" for column in columns]),
        (
            "tokens of KV cache that fit",
            [f"{column.kv_tokens:,}" for column in columns],
        ),
        (
            "summed over GPUs per token",
            [f"{c.communication.all_reduce / 1024:,.0f} KiB" for c in columns],
        ),
    ]
    if asked.expert_parallel:
        sparse = [
            column if column.parameters > column.active_parameters else None
            for column in columns
        ]
        rows += [
            ("with attention data parallel:", [""] * len(columns)),
            *(
                (label, ["-" if c is None else show(c) for c in sparse])
                for label, show in _APART.items()
            ),
        ]
    return rows


def _steps(answer: Answer) -> Table:
    from rich.table import Table

    table = Table(title="one decode step", title_justify="left")
    table.add_column("batch", justify="right")
    columns = [answer.model, *([answer.beside] if answer.beside else [])]
    for column in columns:
        for head in ("experts read", "GB read", "floor, ms"):
            table.add_column(f"{column.name}\n{head}", justify="right")
    if answer.beside is not None:
        table.add_column("ratio", justify="right")
    for index, batch in enumerate(BATCHES):
        steps = [column.steps[index] for column in columns]
        ratio = (
            [f"{steps[0].bytes_read / steps[1].bytes_read:.2f}"]
            if len(steps) == 2
            else []
        )
        table.add_row(
            str(batch),
            *(cell for step in steps for cell in _cells(step)),
            *ratio,
        )
    return table


def _cells(step: Step) -> tuple[str, str, str]:
    touched = (
        "-" if step.experts_touched == 1 else f"{step.experts_touched:.2f}"
    )
    return touched, f"{step.bytes_read / 1e9:.1f}", f"{step.floor_ms:.2f}"
