"""What a fleet's driver costs at a thousand hosts: processor time, memory, disk, and merge.

    python -m benchmarks.fleet_scale               # the table of docs/fleet.md: minutes
    python -m benchmarks.fleet_scale --hosts 50 --launches 500

The driver, its events, the copies of results and the merge are those of a real run. The
hosts are simulated: each launch answers with the results of a stored session.
"""

from __future__ import annotations

import resource
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import msgspec

import perfgate
from benchmarks.gate_simulation import row
from perfgate.cases import Case, Load
from perfgate.engines.base import ServerConfig
from perfgate.fleet import machines
from perfgate.fleet import state as states
from perfgate.fleet.cluster import Heard, Host, News, Request
from perfgate.fleet.driver import Driver
from perfgate.fleet.orders import Check, Ended, Kept, Listed, Measure, Piece
from perfgate.fleet.roster import Job, Roster
from perfgate.fleet.screen import Screen
from perfgate.fleet.state import Begun, EventFile
from perfgate.load.repetition import Repetition
from perfgate.load.workload import Workload
from perfgate.machine.gpu import Gpu
from perfgate.machine.hardware import Hardware
from perfgate.results import schema
from perfgate.results.schema import Launch, Measurement, RunResults, Server
from perfgate.run.units import Unit, UnitList
from perfgate.servers.launch_record import LaunchRecord

UNITS = 40  # twenty pairs on two engines
LOADS = 6
REPETITIONS = 5
METRICS = 40  # of each repetition
AT_ONCE = 100  # hosts that answer in one turn


def results_of(host: str, server: str) -> RunResults:
    """A session with one launch under six loads, as a host measures it."""
    config = ServerConfig(engine="vllm", model=server, tensor_parallel_size=1)
    names = [f"closed-c{2**number}" for number in range(LOADS)]
    workloads = {
        name: Workload(name=name, num_prompts=256, max_concurrency=32)
        for name in names
    }
    cases = []
    measurements = []
    for name, workload in workloads.items():
        load = Load(server=config, workload=workload)
        cases.append(
            Case(experiment="E1", metric="output_throughput", numerator=load)
        )
        measurements.append(
            Measurement(
                server=config.key,
                launch=0,
                workload=name,
                repetitions=tuple(map(_repetition, range(REPETITIONS))),
            )
        )
    return RunResults(
        run_id="20261129-000000-1",
        suite_version=perfgate.__version__,
        command=("pytest",),
        started="2026-11-29T00:00:00",
        complete=True,
        hardware=_hardware(host),
        servers={config.key: Server(config=config, python="py", versions={})},
        workloads=workloads,
        launches=(_launch(config.key),),
        measurements=tuple(measurements),
        cases=tuple(cases),
    )


def _launch(key: str) -> Launch:
    start = LaunchRecord(
        key=key,
        session_index=0,
        argv=("engine",),
        env={},
        pid=1,
        log="logs/0.log",
        started_unix_s=1.8e9,
        ready_s=50.0,
    )
    return Launch(server=key, index=0, start=start)


def _repetition(index: int) -> Repetition:
    values = {f"metric_{number}": 1000.0 + number for number in range(METRICS)}
    return Repetition(
        index=index,
        started_unix_s=1.8e9,
        duration_s=4.0,
        completed=256,
        failed=0,
        input_tokens=32768,
        output_tokens=32768,
        values=values | {"output_throughput": 1000.0},
        invalid=(),
        notes=(),
        server_values={},
        client_values={},
        requests=(),
    )


def _hardware(host: str) -> Hardware:
    gpu = Gpu(
        index=0,
        uuid=f"GPU-{host}",
        name="NVIDIA H200",
        memory_total_bytes=150 * 10**9,
        mig=False,
        power_limit_w=700.0,
    )
    return Hardware(
        kind="h200",
        name="NVIDIA H200",
        count=1,
        memory_bytes=150 * 10**9,
        isa="avx512",
        host_memory_bytes=10**12,
        gpus=(gpu,),
    )


class SimulatedCluster:
    """Hosts that answer at once, a hundred in each turn."""

    def __init__(self, count: int, units: Sequence[Unit]) -> None:
        self._hosts = []
        for number in range(count):
            name = f"host-{number:04d}"
            self._hosts.append(Host(id=name, name=name, gpus=1, cpus=8))
        self._units = tuple(units)
        self._requests: list[Request] = []
        self.turns = 0

    def hosts(self) -> list[Host]:
        """All of them."""
        return self._hosts

    def submit(self, request: Request) -> None:
        """Answered in one of the next turns."""
        self._requests.append(request)

    def wait(self, timeout_s: float) -> list[News]:
        """The answers of the next hundred requests."""
        self.turns += 1
        now, self._requests = (
            self._requests[:AT_ONCE],
            self._requests[AT_ONCE:],
        )
        news: list[News] = []
        for request in now:
            for message in self._answers(request):
                news.append(Heard(request.key, message))
        return news

    def cancel(self, key: str) -> None:
        """Nothing runs for long."""

    def close(self) -> None:
        """Nothing is left."""

    def _answers(
        self, request: Request
    ) -> Iterator[Piece | Listed | Kept | Ended]:
        if isinstance(request.order, Check):
            listed = UnitList(
                version=perfgate.__version__,
                kind="h200",
                machine="1x NVIDIA H200",
                units=self._units,
            )
            yield Listed(content=msgspec.json.encode(listed))
        elif isinstance(request.order, Measure):
            server = request.order.unit.partition(":")[2]
            results = results_of(request.host.name, server)
            content = schema.encode(results)
            yield Piece(path=schema.RESULTS_FILE, offset=0, content=content)
        else:
            yield Kept(folders={})
        yield Ended(status=0)


@dataclass(frozen=True)
class Cost:
    """What one fleet's run cost its driver.

    Attributes:
        drive_s, merge_s: processor time of this process.
        parts_mb, events_mb, machines_mb: on the disk.
        memory_mb: the most that the process had so far.
    """

    hosts: int
    launches: int
    drive_s: float
    merge_s: float
    parts_mb: float
    events_mb: float
    machines_mb: float
    memory_mb: float


def measured(hosts: int, launches: int) -> Cost:
    """Drive and merge a simulated fleet's run in a folder that is removed."""
    folder = Path(tempfile.mkdtemp(prefix="fleet-scale-"))
    try:
        return _measured(folder, hosts, launches)
    finally:
        shutil.rmtree(folder)


def _measured(folder: Path, hosts: int, launches: int) -> Cost:
    units = []
    for number in range(UNITS):
        name = f"gpu:llama-{number:02d}"
        units.append(Unit(name=name, servers=(name,), cases=LOADS, gpu_count=1))
    begun = Begun(
        fleet="f1",
        arguments=("-m", "gpu"),
        launches=max(1, launches // UNITS),
        units=tuple(units),
        unix_s=0.0,
    )
    EventFile(folder).append(begun)
    state = states.folded([begun])
    cluster = SimulatedCluster(hosts, units)
    screen = Screen(lambda text: None, rewritable=True)
    roster = Roster(cluster, Job(("-m", "gpu"), "/p"), lambda line: None)
    began_s = time.process_time()
    state = Driver(folder, state, cluster, roster, screen).run()
    drive_s = time.process_time() - began_s
    if state.open:
        raise RuntimeError(f"{len(state.open)} launches were not measured")
    began_s = time.process_time()
    for machine in machines.of_run(folder, state):
        machines.save(folder, machine)
    merge_s = time.process_time() - began_s
    return Cost(
        hosts=hosts,
        launches=len(state.tasks),
        drive_s=drive_s,
        merge_s=merge_s,
        parts_mb=_mb(folder / states.PARTS),
        events_mb=_mb(folder / states.FILE),
        machines_mb=_mb(folder / states.MACHINES),
        memory_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    )


def _mb(path: Path) -> float:
    if path.is_file():
        return path.stat().st_size / 1e6
    sizes = [file.stat().st_size for file in path.rglob("*") if file.is_file()]
    return sum(sizes) / 1e6


def table(costs: Sequence[Cost]) -> Iterator[str]:
    """Markdown, a row for each size."""
    cells = ["hosts", "launches", "driving (CPU s)", "merging (CPU s)"]
    cells += ["events (MB)", "parts (MB)", "machines (MB)", "memory (MB)"]
    yield row(cells)
    yield row("--:" for _ in cells)
    for cost in costs:
        yield row(
            [
                cost.hosts,
                cost.launches,
                f"{cost.drive_s:.1f}",
                f"{cost.merge_s:.1f}",
                f"{cost.events_mb:.1f}",
                f"{cost.parts_mb:.0f}",
                f"{cost.machines_mb:.0f}",
                f"{cost.memory_mb:.0f}",
            ]
        )


@click.command()
@click.option("--hosts", default=1000, show_default=True)
@click.option("--launches", default=10_000, show_default=True)
def main(hosts: int, launches: int) -> None:
    """Show the cost of a fleet's run at a tenth, at a third, and at full size."""
    costs = []
    for share in (10, 3, 1):
        costs.append(measured(max(1, hosts // share), launches // share))
    for text in table(costs):
        click.echo(text)


if __name__ == "__main__":
    main()
