"""The command `doctor`: what this machine can run, what is missing, and the remedies."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from perfgate.cli.project import judging_store, opened

if TYPE_CHECKING:
    from perfgate.cli.finding import Finding

_STORE = click.Path(path_type=Path)


@click.command("doctor")
@click.option(
    "--tp",
    type=click.IntRange(min=1),
    default=2,
    show_default=True,
    help="Tensor parallel size to check for.",
)
@click.option(
    "--baselines", type=_STORE, help="Baseline store (default: the project's)."
)
@click.option(
    "--engine-python",
    multiple=True,
    metavar="ENGINE=PATH",
    help="The Python that runs an engine.",
)
@click.option(
    "--model-dir",
    multiple=True,
    metavar="MODEL=DIR",
    help="Folder of a model's weights.",
)
def command(
    tp: int,
    baselines: Path | None,
    engine_python: tuple[str, ...],
    model_dir: tuple[str, ...],
) -> None:
    """Check what this machine can run, and say how to install what is missing.

    Exits with 1 if no perf test can run here, neither on the CPU nor on GPUs.
    """
    # Imported here: `--help` must not wait for them.
    from perfgate.cli import doctor
    from perfgate.engines.registry import ENGINES
    from perfgate.machine import hardware
    from perfgate.models.catalogue import CATALOGUE

    project = opened()
    machine = hardware.detect()
    named = _pairs("--engine-python", engine_python)
    pythons = {**project.engine_python, **named}
    named_folders = _pairs("--model-dir", model_dir)
    folders = {**project.model_dir, **named_folders}
    unknown = [
        *doctor.unknown("--engine-python", "engine", named, ENGINES),
        *doctor.unknown("--model-dir", "model", named_folders, CATALOGUE),
    ]
    store = judging_store(baselines)
    findings = list(
        doctor.examine(machine, project.study, store, pythons, folders)
    )
    selections = list(
        doctor.platforms(
            machine, project.study, tp, findings, hardware.detect_product
        )
    )
    _show([*unknown, *findings])
    click.echo()
    _show(selections)
    if not doctor.can_run(findings, selections):
        sys.exit(1)


def _show(findings: Iterable[Finding]) -> None:
    for finding in findings:
        word, colour = "ok  ", "green"
        if finding.remedy is not None:
            word, colour = "todo", "yellow"
        click.echo(
            f"{click.style(word, fg=colour)}  {finding.subject}: {finding.seen}"
        )
        if finding.remedy is not None:
            click.echo(f"      -> {finding.remedy}")


def _pairs(option: str, texts: tuple[str, ...]) -> dict[str, str]:
    from perfgate.config.option_values import BadOption, name_value_pairs

    try:
        return name_value_pairs(option, texts)
    except BadOption as error:
        raise click.BadParameter(f"{error.tried}: {error.seen}") from error
