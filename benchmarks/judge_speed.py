"""Time that judging a large run takes.

    python -m benchmarks.judge_speed  # 1,000 cases, 10 recorded launches, 10 launches now

Made up and seeded; the recorded launches are of three machines, and the store has a
noise table. Reading the run is part of it, reading the baselines too: what `perfgate
judge RUN` does. Seconds are those of one core, so that a busy machine tells the same.
"""

from __future__ import annotations

import argparse
import datetime
import random
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import click

from perfgate.accept import accept as recording
from perfgate.accept.choice import Choice
from perfgate.cases import Case, Load
from perfgate.engines.base import ServerConfig
from perfgate.judge import noise_learning, noise_table
from perfgate.judge.baseline_store import Store
from perfgate.judge.gate import judge_run
from perfgate.judge.groups import judge_groups
from perfgate.load.repetition import Repetition
from perfgate.load.workload import Workload
from perfgate.machine.hardware import Gpu, Hardware
from perfgate.results import schema as rundata
from perfgate.results.schema import Launch, Measurement, RunResults, Server
from perfgate.servers.launch_record import LaunchRecord

SEED = 20260412
SERVERS, WORKLOADS, MACHINES = 10, 10, 3
TIMES = (
    "itl_median_ms",
    "tpot_median_ms",
    "ttft_median_ms",
    "e2el_median_ms",
    "itl_p99_ms",
)
RATES = (
    "output_throughput",
    "request_throughput",
    "total_token_throughput",
    "itl_mean_ms",
    "e2el_p99_ms",
)


@dataclass(frozen=True)
class Timing:
    """Seconds of one core that judging a run took, and its outcomes.

    Attributes:
        grouped_s: for the verdicts over several rows, after those on each.
    """

    read_s: float
    judged_s: float
    grouped_s: float
    outcomes: Counter[str]


def made_up(
    run_id: str,
    launches: int,
    random_: random.Random,
    servers_count: int = SERVERS,
    machine: int = 0,
) -> RunResults:
    """A run of some servers x 10 workloads x 10 metrics.

    Noise is 1 % between launches and 0.5 % within them.
    """
    servers = [
        ServerConfig(engine="vllm", model=f"model-{n}", device="cuda")
        for n in range(servers_count)
    ]
    workloads = [
        Workload(name=f"closed-{n}", num_prompts=8 * (n + 1), max_concurrency=8)
        for n in range(WORKLOADS)
    ]
    loads = [
        Load(server=server, workload=workload)
        for server in servers
        for workload in workloads
    ]
    gpu = Gpu(
        index=0,
        uuid=f"GPU-{machine}",
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
    return RunResults(
        run_id=run_id,
        suite_version="0",
        command=("made up",),
        started="2026-01-01T00:00:00+00:00",
        complete=True,
        hardware=hardware,
        servers={
            server.key: Server(config=server, python="3", versions={})
            for server in servers
        },
        workloads={workload.name: workload for workload in workloads},
        launches=tuple(
            Launch(server=server.key, index=n, start=started(server, n))
            for server in servers
            for n in range(launches)
        ),
        measurements=tuple(
            Measurement(
                server=load.server.key,
                launch=n,
                workload=load.workload_name,
                repetitions=repetitions(random_),
            )
            for load in loads
            for n in range(launches)
        ),
        cases=tuple(
            Case(experiment="E1", metric=name, numerator=load)
            for load in loads
            for name in (*TIMES, *RATES)
        ),
    )


def started(server: ServerConfig, index: int) -> LaunchRecord:
    """A launch as it is written down."""
    return LaunchRecord(
        key=server.key,
        session_index=index,
        argv=("engine",),
        env={},
        pid=1,
        log="logs/x.log",
        started_unix_s=0.0,
        ready_s=1.0,
    )


def repetitions(random_: random.Random) -> tuple[Repetition, ...]:
    """Three repetitions of one launch."""
    launch = random_.gauss(0.0, 0.01)
    return tuple(
        Repetition(
            index=n,
            started_unix_s=0.0,
            duration_s=1.0,
            completed=1,
            failed=0,
            input_tokens=1,
            output_tokens=1,
            values={
                name: 100.0 * (1 + launch + random_.gauss(0.0, 0.005))
                for name in (*TIMES, *RATES)
            },
            invalid=(),
            notes=(),
            server_values={},
            client_values={},
            requests=(),
        )
        for n in range(3)
    )


def timing(launches: int, servers_count: int = SERVERS) -> Timing:
    """Record, write, read and judge; the seconds of the last two.

    Args:
        launches: recorded, and again of the run that is judged.
        servers_count: each has a hundred cases.
    """
    random_ = random.Random(SEED)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = Store(folder / "baselines")
        runs = []
        for day in range(launches):
            runs.append(folder / f"run-{day}")
            run_id = f"202601{day + 1:02}-000000-1"
            machine = day % MACHINES
            recorded = made_up(run_id, 1, random_, servers_count, machine)
            rundata.save(recorded, runs[-1])
        choice = Choice(target_effect=0.2, reason="made up")
        recording.accept(runs, store, choice, env={})
        table = noise_learning.learn(store.series(), "2026-02-01")
        noise_table.write(store.root / noise_table.FILE, table)
        current = made_up("20260201-000000-1", launches, random_, servers_count)
        rundata.save(current, folder / "now")
        return _judged(folder / "now", store.root)


def _judged(run_dir: Path, baselines: Path) -> Timing:
    began = time.process_time()
    results = rundata.load(run_dir)
    read = time.process_time()
    store = Store(baselines)
    decisions = judge_run(results, store, datetime.date(2026, 2, 1))
    judged = time.process_time()
    judge_groups(results, store, decisions)
    grouped = time.process_time()
    outcomes = Counter(decision.outcome.value for decision in decisions)
    return Timing(read - began, judged - read, grouped - judged, outcomes)


def main() -> None:
    """Print the seconds of each part."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--launches",
        type=int,
        default=10,
        help="recorded, and again of the run that is judged",
    )
    launches = parser.parse_args().launches
    result = timing(launches)
    click.echo(
        f"{result.outcomes.total()} cases, {launches} recorded launches each, "
        f"{launches} launches now: {dict(result.outcomes)}"
    )
    click.echo(
        f"reading the run {result.read_s:.2f} s, judging with the baselines "
        f"{result.judged_s:.2f} s, and rows together {result.grouped_s:.2f} s"
    )


if __name__ == "__main__":
    main()
