"""Noise of each metric: CV between and within launches, and the loss that can be detected.

    python -m benchmarks.noise --baselines baselines --hardware h200x1 runs/a runs/b
    python -m benchmarks.noise runs/a runs/b runs/c --json noise.json

With --hardware the launches are those of the baseline store, else those of the run
directories. A store holds one value for each launch, so repetitions are always those of
the run directories that are named; machines are those of both. `gate_simulation --noise
FILE` reads what --json writes.
"""

from __future__ import annotations

import fnmatch
import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import click
import msgspec

from perfgate import formatting as wording
from perfgate.errors import Failure
from perfgate.judge.baseline_store import Store
from perfgate.judge.noise import coefficient_of_variation, noise_of
from perfgate.judge.observation import RunReader, hardware_label
from perfgate.judge.policy import policy_for
from perfgate.load.metrics import METRICS
from perfgate.results import schema as rundata
from perfgate.results.samples import values_of
from perfgate.results.schema import RunResults


class NoNoise(Failure):
    """No launch could be read."""


class Row(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """The noise of one metric of one server under one workload.

    Attributes:
        launch_cv: standard deviation (log) between the medians of launches;
            None for fewer than two.
        repetition_cv: the same within launches, pooled; None where no launch
            had two repetitions.
        repetitions: valid ones of a launch, the median over launches.
        detectable_one_launch, detectable_three_launches: smallest loss that one
            launch against these detects with 95 %, by the gate's own rule; and
            three, after an escalation.
        established: enough launches of enough runs; else that rule mixes in an
            assumed noise.
        run_medians: of each run's launches, in order: what differs from session
            to session.
        machines: median of the launches on each machine, where it is known.
    """

    hardware: str
    server: str
    workload: str
    metric: str
    unit: str
    value: float
    launches: int
    runs: int
    launch_cv: float | None
    repetition_cv: float | None
    repetitions: int
    detectable_one_launch: float
    detectable_three_launches: float
    established: bool
    run_medians: tuple[float, ...]
    machines: dict[str, float] = {}

    @property
    def name(self) -> str:
        """SERVER/WORKLOAD/METRIC."""
        return f"{self.server}/{self.workload}/{self.metric}"


class Table(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """What --json writes."""

    rows: tuple[Row, ...]
    schema: Literal[1] = 1


@dataclass
class Series:
    """Samples of one metric: launches as (run, value), repetitions, and the machine of a run."""

    points: list[tuple[str, float]] = field(default_factory=list)
    repetitions: list[tuple[float, ...]] = field(default_factory=list)
    machines: dict[str, str] = field(default_factory=dict)


Key = tuple[str, str, str, str]  # hardware, server, workload, metric


def of_runs(runs: Iterable[RunResults]) -> dict[Key, Series]:
    """Every metric of one load that a case asks for.

    Launches in which something was injected are left out.
    """
    found: dict[Key, Series] = defaultdict(Series)
    for run in runs:
        reader = RunReader(run)
        for case in {
            case.id: case for case in run.cases if case.denominator is None
        }.values():
            if reader.injected(case) or case.numerator.server.build:
                continue
            label = hardware_label(run.hardware, case)
            series = found[
                label, case.numerator.server.key, case.workload, case.metric
            ]
            values = values_of(reader.index.samples(case))
            series.points += [(run.run_id, value) for value in values]
            if case.numerator.workload is None:
                series.repetitions += [(value,) for value in values]
            else:
                repetitions = reader.index.repetition_values(
                    case.numerator.server.key, case.workload, case.metric
                )
                for own in repetitions.values():
                    positive = tuple(value for value in own if value > 0)
                    series.repetitions.append(positive)
            if run.hardware.machine_id:
                series.machines[run.run_id] = run.hardware.machine_id
    return {key: series for key, series in found.items() if series.points}


def of_store(store: Store, hardware: str) -> dict[Key, Series]:
    """Every recorded metric of one load on that hardware."""
    found: dict[Key, Series] = {}
    for path in sorted((store.root / hardware).glob("*/*.json")):
        file = store.file(path)
        if file is None or "--over--" in f"{path.parent.name}/{path.stem}":
            continue
        for name, metric in file.metrics.items():
            points = [(point.run, point.value) for point in metric.launches]
            found[hardware, path.parent.name, path.stem, name] = Series(
                points, machines=file.machines
            )
    return found


def with_runs(
    recorded: Mapping[Key, Series], measured: Mapping[Key, Series]
) -> dict[Key, Series]:
    """Recorded launches with the repetitions and machines of run directories."""
    return {
        key: Series(
            series.points,
            measured[key].repetitions if key in measured else [],
            series.machines
            | (measured[key].machines if key in measured else {}),
        )
        for key, series in recorded.items()
    }


def rows(
    found: Mapping[Key, Series], patterns: Sequence[str] = ()
) -> list[Row]:
    """The noise of each metric.

    Args:
        patterns: of SERVER/WORKLOAD/METRIC; one of them must match. Empty takes all.

    Raises:
        NoNoise: nothing was read, or nothing matches.
    """
    made = [
        _row(key, series)
        for key, series in sorted(found.items())
        if _wanted(key, patterns)
    ]
    if not made:
        raise NoNoise(
            tried="reading the launch-to-launch variation",
            seen=f"{len(found)} metrics were read, none of them matches"
            if found
            else "no launch was read",
            remedy="name run directories, or a store and the hardware's folder in it by --hardware",
        )
    return made


def _wanted(key: Key, patterns: Sequence[str]) -> bool:
    return not patterns or any(
        fnmatch.fnmatchcase("/".join(key[1:]), pattern) for pattern in patterns
    )


def _row(key: Key, series: Series) -> Row:
    hardware, server, workload, name = key
    metric = METRICS[name]
    values, runs = (
        [value for _, value in series.points],
        [run for run, _ in series.points],
    )
    noise = noise_of(values, runs, policy_for(hardware, name, ratio=False))
    higher = metric.better == "higher"
    several = [own for own in series.repetitions if len(own) > 1]
    # Pooled over launches, each weighted by its degrees of freedom.
    freedom = sum(len(own) - 1 for own in several)
    within = sum(
        (len(own) - 1) * coefficient_of_variation(own) ** 2 for own in several
    )
    by_machine: dict[str, list[float]] = defaultdict(list)
    for run, value in series.points:
        if run in series.machines:
            by_machine[series.machines[run]].append(value)
    return Row(
        hardware=hardware,
        server=server,
        workload=workload,
        metric=name,
        unit=metric.unit,
        value=noise.reference,
        launches=len(values),
        runs=len(set(runs)),
        launch_cv=coefficient_of_variation(values) if len(values) > 1 else None,
        repetition_cv=math.sqrt(within / freedom) if freedom else None,
        repetitions=round(statistics.median(map(len, series.repetitions)))
        if series.repetitions
        else 0,
        detectable_one_launch=noise.mde(higher, 1),
        detectable_three_launches=noise.mde(higher, 3),
        established=noise.established,
        run_medians=tuple(
            statistics.median(
                value for run, value in series.points if run == one
            )
            for one in sorted(set(runs))
        ),
        machines={
            machine: statistics.median(own)
            for machine, own in sorted(by_machine.items())
        },
    )


def markdown(table: Sequence[Row]) -> str:
    """One row for each metric, then the machines, where there are several."""
    lines = [
        "| hardware | server | workload | metric | value | launches of runs | CV "
        "between launches | within "
        "| detectable, one launch | three |",
        "|---|---|---|---|--:|---|--:|--:|--:|--:|",
    ]
    for row in table:
        status = "" if row.established else " (provisional)"
        cells = [
            row.hardware,
            row.server,
            row.workload,
            row.metric,
            wording.number(row.value, row.unit),
        ]
        cells += [
            f"{row.launches} of {row.runs}",
            _percent(row.launch_cv),
            _percent(row.repetition_cv),
        ]
        cells += [
            f"{wording.percent(row.detectable_one_launch)}{status}",
            wording.percent(row.detectable_three_launches),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    several = [row for row in table if len(row.machines) > 1]
    if not several:
        known = {machine for row in table for machine in row.machines}
        reason = (
            f"all launches whose machine is known were on {', '.join(known)}"
            if known
            else "no machine is known"
        )
        return "\n".join(
            [
                *lines,
                "",
                f"Between machines the variation cannot be told: {reason}.",
            ]
        )
    machines = sorted({machine for row in several for machine in row.machines})
    lines += [
        "",
        "| server | workload | metric | "
        + " | ".join(machines)
        + " | CV between machines |",
    ]
    lines.append("|---|---|---|" + "--:|" * (len(machines) + 1))
    for row in several:
        cells = [
            wording.number(row.machines[name], row.unit)
            if name in row.machines
            else "-"
            for name in machines
        ]
        cells = [
            row.server,
            row.workload,
            row.metric,
            *cells,
            _percent(coefficient_of_variation(row.machines.values())),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _percent(fraction: float | None) -> str:
    return "-" if fraction is None else f"{100 * fraction:.2f} %"


def read(path: Path) -> Table:
    """What --json wrote.

    Raises:
        NoNoise: it cannot be read; the field is named.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=Table)
    except (OSError, msgspec.DecodeError) as error:
        raise NoNoise(
            tried=f"reading the noise in {path}",
            seen=str(error),
            remedy="write it by `python -m benchmarks.noise RUN ... --json FILE`",
        ) from error


@click.command()
@click.argument("runs", nargs=-1, type=click.Path(path_type=Path, exists=True))
@click.option(
    "--baselines",
    type=click.Path(path_type=Path),
    default=Path("baselines"),
    show_default=True,
)
@click.option(
    "--hardware",
    help="Take launches from this folder of the store, such as h200x1.",
)
@click.option(
    "--only",
    multiple=True,
    metavar="PATTERN",
    help="Of SERVER/WORKLOAD/METRIC, such as '*/closed-c32/*'.",
)
@click.option(
    "--json",
    "json_path",
    type=click.Path(path_type=Path),
    help="Write the table here as well.",
)
def main(
    runs: tuple[Path, ...],
    baselines: Path,
    hardware: str | None,
    only: tuple[str, ...],
    json_path: Path | None,
) -> None:
    """Show the variation (CV) of launches and repetitions."""
    try:
        measured = of_runs(rundata.load(path) for path in runs)
        found = (
            with_runs(of_store(Store(baselines), hardware), measured)
            if hardware
            else measured
        )
        made = rows(found, only)
    except Failure as failure:
        raise click.ClickException(str(failure)) from failure
    click.echo(markdown(made))
    if json_path is not None:
        rundata.write_atomically(
            json_path, rundata.to_json(Table(rows=tuple(made)))
        )


if __name__ == "__main__":
    main()
