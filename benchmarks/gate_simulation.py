"""Error rates of the gate: false alarms and power of one row, simulated.

    python -m benchmarks.gate_simulation               # tables of docs/error-rates.md: minutes
    python -m benchmarks.gate_simulation --scale 0.02  # seconds, coarse
    python -m benchmarks.gate_simulation --noise FILE  # by `benchmarks.noise --json FILE`

Launches are drawn with the noise that the store learned (`benchmarks.simulated_launches`)
and judged by the gate's own code (`benchmarks.gate_trials`). `benchmarks.whole_runs` has
whole runs, `benchmarks.fleet_simulation` several machines. Seeded: the same version of
numpy prints the same tables.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np

from benchmarks import noise
from benchmarks.gate_trials import Subject, gate_rates
from benchmarks.pair_rules import pair_rates
from benchmarks.simulated_launches import (
    CLASSES,
    TYPICAL,
    LearnedNoise,
    Machine,
    Source,
    Stalls,
    measured_machine,
)
from perfgate.cases import Case, Load
from perfgate.engines.base import ServerConfig
from perfgate.judge import noise_table
from perfgate.judge.noise import log_loss
from perfgate.judge.noise_table import NoiseTable
from perfgate.load.metrics import METRICS
from perfgate.load.workload import Arrivals, Workload

SEED = 20260412
LOSSES = (0.0, 0.02, 0.03, 0.05, 0.10)
RECORDED = (1, 3, 6, 10)
ROWS = 103  # of a run of vLLM on one H200
# What is judged in the tables: metric and arrivals.
LEARNED: tuple[tuple[str, str, Arrivals], ...] = (
    ("ITL, closed", "itl_median_ms", "closed"),
    ("ITL, single stream", "itl_median_ms", "single"),
    ("output throughput, closed", "output_throughput", "closed"),
    ("E2EL, single stream", "e2el_mean_ms", "single"),
)


@dataclass(frozen=True)
class Setting:
    """A row of a table: what is judged, and the noise that it has."""

    subject: Subject
    source: Source


def subject_of(metric: str) -> Subject:
    """A subject of that metric: the server and the prompts do not matter."""
    workload = Workload(name="closed-c32", num_prompts=1)
    server = ServerConfig(engine="vllm", model="llama", device="cuda")
    load = Load(server=server, workload=workload)
    return Subject(Case(experiment="-", metric=metric, numerator=load))


def learned_settings(table: NoiseTable) -> Iterator[Setting]:
    """Metrics of one GPU, with the noise that the store learned of them."""
    for name, metric, arrivals in LEARNED:
        group = table.find("one-gpu", metric, arrivals)
        if group is None:
            continue
        subject = dataclasses.replace(subject_of(metric), group=group)
        yield Setting(subject, LearnedNoise(name, group.launches))


def measured_settings(path: Path) -> list[Setting]:
    """Metrics with a noise that was measured; the gate knows nothing of it.

    Raises:
        NoNoise: the file cannot be read, or no metric of it was measured on two
            launches.
    """
    settings = []
    for measured in noise.read(path).rows:
        if measured.launch_cv is None:
            continue
        metric = measured.name.rpartition("/")[2]
        if metric not in METRICS:
            metric = "output_throughput"
        machine = measured_machine(
            f"{measured.hardware} {measured.name}",
            measured.launch_cv,
            measured.repetition_cv or 0.0,
            measured.repetitions,
        )
        settings.append(Setting(subject_of(metric), machine))
    if not settings:
        raise noise.NoNoise(
            tried=f"simulating the noise in {path}",
            seen="no metric of it was measured on two launches",
            remedy="measure more launches",
        )
    return settings


def percent(share: float) -> str:
    """Three digits where they matter: false alarms are rare."""
    if share < 0.005:
        return f"{100 * share:.2f}"
    return f"{100 * share:.1f}"


def row(cells: Iterable[object]) -> str:
    """One line of a Markdown table."""
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def header(*names: str) -> list[str]:
    """The head of a Markdown table: the names, then a column for each loss."""
    losses = [f"{loss:.0%} lost" for loss in LOSSES[1:]]
    cells = [*names, "false alarms", *losses]
    return [row(cells), row("---" for _ in cells)]


def trials_for(loss: float, scale: float) -> int:
    """More trials for rare false alarms than for power."""
    trials = 4000
    if loss == 0:
        trials = 20_000
    return max(10, int(trials * scale))


def rows_table(
    rng: np.random.Generator, scale: float, settings: Sequence[Setting]
) -> list[str]:
    """Failed rows in %, by recorded launches, of a run with one row and of one with 103."""
    names = ("metric", "launches", "rows", "again", "not excluded")
    lines = header(*names)
    for setting in settings:
        for recorded in RECORDED:
            for rows in (1, ROWS):
                lines.append(_rates(rng, scale, setting, recorded, rows))
    return lines


def _rates(
    rng: np.random.Generator,
    scale: float,
    setting: Setting,
    recorded: int,
    rows: int,
) -> str:
    subject = dataclasses.replace(setting.subject, judged_rows=rows)
    rates = []
    for loss in LOSSES:
        trials = trials_for(loss, scale)
        rates.append(
            gate_rates(rng, subject, setting.source, recorded, loss, trials)
        )
    unchanged = rates[0]
    cells = [
        setting.source.name,
        recorded,
        rows,
        percent(unchanged.again),
        percent(unchanged.not_excluded),
    ]
    return row([*cells, *(percent(rate.red) for rate in rates)])


def pairs_table(
    rng: np.random.Generator, scale: float, settings: Sequence[Setting]
) -> list[str]:
    """Three pairs of base and candidate, in %: failed, and left a loss open."""
    lines = header("noise", "target effect", "")
    subject = subject_of("output_throughput")
    machines = [
        setting.source
        for setting in settings
        if isinstance(setting.source, Machine)
    ]
    for machine in (*machines, *CLASSES):
        for target in (0.02, 0.05):
            rates = []
            for loss in LOSSES:
                shift = log_loss(loss, subject.higher)
                trials = trials_for(loss, scale / 4)
                rates.append(
                    pair_rates(rng, subject, machine, shift, target, trials)
                )
            names = [machine.name, f"{target:.0%}"]
            red = [percent(rate.red) for rate in rates]
            open_cells = [percent(rate.not_excluded) for rate in rates]
            lines.append(row([*names, "failed", *red]))
            lines.append(row([*names, "not excluded", *open_cells]))
    return lines


def stalls_table(
    rng: np.random.Generator, scale: float, settings: Sequence[Setting]
) -> list[str]:
    """Throughput whose repetitions stall (9 % lost), by 10 recorded launches, failed in %."""
    lines = header("noise", "stalls")
    subject = subject_of("output_throughput")
    kinds = {
        "none": None,
        "half, unseen": Stalls(0.5, 0.09, 3, named=False),
        "half, named, 5 repetitions at most": Stalls(0.5, 0.09, 5, named=True),
        "half, named, 9 repetitions at most": Stalls(0.5, 0.09, 9, named=True),
        "rare (5 %), unseen": Stalls(0.05, 0.09, 3, named=False),
        "rare (5 %), named": Stalls(0.05, 0.09, 5, named=True),
    }
    for name, stalls in kinds.items():
        machine = dataclasses.replace(TYPICAL, stalls=stalls)
        shares = []
        for loss in LOSSES:
            trials = trials_for(loss, scale / 4)
            rates = gate_rates(rng, subject, machine, 10, loss, trials)
            shares.append(percent(rates.red))
        lines.append(row([machine.name, name, *shares]))
    return lines


Table = Callable[[np.random.Generator, float, Sequence[Setting]], list[str]]
TABLES: tuple[Table, ...] = (rows_table, pairs_table, stalls_table)


@click.command()
@click.option(
    "--scale", default=1.0, show_default=True, help="Share of the trials."
)
@click.option(
    "--noise",
    "measured",
    type=click.Path(path_type=Path),
    help="Measured, in place of what the store learned.",
)
@click.option(
    "--baselines",
    type=click.Path(path_type=Path, exists=True),
    default=Path("baselines"),
    show_default=True,
)
def main(scale: float, measured: Path | None, baselines: Path) -> None:
    """Print every table."""
    began = time.process_time()
    if measured is not None:
        settings = measured_settings(measured)
    else:
        settings = list(learned_settings(_table_in(baselines)))
    for setting in settings:
        click.echo(f"{setting.source}")
    # Each is seeded by itself, so that one more row in a table moves no other.
    for number, table in enumerate(TABLES):
        lines = table(np.random.default_rng([SEED, number]), scale, settings)
        click.echo(f"\n{table.__doc__}\n\n" + "\n".join(lines))
    click.echo(f"\n{time.process_time() - began:.0f} s of one core")


def _table_in(baselines: Path) -> NoiseTable:
    table = noise_table.read(baselines / noise_table.FILE)
    if table is None:
        raise noise.NoNoise(
            tried=f"simulating the noise in {baselines}",
            seen=f"no {noise_table.FILE} there",
            remedy="make it: `perfgate noise --update`",
        )
    return table


if __name__ == "__main__":
    main()
