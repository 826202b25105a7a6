"""Is the gate silent when nothing changed on real servers, and red where something was slowed down?

    python -m benchmarks.real_runs measure runs/proof --losses 0.1,0.2 -- -m cpu --engine vllm
    python -m benchmarks.real_runs table runs/proof

`measure` runs the whole suite with --gate=required again and again, each time in a process and a run directory of its
own: first unchanged, then with a delay planted in the steps of one model, in turn for each loss. The delay is that
share of the recorded time of a step with so many sequences: one workload loses it, those with fewer at once lose less.
What has been measured whole is not measured again; a run that did not end is put aside. `table` reads the run
directories alone. What follows `--` goes to pytest.
"""

from __future__ import annotations

import math
import statistics
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from benchmarks.run_folders import UNCHANGED, is_whole, kinds, red_cases, touched
from fixtures.failure import Failure
from fixtures.judge.baselines import Store

METRIC = "itl_median_ms"


class NotRecorded(Failure):
    """The share of what? No baseline tells."""


def recorded_itl_ms(baselines: Path, subject: str) -> tuple[str, float]:
    """The model of a server under a workload and its recorded time per token, the geometric mean of its launches.

    Args:
        subject: "SERVER/WORKLOAD", as the files of the store are named.

    Raises:
        NotRecorded: no baseline has it, or those of several kinds of machines have.
    """
    paths = [path for path in baselines.glob(f"*/{subject}.json") if path.parent.parent.name != "published"]
    files = [file for path in paths if (file := Store(baselines).file(path)) is not None and METRIC in file.metrics]
    if len(files) != 1:
        raise NotRecorded(
            tried=f"looking for {METRIC} of {subject} in {baselines}",
            seen=f"{len(files)} baselines have it",
            remedy="record it (pytest ... --baseline-record, then `perfgate accept`), or choose another one by --of",
        )
    launches = files[0].metrics[METRIC].launches
    return files[0].identity["model"], math.exp(statistics.fmean(math.log(launch.value) for launch in launches))


def wanted(unchanged: int, runs: int, losses: Sequence[float]) -> list[tuple[str, float]]:
    """(folder, planted share) of every run, in the order in which they are measured."""
    plain = [(f"{UNCHANGED}/{n:02}", 0.0) for n in range(1, unchanged + 1)]
    return plain + [(f"loss-{loss:g}/{n:02}", loss) for n in range(1, runs + 1) for loss in losses]


def measure_one(run_dir: Path, baselines: Path, plant: str | None, pytest_args: Sequence[str]) -> None:
    """One run of the suite; its output goes beside its directory."""
    command = [sys.executable, "-m", "pytest", *pytest_args, "--gate=required", "--run-dir", str(run_dir)]
    command += ["--baselines", str(baselines), *(["--plant-delay", plant] if plant else [])]
    run_dir.parent.mkdir(parents=True, exist_ok=True)
    with run_dir.with_suffix(".txt").open("w") as output:
        subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, check=False)


def table(folder: Path) -> str:
    """Markdown: runs, red runs, which cases were red how often, and how many of these do not hold the slowed model."""
    lines = ["| planted | runs | red runs | red in other cases | red cases (times) |", "|---|---|---|---|---|"]
    for kind in kinds(folder):
        red = [red_cases(results) for results in kind.runs]
        counts = Counter(case for cases in red for case in cases)
        others = 0
        for results, cases in zip(kind.runs, red, strict=True):
            right = touched(results, kind.models)
            others += sum(case.split(" ")[0] not in right for case in cases)
        which = "; ".join(f"{case} ({count})" for case, count in counts.most_common()) or "none"
        lines.append(f"| {kind.title} | {len(kind.runs)} | {sum(map(bool, red))} | {others} | {which} |")
    return "\n".join(lines)


@click.group()
def main() -> None:
    """Many whole runs of the suite on real servers."""


@main.command("measure")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--runs", default=10, show_default=True, help="Runs of each loss.")
@click.option("--unchanged", default=10, show_default=True, help="Unchanged runs, before them.")
@click.option("--losses", default="0.1,0.2", show_default=True, help="Planted shares of the time per token.")
@click.option("--of", default="vllm-mixtral-small-tp2/batch-32", show_default=True, help="Whose steps.")
@click.option("--sequences", default=32, show_default=True, help="In each of them: the workload's concurrency.")
@click.option("--baselines", type=click.Path(path_type=Path), default=Path("baselines"), show_default=True)
@click.argument("pytest_args", nargs=-1)
def measure(folder: Path, runs: int, unchanged: int, losses: str, pytest_args: tuple[str, ...], **how: Any) -> None:
    """Measure what is missing under FOLDER, then show the table."""
    shares = [float(text) for text in losses.split(",") if text]
    try:
        model, itl_ms = recorded_itl_ms(how["baselines"], how["of"]) if shares else ("", 0.0)
    except Failure as failure:
        raise click.ClickException(str(failure)) from failure
    for name, share in wanted(unchanged, runs, shares):
        run_dir = folder / name
        if is_whole(run_dir):
            continue
        if run_dir.exists():
            run_dir.rename(run_dir.with_suffix(f".partial-{len(list(run_dir.parent.glob('*.partial-*')))}"))
        plant = f"{model}={share * itl_ms / how['sequences']:.4g}" if share else None
        click.echo(f"{name}: {f'--plant-delay {plant}' if plant else 'unchanged'}")
        measure_one(run_dir, how["baselines"], plant, pytest_args)
        if not is_whole(run_dir):
            raise click.ClickException(f"{name} did not end by itself; see {run_dir.with_suffix('.txt')}")
    click.echo(table(folder))


@main.command("table")
@click.argument("folder", type=click.Path(path_type=Path, exists=True))
def show(folder: Path) -> None:
    """Show what the runs under FOLDER came to."""
    click.echo(table(folder))


if __name__ == "__main__":
    main()
