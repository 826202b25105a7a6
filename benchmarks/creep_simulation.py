"""Creep: how far a loss of a little each week gets before it is stopped.

    python -m benchmarks.creep_simulation               # table of docs/error-rates.md: minutes
    python -m benchmarks.creep_simulation --scale 0.05  # seconds, coarse

A run each week is judged by `perfgate.judge.gate.judge`. Where it is green,
`perfgate.accept.accept.accept` adds it to the baselines, until one of them refuses. The
code is the product's, with run folders and a baseline store. Seeded.
"""

from __future__ import annotations

import datetime
import math
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import click
import numpy as np

from benchmarks.gate_simulation import row
from perfgate.accept.accept import accept
from perfgate.accept.choice import Choice
from perfgate.accept.refusals import RecordingRefused
from perfgate.cases import Case, Load
from perfgate.engines.base import ServerConfig
from perfgate.judge.baseline_store import Store
from perfgate.judge.gate import judge
from perfgate.judge.observation import RunReader
from perfgate.judge.verdict import Decision, is_red
from perfgate.load.repetition import Repetition
from perfgate.load.workload import Workload
from perfgate.machine.hardware import Gpu, Hardware
from perfgate.results import schema as rundata
from perfgate.results.schema import Launch, Measurement, RunResults, Server
from perfgate.servers.launch_record import LaunchRecord

SEED = 20261128
WEEKS = 52
YEARS = 50  # simulated for each row
LAUNCH_CV = 0.003
BETWEEN_CV = 0.012  # machines
CREEPS = (0.0, 0.003, 0.005, 0.01)  # a week
FIRST_DAY = datetime.date(2026, 1, 5)
THROUGHPUT = 1000.0

SERVER = ServerConfig(engine="vllm", model="llama", device="cuda")
WORKLOAD = Workload(name="closed-c32", num_prompts=256, max_concurrency=32)
LOAD = Load(server=SERVER, workload=WORKLOAD)
CASE = Case(experiment="E1", metric="output_throughput", numerator=LOAD)

Stopped = Literal["gate", "accept", "never"]


@dataclass(frozen=True)
class Start:
    """What is recorded before the first week.

    Attributes:
        machines: how many have launches. launches: of each, a run for each.
        used: index of the machine of the weekly runs; None takes any of them.
    """

    name: str
    machines: int
    launches: int
    used: int | None = 0


STARTS = (
    Start("six launches of this machine", 1, 6),
    Start("one launch of this machine", 1, 1),
    Start("six launches each of this and three other machines", 4, 6),
    Start("six launches each of three other machines", 3, 6, used=3),
    Start("six launches each of four machines, used at random", 4, 6, None),
)


@dataclass(frozen=True)
class Year:
    """How a year ended.

    Attributes:
        loss: by how much it was worse in the last week, as a fraction.
    """

    stopped: Stopped
    week: int
    loss: float


class Team:
    """A team that runs the gate every week and accepts what is green.

    Attributes:
        folder: of runs and baselines.
    """

    def __init__(
        self, folder: Path, rng: np.random.Generator, launch_cv: float
    ) -> None:
        self.folder = folder
        self.store = Store(folder / "baselines")
        self._rng = rng
        self._launch_cv = launch_cv
        self._levels = rng.normal(0, BETWEEN_CV, 8)
        self._days = 0

    def year(self, start: Start, creep: float) -> Year:
        """Weeks until the first that is not accepted."""
        self._record(start)
        machines = start.machines
        for week in range(1, WEEKS + 1):
            machine = start.used
            if machine is None:
                machine = int(self._rng.integers(machines))
            lost = -math.log1p(-creep) * week
            loss = -math.expm1(-lost)
            results, decision = self._judged(machine, lost)
            if is_red(decision.outcome, decision.gate, "advisory"):
                return Year("gate", week, loss)
            if not self._is_accepted(results):
                return Year("accept", week, loss)
        return Year("never", WEEKS, loss)

    def _record(self, start: Start) -> None:
        folders = []
        for _ in range(start.launches):
            for machine in range(start.machines):
                results = self._run(machine, self._launches(1, 0.0))
                folders.append(self._saved(results))
        accept(folders, self.store, Choice(), env={})

    def _judged(self, machine: int, lost: float) -> tuple[RunResults, Decision]:
        """One launch, and two more where the gate asks for them."""
        values = self._launches(3, lost)
        results = self._run(machine, values[:1])
        decision = self._decision(results)
        if decision.needs_launches:
            results = self._run(machine, values)
            decision = self._decision(results)
        self._days += 6
        return results, decision

    def _decision(self, results: RunResults) -> Decision:
        observation = RunReader(results).observe(CASE)
        baseline = self.store.find(CASE, observation.hardware_label)
        return judge(CASE, observation, baseline)

    def _is_accepted(self, results: RunResults) -> bool:
        try:
            accept([self._saved(results)], self.store, Choice(), env={})
        except RecordingRefused:
            return False
        return True

    def _launches(self, count: int, lost: float) -> list[float]:
        logs = self._rng.normal(-lost, self._launch_cv, count)
        return [float(log) for log in logs]

    def _run(self, machine: int, logs: list[float]) -> RunResults:
        self._days += 1
        day = FIRST_DAY + datetime.timedelta(self._days)
        level = math.log(THROUGHPUT) + float(self._levels[machine])
        values = [math.exp(level + log) for log in logs]
        return run_of(f"{day:%Y%m%d}-120000-1", f"GPU-{machine}", values)

    def _saved(self, results: RunResults) -> Path:
        folder = self.folder / results.run_id
        rundata.save(results, folder)
        return folder


def run_of(run_id: str, uuid: str, values: list[float]) -> RunResults:
    """A run with a launch for each throughput, on the GPU of that UUID."""
    gpu = Gpu(
        index=0,
        uuid=uuid,
        name="NVIDIA H200",
        memory_total_bytes=1,
        mig=False,
        power_limit_w=None,
    )
    hardware = Hardware(
        kind="h200",
        name="NVIDIA H200",
        count=1,
        memory_bytes=1,
        isa="avx512",
        host_memory_bytes=1,
        gpus=(gpu,),
    )
    launches = []
    measurements = []
    for index, value in enumerate(values):
        launches.append(launch_of(index))
        measurements.append(measurement_of(index, value))
    server = Server(config=SERVER, python="3", versions={})
    return RunResults(
        run_id=run_id,
        suite_version="0",
        command=("simulated",),
        started="2026-01-01T00:00:00+00:00",
        complete=True,
        hardware=hardware,
        servers={SERVER.key: server},
        workloads={WORKLOAD.name: WORKLOAD},
        launches=tuple(launches),
        measurements=tuple(measurements),
        cases=(CASE,),
    )


def launch_of(index: int) -> Launch:
    """A launch that went well."""
    start = LaunchRecord(
        key=SERVER.key,
        session_index=index,
        argv=("engine",),
        env={},
        pid=1,
        log="logs/x.log",
        started_unix_s=0.0,
        ready_s=1.0,
    )
    return Launch(server=SERVER.key, index=index, start=start)


def measurement_of(index: int, throughput: float) -> Measurement:
    """One repetition, whose value is the launch's."""
    repetition = Repetition(
        index=0,
        started_unix_s=0.0,
        duration_s=1.0,
        completed=1,
        failed=0,
        input_tokens=1,
        output_tokens=1,
        values={CASE.metric: throughput},
        invalid=(),
        notes=(),
        server_values={},
        client_values={},
        requests=(),
    )
    return Measurement(
        server=SERVER.key,
        launch=index,
        workload=WORKLOAD.name,
        repetitions=(repetition,),
    )


def years_of(
    start: Start, creep: float, count: int, launch_cv: float = LAUNCH_CV
) -> list[Year]:
    """Simulated years."""
    years = []
    for number in range(count):
        rng = np.random.default_rng([SEED, number])
        with tempfile.TemporaryDirectory() as folder:
            team = Team(Path(folder), rng, launch_cv)
            years.append(team.year(start, creep))
    return years


def table(count: int, launch_cv: float) -> Iterator[str]:
    """Markdown: by how much it was worse when it was stopped, and by what."""
    yield row(["recorded", "a week", "stopped at", "range", "gate", "accept"])
    yield row(["---", "--:", "--:", "--:", "--:", "--:"])
    for start in STARTS:
        name = start.name
        for creep in CREEPS:
            years = years_of(start, creep, count, launch_cv)
            yield row([name, f"{100 * creep:g} %", *cells_of(years)])
            name = ""


def cells_of(years: list[Year]) -> list[str]:
    """Median and range of the loss, and the share of years that each check ended, in %."""
    losses = [100 * year.loss for year in years]
    cells = ["-", "-"]
    if any(losses):
        cells = [
            f"{np.median(losses):.1f} %",
            f"{min(losses):.1f} to {max(losses):.1f} %",
        ]
    for check in ("gate", "accept"):
        stopped = [year for year in years if year.stopped == check]
        cells.append(f"{100 * len(stopped) / len(years):.3g}")
    return cells


@click.command()
@click.option(
    "--scale", default=1.0, show_default=True, help="Fewer or more years."
)
@click.option(
    "--launch",
    "launch_cv",
    default=LAUNCH_CV,
    show_default=True,
    help="How much launches of one machine differ (CV).",
)
def main(scale: float, launch_cv: float) -> None:
    """Show by how much a creeping loss was worse when it was stopped."""
    count = max(2, round(YEARS * scale))
    for line in table(count, launch_cv):
        click.echo(line)


if __name__ == "__main__":
    main()
