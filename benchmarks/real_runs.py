r"""Repeated runs on real servers: silent when unchanged, failing where slowed down.

    python -m benchmarks.real_runs measure runs/proof --losses 0.1,0.2 -- -m cpu --engine vllm
    python -m benchmarks.real_runs measure runs/proof \
        --inject "small=--inject-arg llama-small=--max-num-seqs 8" -- -m cpu
    python -m benchmarks.real_runs table runs/proof

`measure` runs the whole suite with --gate=required again and again, each time in a
process and a run directory of its own: first unchanged, then with something injected in
one model, in turn for each loss and each --inject. A loss is a delay in its steps, that
share of the recorded time of a step with so many sequences: one workload loses it,
those with fewer at once lose less. A --inject is a name and any options that inject
something. What has been measured whole is not measured again; a run that did not end is
put aside. `table` reads the run directories alone. What follows `--` goes to pytest.
"""

from __future__ import annotations

import re
import shlex
import statistics
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from benchmarks.run_folders import (
    UNCHANGED,
    is_whole,
    kinds,
    red_cases,
    touched,
)
from perfgate.errors import Failure
from perfgate.judge.baseline_store import Store
from perfgate.machine import hardware
from perfgate.machine.hardware import Hardware

METRIC = "itl_median_ms"


class NotRecorded(Failure):
    """The share of what? No baseline of this machine tells."""


def recorded_itl_ms(
    baselines: Path, subject: str, here: Hardware
) -> tuple[str, float]:
    """Model of a server under a workload, and its recorded time per token.

    The time is the geometric mean of its launches.

    Args:
        subject: "SERVER/WORKLOAD", as the files of the store are named.
        here: the machine whose baselines count.

    Raises:
        NotRecorded: none of this machine's baselines has it.
    """
    paths = [
        baselines / here.label(count) / f"{subject}.json"
        for count in range(len(here.gpus) + 1)
    ]
    files = [
        file
        for path in paths
        if (file := Store(baselines).file(path)) is not None
        and METRIC in file.metrics
    ]
    if not files:
        raise NotRecorded(
            tried=f"looking for {METRIC} of {subject} in {baselines}",
            seen=f"no baseline of {here.description} has it",
            remedy=(
                "record it (pytest ... --baseline-record, then `perfgate accept`), "
                "or choose another one by --of"
            ),
        )
    launches = files[0].metrics[METRIC].launches
    return files[0].identity["model"], statistics.geometric_mean(
        launch.value for launch in launches
    )


def wanted(
    unchanged: int, runs: int, injected: Mapping[str, Sequence[str]]
) -> list[tuple[str, Sequence[str]]]:
    """(folder, options that inject something) of every run, in the order of measuring."""
    plain: list[tuple[str, Sequence[str]]] = [
        (f"{UNCHANGED}/{n:02}", ()) for n in range(1, unchanged + 1)
    ]
    return plain + [
        (f"{name}/{n:02}", options)
        for n in range(1, runs + 1)
        for name, options in injected.items()
    ]


def delays(
    losses: Sequence[float], of: str, sequences: int, baselines: Path
) -> dict[str, Sequence[str]]:
    """Kind of run -> the delay that takes that share of the recorded steps.

    Raises:
        NotRecorded: the share of what is not known.
    """
    if not losses:
        return {}
    model, itl_ms = recorded_itl_ms(baselines, of, hardware.detect())
    return {
        f"loss-{loss:g}": (
            "--inject-delay",
            f"{model}={loss * itl_ms / sequences:.4g}",
        )
        for loss in losses
    }


def named_injections(texts: Sequence[str]) -> dict[str, Sequence[str]]:
    """Kind of run -> its options, from "NAME=OPTIONS"."""
    found: dict[str, Sequence[str]] = {}
    for text in texts:
        name, _, options = text.partition("=")
        if not (
            re.fullmatch(r"[\w.-]+", name) and options.startswith("--inject-")
        ):
            raise click.BadParameter(
                f"{text!r} is no NAME=OPTIONS such as 'small=--inject-arg MODEL=ARGS'"
            )
        found[name] = shlex.split(options)
    return found


def measure_one(
    run_dir: Path,
    baselines: Path,
    injection: Sequence[str],
    pytest_args: Sequence[str],
) -> None:
    """One run of the suite; its output goes next to its directory."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        *pytest_args,
        "--gate=required",
        "--run-dir",
        str(run_dir),
    ]
    command += ["--baselines", str(baselines), *injection]
    run_dir.parent.mkdir(parents=True, exist_ok=True)
    with run_dir.with_suffix(".txt").open("w") as output:
        subprocess.run(
            command, stdout=output, stderr=subprocess.STDOUT, check=False
        )


def table(folder: Path) -> str:
    """Markdown: runs, failed runs, failed cases, and cases without the slowed model."""
    lines = [
        "| injected | runs | red runs | red in other cases | red cases (times) |",
        "|---|---|---|---|---|",
    ]
    for kind in kinds(folder):
        red = [red_cases(results) for results in kind.runs]
        counts = Counter(case for cases in red for case in cases)
        others = 0
        for results, cases in zip(kind.runs, red, strict=True):
            right = touched(results, kind.models)
            others += sum(case.split(" ")[0] not in right for case in cases)
        which = (
            "; ".join(
                f"{case} ({count})" for case, count in counts.most_common()
            )
            or "none"
        )
        lines.append(
            f"| {kind.title} | {len(kind.runs)} | {sum(map(bool, red))} | {others} | {which} |"
        )
    return "\n".join(lines)


@click.group()
def main() -> None:
    """Many whole runs of the suite on real servers."""


@main.command("measure")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--runs",
    default=10,
    show_default=True,
    help="Runs of each loss and of each --inject.",
)
@click.option(
    "--unchanged",
    default=10,
    show_default=True,
    help="Unchanged runs, before them.",
)
@click.option(
    "--losses",
    default="0.1,0.2",
    show_default=True,
    help="Injected shares of the time per token.",
)
@click.option(
    "--inject",
    "injections",
    multiple=True,
    metavar="NAME=OPTIONS",
    help="A kind of run, and what injects it.",
)
@click.option(
    "--of",
    default="vllm-mixtral-small-tp2/batch-32",
    show_default=True,
    help="Whose steps.",
)
@click.option(
    "--sequences",
    default=32,
    show_default=True,
    help="In each of them: the workload's concurrency.",
)
@click.option(
    "--baselines",
    type=click.Path(path_type=Path),
    default=Path("baselines"),
    show_default=True,
)
@click.argument("pytest_args", nargs=-1)
def measure(
    folder: Path,
    runs: int,
    unchanged: int,
    losses: str,
    injections: tuple[str, ...],
    pytest_args: tuple[str, ...],
    **how: Any,
) -> None:
    """Measure what is missing under FOLDER, then show the table."""
    shares = [float(text) for text in losses.split(",") if text]
    try:
        injected = delays(
            shares, how["of"], how["sequences"], how["baselines"]
        ) | named_injections(injections)
    except Failure as failure:
        raise click.ClickException(str(failure)) from failure
    for name, injection in wanted(unchanged, runs, injected):
        run_dir = folder / name
        if is_whole(run_dir):
            continue
        if run_dir.exists():
            run_dir.rename(
                run_dir.with_suffix(
                    f".partial-{len(list(run_dir.parent.glob('*.partial-*')))}"
                )
            )
        click.echo(f"{name}: {shlex.join(injection) or 'unchanged'}")
        measure_one(run_dir, how["baselines"], injection, pytest_args)
        if not is_whole(run_dir):
            raise click.ClickException(
                f"{name} did not end by itself; see {run_dir.with_suffix('.txt')}"
            )
    click.echo(table(folder))


@main.command("table")
@click.argument("folder", type=click.Path(path_type=Path, exists=True))
def show(folder: Path) -> None:
    """Show what the runs under FOLDER came to."""
    click.echo(table(folder))


if __name__ == "__main__":
    main()
