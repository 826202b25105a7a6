"""Recorded launches: every unchanged launch of the stored GPU runs, one row for each metric.

    python -m benchmarks.recorded_launches            # launches by hardware and machine
    python -m benchmarks.recorded_launches --json launches.json

A launch counts with the median of its valid repetitions, as in a judgement. Servers in
which something was injected are left out, so that of a paired run with a planted delay
the base build remains. So are times that a neighbour on the host may have made longer.
"""

from __future__ import annotations

import functools
import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import click
import msgspec

from perfgate.cases import Case, Load
from perfgate.errors import Failure
from perfgate.judge import neighbours
from perfgate.judge.observation import Observation, RunReader
from perfgate.load.metrics import METRICS
from perfgate.load.workload import Arrivals
from perfgate.results import schema as rundata
from perfgate.results.schema import RunResults

RUNS = Path("docs/runs")
Key = tuple[str, str, str, str, str]


class NoLaunches(Failure):
    """No unchanged launch lies below a folder."""


class Row(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """One metric of one workload on one launch.

    Attributes:
        hardware: label of the baselines, such as "h200x2".
        machine: which one of its kind, by its GPUs; "" where that is unknown.
        server: key of its configuration; a base build has that of its candidate.
        configuration: digest of what must be equal for two values to be compared.
        value: median of the valid repetitions, in the metric's unit.
        repetitions: the metric of each valid repetition, in order.
        started_unix_s: when the server was launched.
    """

    hardware: str
    machine: str
    run: str
    launch: int
    server: str
    workload: str
    arrivals: Arrivals
    metric: str
    configuration: str
    value: float
    repetitions: tuple[float, ...]
    started_unix_s: float

    @property
    def series(self) -> Key:
        """What all launches of one series share, whatever machine they were on."""
        return (
            self.hardware,
            self.server,
            self.workload,
            self.metric,
            self.configuration,
        )

    @property
    def name(self) -> str:
        """HARDWARE/SERVER/WORKLOAD/METRIC."""
        return "/".join(self.series[:4])


def read_all(folder: Path = RUNS) -> list[Row]:
    """The rows of every run below a folder, in order of time.

    Raises:
        NoLaunches: there is none.
    """
    rows: list[Row] = []
    run_dirs = {
        file.parent for file in folder.rglob(f"{rundata.RESULTS_FILE}*")
    }
    for run_dir in sorted(run_dirs):
        rows += rows_of(rundata.load(run_dir))
    if not rows:
        raise NoLaunches(
            tried=f"reading the recorded launches below {folder}",
            seen="no unchanged launch of a GPU is there",
            remedy="name a folder of run directories, such as docs/runs",
        )
    return sorted(rows, key=_by_time)


def _by_time(row: Row) -> tuple[float, str, int]:
    return row.started_unix_s, row.run, row.launch


def rows_of(results: RunResults) -> Iterator[Row]:
    """The rows of one run: every metric of every load on GPUs without injection."""
    reader = RunReader(results)
    for server, workload in reader.index.loads:
        metrics = _measured(reader, server, workload)
        for metric in sorted(metrics):
            case = _case(results, server, workload, metric)
            if case.numerator.server.gpu_count and not reader.injected(case):
                yield from _rows_of_case(reader, case)


def _measured(reader: RunReader, server: str, workload: str) -> set[str]:
    """Names of the known metrics that its repetitions have."""
    names: set[str] = set()
    for repetition in reader.index.repetitions(server, workload):
        names |= repetition.values.keys()
    return names & METRICS.keys()


def _case(results: RunResults, server: str, workload: str, metric: str) -> Case:
    load = Load(
        server=results.servers[server].config,
        workload=results.workloads[workload],
    )
    return Case(experiment="-", metric=metric, numerator=load)


def _rows_of_case(reader: RunReader, case: Case) -> Iterator[Row]:
    server, workload = case.numerator.server, case.numerator.workload
    assert workload is not None
    observation = reader.observe(case)
    repetitions = reader.index.repetition_values(
        server.key, workload.name, case.metric
    )
    starts = {}
    for launch in reader.index.launches(server.key):
        starts[launch.index] = launch.start.started_unix_s
    key = msgspec.structs.replace(server, build="").key
    shared = neighbours.shares_of(case, reader)
    for sample in observation.samples:
        if sample.value is None or (server.key, sample.launch) in shared:
            continue
        yield Row(
            hardware=observation.hardware_label,
            machine=observation.machine or "",
            run=sample.run,
            launch=sample.launch,
            server=key,
            workload=workload.name,
            arrivals=workload.arrivals,
            metric=case.metric,
            configuration=configuration(observation),
            value=sample.value,
            repetitions=tuple(repetitions[sample.launch]),
            started_unix_s=starts[sample.launch],
        )


def configuration(observation: Observation) -> str:
    """A digest of the identity of what was measured."""
    return _digest(tuple(sorted(observation.identity.items())))


@functools.lru_cache(maxsize=1024)
def _digest(fields: tuple[tuple[str, str], ...]) -> str:
    return hashlib.sha256(repr(fields).encode()).hexdigest()[:8]


def by_series(rows: Iterable[Row]) -> dict[Key, list[Row]]:
    """Series -> its rows, in the order in which they come."""
    series: dict[Key, list[Row]] = defaultdict(list)
    for row in rows:
        series[row.series].append(row)
    return dict(series)


def by_machine(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Machine -> its rows, in the order in which they come."""
    machines: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        machines[row.machine].append(row)
    return dict(machines)


def markdown(rows: Sequence[Row]) -> str:
    """Launches, runs and values by hardware and machine."""
    launches: dict[tuple[str, str], set[tuple[str, str, int]]]
    launches = defaultdict(set)
    values: dict[tuple[str, str], int] = defaultdict(int)
    for row in rows:
        place = row.hardware, row.machine
        launches[place].add((row.run, row.server, row.launch))
        values[place] += 1
    lines = [
        "| hardware | machine | runs | launches | values |",
        "|---|---|--:|--:|--:|",
    ]
    for place in sorted(launches):
        runs = {run for run, _, _ in launches[place]}
        lines.append(
            f"| {place[0]} | {place[1]} | {len(runs)} | {len(launches[place])} "
            f"| {values[place]} |"
        )
    return "\n".join(lines)


@click.command()
@click.argument(
    "folder",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    default=RUNS,
)
@click.option(
    "--json",
    "json_path",
    type=click.Path(path_type=Path),
    help="Write the rows here as well.",
)
def main(folder: Path, json_path: Path | None) -> None:
    """Show which launches are recorded below FOLDER."""
    try:
        rows = read_all(folder)
    except Failure as failure:
        raise click.ClickException(str(failure)) from failure
    click.echo(markdown(rows))
    if json_path is not None:
        json_path.write_text(rundata.to_json(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
