"""Generated documentation: tables and help texts made from the code, a hook of mkdocs."""

from __future__ import annotations

import argparse
import ast
import functools
import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import msgspec

from benchmarks import gpu_tables, published_table
from perfgate.cli.main import main
from perfgate.config.options import add_options
from perfgate.config.project import ProjectTable
from perfgate.judge.baseline_schema import BaselineFile
from perfgate.load.metrics import METRICS
from perfgate.machine.datasheets import Gpu, by_name
from perfgate.models.catalogue import Architecture, parse_config
from perfgate.models.estimate import CannotSplit, Question, cache_size, estimate
from perfgate.models.families.registry import READERS
from perfgate.results import schema as rundata
from perfgate.results.schema import RunResults

ROOT = Path(__file__).resolve().parent.parent
PUBLISHED = ROOT / "baselines" / "published"
RUNS = ROOT / "docs" / "runs"
TABLES = ROOT / "docs" / "tables"
MODEL_CONFIGS = ROOT / "tests" / "data" / "model_configs.json"
# GPUs on which these models are tried.
FITS = ("h100", "h200", "b200", "mi300x")


def options() -> Iterator[str]:
    """A table of pytest's options."""
    found: dict[str, dict[str, Any]] = {}
    add_options(lambda name, **how: found.update({name: how}))
    yield "| option | means |\n|---|---|"
    for name, how in sorted(found.items()):
        if how["help"] == argparse.SUPPRESS:
            continue
        value = how.get("metavar") or "\\|".join(how.get("choices", ()))
        about = how["help"].replace("%%", "%")  # as argparse prints it
        yield f"| `{name}{' ' + value if value else ''}` | {about} |"


def commands() -> Iterator[str]:
    """The help of each command."""
    yield from _help(main, "perfgate", None)


def _help(
    command: click.Command, name: str, parent: click.Context | None
) -> Iterator[str]:
    # A command takes the names of --help from the group that it is called by.
    context = command.make_context(
        name.split()[-1],
        ["--help"],
        parent=parent,
        resilient_parsing=True,
        max_content_width=110,
        terminal_width=110,
    )
    yield f"### {name}\n\n```text\n{command.get_help(context)}\n```\n"
    if isinstance(command, click.Group):
        for word in command.list_commands(context):
            inner = command.get_command(context, word)
            assert inner is not None
            yield from _help(inner, f"{name} {word}", context)


def metrics() -> Iterator[str]:
    """A table of the metrics."""
    yield "| metric | unit | better | family | definition |\n|---|---|---|---|---|"
    for metric in METRICS.values():
        unit = metric.unit or "-"
        cells = (
            f"`{metric.name}`",
            unit,
            metric.better,
            metric.family,
            metric.definition,
        )
        yield f"| {' | '.join(cells)} |"


def files() -> Iterator[str]:
    """The fields of each struct in results.json and in a baseline."""
    for title, kind in (
        ("results.json", RunResults),
        ("a baseline", BaselineFile),
    ):
        yield f"### {title}\n"
        for name, struct in msgspec.json.schema(kind)["$defs"].items():
            fields = ", ".join(
                f"`{field}`" for field in struct.get("properties", {})
            )
            about = (
                (struct.get("description") or "")
                .split("\n\n")[0]
                .replace("\n", " ")
            )
            yield f"* **{name}**: {about} {fields}"
        yield ""


def project() -> Iterator[str]:
    """A table of the project file's keys, from the docstring of their struct."""
    yield "| key | default | means |\n|---|---|---|"
    section = (ProjectTable.__doc__ or "").partition("Attributes:\n")[2]
    means = dict(
        re.findall(r"^ {8}(\w+): (.*(?:\n {9,}.*)*)", section, re.MULTILINE)
    )
    for field in msgspec.structs.fields(ProjectTable):
        factory = field.default_factory
        default = field.default if factory is msgspec.NODEFAULT else factory()
        about = " ".join(means[field.name].split()).replace("``", "`")
        yield f"| `{field.name}` | `{json.dumps(default)}` | {about} |"


def questions() -> Iterator[str]:
    """A table of the study's questions, from the first line of each perf test."""
    rows = []
    for path in (ROOT / "tests" / "perf").glob("test_*.py"):
        first = (ast.get_docstring(ast.parse(path.read_text())) or "").split(
            "\n"
        )
        number, _, question = first[0].partition(": ")
        rows.append((int(number.removeprefix("E")), question, path.name))
    yield "| | question | file in tests/perf |\n|---|---|---|"
    for number, question, name in sorted(rows):
        yield f"| E{number} | {question} | `{name}` |"


def published() -> Iterator[str]:
    """A table of the published figures; those of one load that share a note stand in one row."""
    yield "| hardware | load | figures | tolerance | holds | note |\n|---|---|---|--:|---|---|"
    for path in sorted(PUBLISHED.rglob("*.json")):
        load = f"{path.parent.name}, {path.stem}".replace("--over--", " / ")
        shared: dict[tuple[str, str, str], list[str]] = {}
        for name, figure in sorted(
            json.loads(path.read_text())["metrics"].items()
        ):
            unit = "x" if "--over--" in str(path) else figure["unit"]
            value = (
                f"{figure['value'] / 1e9:.4g} GB"
                if unit == "bytes"
                else f"{figure['value']:,g} {unit}".strip()
            )
            about = (
                f"{figure['tolerance']:.0%}",
                "yes" if figure["holds"] else "**no**",
                figure["note"],
            )
            shared.setdefault(about, []).append(f"`{name}` {value}")
        for about, figures in shared.items():
            yield (
                f"| {path.parent.parent.name} | {load} | "
                f"{'<br>'.join(figures)} | {' | '.join(about)} |"
            )


def models() -> Iterator[str]:
    """Models of today: what they weigh, keep of a sequence, and on how many GPUs they fit."""
    heads = " | ".join(f"fits {name}" for name in FITS)
    yield (
        "| model | config | parameters | of these used by a token | format | weights | "
        f"cache per token | cache per sequence | {heads} |"
    )
    yield f"|---|---|--:|--:|---|--:|--:|--:|{'--:|' * len(FITS)}"
    content = json.loads(MODEL_CONFIGS.read_text(encoding="utf-8"))
    for name, row in content["models"].items():
        shape = parse_config(row["config"], name, row.get("beside"))
        cache = cache_size(shape, Question(gpu=by_name(FITS[0]), ranks=1))
        bounded = cache.window_bytes + cache.fixed_bytes
        cells = [
            name,
            row["source"],
            f"{shape.parameters / 1e9:,.2f} B",
            f"{shape.active_parameters / 1e9:,.2f} B",
            shape.quantization or "bfloat16",
            f"{shape.weights_bytes('bfloat16') / 1e9:,.1f} GB",
            f"{cache.bytes_per_token:,} B",
            f"{bounded / 1e6:,.1f} MB",
        ]
        cells += [_fewest(name, shape, by_name(gpu)) for gpu in FITS]
        yield f"| {' | '.join(cells)} |"


def families() -> Iterator[str]:
    """The model families that the arithmetic understands."""
    yield f"`{'`, `'.join(READERS)}`"


def _fewest(name: str, shape: Architecture, gpu: Gpu) -> str:
    """The fewest GPUs that hold a model; "-" if eight do not."""
    for ranks in (1, 2, 4, 8):
        question = Question(gpu=gpu, ranks=ranks, expert_parallel=shape.is_moe)
        try:
            if estimate(name, shape, question).fits:
                return str(ranks)
        except CannotSplit:
            continue
    return "-"


# Name on a page -> the recorded runs of one kind and number of GPUs.
GPUS = {
    "h200": ("h200x1-2*", "h200x1-planted/unchanged/*", "gpt-oss-h200x1-*"),
    "h200x2": ("h200x2-2*",),
    "h100": ("h100x1-2*",),
    "h100x2": ("h100x2-2*",),
}
INJECTED = {
    "h200": "h200x1-planted",
    "h200x2": "h200x2-planted",
    "h100": "h100x1-pairs",
}


@functools.cache
def runs_of(gpus: str) -> tuple[RunResults, ...]:
    """The recorded runs of one kind and number of GPUs."""
    folders = sorted(
        folder for pattern in GPUS[gpus] for folder in RUNS.glob(pattern)
    )
    return tuple(rundata.load(folder) for folder in folders)


def measured(gpus: str) -> Iterator[str]:
    """The published figures compared with recorded runs."""
    yield published_table.markdown(
        runs_of(gpus), PUBLISHED, published_table.read_explanations()
    )


def recorded_tables() -> dict[str, Callable[[], Iterator[str]]]:
    """Tables of the recorded runs: "speeds_h200", and so on."""
    parts: dict[str, Callable[[], Iterator[str]]] = {}
    for gpus in GPUS:
        parts[f"measured_{gpus}"] = functools.partial(measured, gpus)
        for table in (
            gpu_tables.speeds,
            gpu_tables.rates,
            gpu_tables.batches,
            gpu_tables.ratios,
            gpu_tables.noise,
        ):
            parts[f"{table.__name__}_{gpus}"] = functools.partial(
                _of_runs, table, gpus
            )
    for gpus, folder in INJECTED.items():
        parts[f"injected_{gpus}"] = functools.partial(
            gpu_tables.injected, RUNS / folder
        )
    return parts


def _of_runs(
    table: Callable[[Sequence[RunResults]], Iterator[str]], gpus: str
) -> Iterator[str]:
    return table(runs_of(gpus))


PARTS: dict[str, Callable[[], Iterator[str]]] = {
    "options": options,
    "commands": commands,
    "metrics": metrics,
    "files": files,
    "project": project,
    "questions": questions,
    "published": published,
    "models": models,
    "families": families,
} | recorded_tables()


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put each part where a page asks for it, and each recorded table."""
    markdown = re.sub(
        r"<!-- table: ([\w-]+) -->",
        lambda asked: recorded_table(asked[1]),
        markdown,
    )
    return re.sub(
        r"<!-- generated: (\w+) -->",
        lambda asked: "\n".join(PARTS[asked[1]]()),
        markdown,
    )


def recorded_table(name: str) -> str:
    """What a simulation printed, below its command."""
    text = (TABLES / f"{name}.md").read_text(encoding="utf-8")
    return text.partition("\n")[2]
