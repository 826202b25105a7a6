"""Tables of the command `estimate`: one model with a reference, or many models, a row each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import msgspec

from perfgate.models.estimate import (
    BATCHES,
    RESERVE_BYTES,
    UTILIZATION,
    Claim,
    Estimate,
    Question,
    Step,
)

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


class Answer(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """What `--json` prints of one model.

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


class Overview(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """What `--json` prints of several models.

    Attributes:
        refused: model -> why it has no estimate.
    """

    question: Question
    models: tuple[Estimate, ...]
    refused: dict[str, str]


Cell = Callable[[Estimate], str]


def show(answer: Answer, console: Console) -> None:
    """Print one model, and the one that it is compared with."""
    question = answer.question
    console.print(_summary(answer))
    console.print(_steps(answer))
    _show_misfits(answer.columns, console)
    for claim in answer.claims:
        word = "holds" if claim.holds else "WRONG"
        console.print(f"published: {claim.claim}\n  {word}: {claim.arithmetic}")
    bandwidth = f"{question.gpu.bandwidth_bytes_per_s / 1e12:g} TB/s"
    routing = "uniform routing"
    if question.routing is not None:
        routing = f"the routing of {question.routing}"
    console.print(
        "The time of a step is a lower bound: bytes read over "
        f"{bandwidth} ({question.gpu.source}), with {routing} and a KV cache of "
        f"{question.context_tokens} tokens per sequence. {_room(answer.columns)}"
    )


def show_overview(overview: Overview, console: Console) -> None:
    """Print several models, a row each, and why others have none."""
    from rich.table import Table

    question = overview.question
    table = Table(title=_title(question), title_justify="left")
    table.add_column("model", overflow="fold")
    columns = _overview_columns()
    for head in columns:
        table.add_column(head, justify="right", overflow="fold")
    for model in overview.models:
        cells = [cell(model) for cell in columns.values()]
        table.add_row(model.name, *cells)
    console.print(table)
    _show_misfits(overview.models, console)
    for name, why in overview.refused.items():
        console.print(f"{name} is not estimated: {why}")
    console.print(_room(overview.models))


def _overview_columns() -> dict[str, Cell]:
    return {
        "parameters": lambda c: _billions(c.parameters),
        "used by\none token": _active,
        "format": _format,
        "weights": lambda c: _gb(c.weights_bytes),
        "on each GPU": lambda c: _gb(c.weights_bytes_per_gpu),
        "cache per\ntoken": lambda c: f"{c.kv_bytes_per_token:,} B",
        "cache per\nsequence": lambda c: _mb(_bounded_bytes(c)),
        "fits": _fits,
        "tokens of\ncache": lambda c: f"{c.kv_tokens:,}",
    }


def _show_misfits(models: Sequence[Estimate], console: Console) -> None:
    for model in models:
        if model.why_not is not None:
            console.print(f"{model.name} does not fit: {model.why_not}")


def _room(models: Sequence[Estimate]) -> str:
    """How the room for the cache is counted."""
    reserve = f"{RESERVE_BYTES / 1e9:.1f} GB"
    text = (
        f"Room for the KV cache: {UTILIZATION:.0%} of the memory, less the weights and "
        f"{reserve}."
    )
    if any(_bounded_bytes(model) for model in models):
        text += (
            " Where a part of the cache does not grow with each token, the room is for "
            "sequences as long as --context, or as the model allows without it."
        )
    return text


def _title(question: Question) -> str:
    parallel = f"{question.ranks}x {question.gpu.name}, tensor parallel"
    if question.data_parallel > 1:
        gpus = question.split.ranks
        parallel = (
            f"{gpus}x {question.gpu.name}, {question.data_parallel} data parallel "
            f"groups of {question.ranks}"
        )
    elif question.expert_parallel:
        parallel = f"{question.ranks}x {question.gpu.name}, expert parallel"
    title = f"{parallel}, {question.dtype}"
    if question.quantization is not None:
        title += f", {question.quantization} made while loading"
    return title


def _summary(answer: Answer) -> Table:
    from rich.table import Table

    table = Table(title=_title(answer.question), title_justify="left")
    table.add_column("", overflow="fold")
    for column in answer.columns:
        table.add_column(column.name, justify="right", overflow="fold")
    for label, format_cell in _rows(answer).items():
        cells = [format_cell(column) for column in answer.columns]
        table.add_row(label, *cells)
    return table


def _billions(count: float) -> str:
    return f"{count / 1e9:,.2f} B"


def _gb(size_bytes: float) -> str:
    return f"{size_bytes / 1e9:,.2f} GB"


def _mb(size_bytes: float) -> str:
    if size_bytes == 0:
        return "-"
    return f"{size_bytes / 1e6:,.2f} MB"


def _fits(column: Estimate) -> str:
    return "yes" if column.fits else "NO"


def _active(column: Estimate) -> str:
    """What one token uses; on average, where that varies."""
    least, most = column.active_range
    text = _billions(column.active_parameters)
    if least == most:
        return text
    return f"{text} ({least / 1e9:.1f} to {most / 1e9:.1f})"


def _bounded_bytes(column: Estimate) -> float:
    """What a sequence keeps besides what grows with each token."""
    return column.cache.window_bytes + column.cache.fixed_bytes


def _layers(column: Estimate) -> str:
    return ", ".join(f"{n} {kind}" for kind, n in column.layers.items())


def _format(column: Estimate) -> str:
    return column.quantization or "-"


def _draft(column: Estimate) -> str:
    if column.draft_parameters == 0:
        return "-"
    return f"{_billions(column.draft_parameters)}, {_gb(column.draft_bytes)}"


def _index(column: Estimate) -> str:
    if not column.cache.index_bytes_per_token:
        return "-"
    return f"{column.cache.index_bytes_per_token:,.0f} B"


# Rows that are left out where no model has anything in them.
_OPTIONAL = (
    "  in the format",
    "  more, to predict further tokens",
    "  of these the index",
    "  in windows, at most",
    "  fixed for each sequence",
)


def _rows(answer: Answer) -> dict[str, Cell]:
    """Label of each row -> the text of a model's cell."""
    rows: dict[str, Cell] = {
        "layers": _layers,
        "parameters": lambda c: _billions(c.parameters),
        "  used by one token": _active,
        "weights": lambda c: _gb(c.weights_bytes),
        "  in the format": _format,
        "  more, to predict further tokens": _draft,
        "  on each GPU": lambda c: _gb(c.weights_bytes_per_gpu),
        "  of these on every GPU": lambda c: (
            f"{c.copied_bytes_per_gpu / 1e6:,.2f} MB"
        ),
        "KV cache per token": lambda c: f"{c.kv_bytes_per_token:,} B",
        "  of these the index": _index,
        "  in windows, at most": lambda c: _mb(c.cache.window_bytes),
        "  fixed for each sequence": lambda c: _mb(c.cache.fixed_bytes),
        "fits": _fits,
        "tokens of KV cache that fit": lambda c: f"{c.kv_tokens:,}",
        "summed over GPUs per token": lambda c: (
            f"{c.communication.all_reduce / 1024:,.0f} KiB"
        ),
    }
    for label in _OPTIONAL:
        cells = {rows[label](column) for column in answer.columns}
        if cells == {"-"}:
            del rows[label]
    if answer.question.expert_parallel:
        rows |= _data_parallel_rows()
    return rows


def _data_parallel_rows() -> dict[str, Cell]:
    """Where the experts are spread over the GPUs, and each GPU has all of the attention."""
    rows: dict[str, Cell] = {
        "  weights on each GPU": lambda c: _gb(
            c.data_parallel_weights_bytes_per_gpu
        ),
        "  duplicated weights": lambda c: _gb(c.data_parallel_copied_bytes),
        "  sent to experts and back per token": _all_to_all,
    }
    found: dict[str, Cell] = {"with attention data parallel:": lambda _: ""}
    for label, format_cell in rows.items():
        found[label] = _of_sparse(format_cell)
    return found


def _all_to_all(column: Estimate) -> str:
    kib = column.communication.all_to_all / 1024
    least_kib = column.communication.all_to_all_once / 1024
    return f"{kib:,.0f} KiB, at least {least_kib:,.0f}"


def _of_sparse(format_cell: Cell) -> Cell:
    """The cell of a model with experts; "-" for a dense one."""

    def cell(column: Estimate) -> str:
        if column.parameters > column.active_parameters:
            return format_cell(column)
        return "-"

    return cell


def _steps(answer: Answer) -> Table:
    from rich.table import Table

    table = Table(title="one decode step", title_justify="left")
    table.add_column("batch", justify="right", overflow="fold")
    for column in answer.columns:
        for head in ("experts read", "GB read", "floor, ms"):
            title = f"{column.name}\n{head}"
            table.add_column(title, justify="right", overflow="fold")
    if answer.reference is not None:
        table.add_column("ratio", justify="right", overflow="fold")
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
