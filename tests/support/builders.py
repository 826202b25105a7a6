"""Builders of what the suite measures, records and judges, for tests.

* What a client saw, in ms: `transcript`, `recording`, `steady_streams`, `stalled`.
* Rows of a run: `repetition`, `measurement`, `launched`; a run of those: `bare_run`.
* A whole run from the values that its launches are to have: `run`; stored: `saved`.
* What is judged and what against: `seen` (an observation), `recorded` (a baseline).
* Of servers (MOE, DENSE; MOE_CPU, DENSE_CPU), workloads, cases, on `hardware`.
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from perfgate.cases import Case, Load
from perfgate.engines.base import ServerConfig
from perfgate.errors import FailureRow
from perfgate.judge.baseline_schema import MetricBaseline
from perfgate.judge.baseline_store import Recorded
from perfgate.judge.measured_case import metric_of
from perfgate.judge.observation import Observation
from perfgate.load.client import Recording
from perfgate.load.repetition import Repetition
from perfgate.load.response import Transcript
from perfgate.load.workload import Workload
from perfgate.machine.hardware import Gpu, Hardware
from perfgate.results.samples import Sample
from perfgate.results.schema import (
    Launch,
    Measurement,
    RunResults,
    Server,
    save,
)
from perfgate.servers.launch_record import LaunchRecord

MS = 1_000_000
# What a machine whose cores are taken by others does to a measurement, whatever the
# server did.
BUSY_MACHINE = (
    "the client did not run",
    "the client itself did not run",
    "the client was too busy",
    "sent by ",
    "the client fell behind",
    "fell silent at once",
)

DIED = FailureRow(
    tried="measuring", seen="the server died", remedy="read its log"
)
TODAY = datetime.date(2026, 6, 1)
CLOSED = Workload(name="closed-c32", num_prompts=256, max_concurrency=32)
BURST = Workload(name="burst-100", num_prompts=100)
MOE, DENSE = (
    ServerConfig(
        engine="vllm", model=model, tensor_parallel_size=2, device="cuda"
    )
    for model in ("mixtral-8x7b", "llama-3.1-8b")
)
MOE_CPU = ServerConfig(
    engine="vllm", model="mixtral-small", tensor_parallel_size=2
)
DENSE_CPU = ServerConfig(
    engine="vllm", model="llama-small", tensor_parallel_size=2
)
MOE_LOAD = Load(server=MOE, workload=CLOSED)
DENSE_LOAD = Load(server=DENSE, workload=CLOSED)
THROUGHPUT = Case(
    experiment="E1", metric="output_throughput", numerator=MOE_LOAD
)
ITL = Case(experiment="E1", metric="itl_median_ms", numerator=MOE_LOAD)
TTFT = Case(experiment="E3", metric="ttft_median_ms", numerator=MOE_LOAD)
TTFT_P99 = Case(experiment="E3", metric="ttft_p99_ms", numerator=MOE_LOAD)
RATIO = Case(
    experiment="E1",
    metric="output_throughput",
    numerator=DENSE_LOAD,
    denominator=MOE_LOAD,
)
CPU_RATIO = Case(
    experiment="E1",
    metric="output_throughput",
    numerator=Load(server=DENSE_CPU, workload=CLOSED),
    denominator=Load(server=MOE_CPU, workload=CLOSED),
    two_sided=True,
)
SILENT = ("all streams fell silent for 1,400 ms",)
# Six launches of six runs that vary by 0.21 %, as the output throughput did on an H200.
QUIET = (0.9979, 1.0021, 0.9979, 1.0021, 1.0, 1.0)


def hardware(
    kind: str = "h200", count: int = 2, driver: str = "580.1"
) -> Hardware:
    """GPUs of one kind, or the CPU."""
    gpus = tuple(
        Gpu(
            index=index,
            uuid=f"GPU-{index}",
            name=f"NVIDIA {kind.upper()}",
            memory_total_bytes=150 * 10**9,
            mig=False,
            power_limit_w=700.0,
        )
        for index in range(count if kind != "cpu" else 0)
    )
    return Hardware(
        kind=kind,
        name=f"NVIDIA {kind.upper()}" if gpus else "some CPU",
        count=count,
        memory_bytes=150 * 10**9,
        isa="avx2",
        host_memory_bytes=10**11,
        cpu_name="some CPU",
        cpu_count=2,
        driver=driver if gpus else None,
        cuda="13.0" if gpus else None,
        gpus=gpus,
    )


def repetition(
    index: int,
    values: Mapping[str, float] | float | None = None,
    invalid: Sequence[str] = (),
    **more: object,
) -> Repetition:
    """One repetition with these values; a number alone is its output throughput."""
    if isinstance(values, float):
        values = {"output_throughput": values}
    fields = {
        "index": index,
        "started_unix_s": 1.8e9 + index,
        "duration_s": 4.0,
        "completed": 256,
        "failed": 0,
        "input_tokens": 256 * 128,
        "output_tokens": 256 * 128,
        "values": dict(values or {}),
        "invalid": tuple(invalid),
        "notes": (),
        "server_values": {},
        "client_values": {},
        "requests": (),
    }
    return Repetition(**fields | more)


def measurement(
    launch: int,
    *repetitions: Repetition,
    server: ServerConfig = MOE_CPU,
    workload: Workload = CLOSED,
    failure: FailureRow | None = None,
) -> Measurement:
    """Those repetitions of a workload on that launch."""
    return Measurement(
        server=server.key,
        launch=launch,
        workload=workload.name,
        repetitions=repetitions,
        failure=failure,
    )


def launched(
    index: int = 0, server: ServerConfig = MOE_CPU, **more: object
) -> Launch:
    """One launch of a server, which took 50 s."""
    start = LaunchRecord(
        key=server.key,
        session_index=index,
        argv=("engine",),
        env={},
        pid=1,
        log="logs/x.log",
        started_unix_s=1.8e9,
        ready_s=50.0,
    )
    return Launch(server=server.key, index=index, **{"start": start} | more)


def bare_run(**changes: object) -> RunResults:
    """The results of a run on a CPU that holds nothing else."""
    fields = {
        "run_id": "20260601-120000-1",
        "suite_version": "0.1.0",
        "command": ("pytest",),
        "started": "2026-06-01T12:00:00",
        "hardware": hardware("cpu"),
    }
    return RunResults(**fields | changes)


Values = Mapping[Load, Mapping[str, Sequence[float | None]]]


def run(
    values: Values,
    cases: Sequence[Case],
    run_id: str = "20260601-120000-1",
    complete: bool = True,
    machine: Hardware | None = None,
    injected: Mapping[str, float | str] | None = None,
) -> RunResults:
    """A run in which launch n of a load has the n-th value of each metric.

    None makes all repetitions of that launch invalid.
    """
    launches: dict[tuple[str, int], dict[str, float]] = {}
    servers = {load.server.key: load.server for load in values}
    measurements = []
    for load, metrics in values.items():
        for index in range(max(len(row) for row in metrics.values())):
            rows = {
                name: row[index]
                for name, row in metrics.items()
                if index < len(row)
            }
            good = {
                name: value for name, value in rows.items() if value is not None
            }
            mine = launches.setdefault((load.server.key, index), {})
            if load.workload is None:
                mine.update(good)
                continue
            repetitions = (
                repetition(
                    n,
                    {name: value * factor for name, value in good.items()},
                    SILENT if None in rows.values() else (),
                )
                for n, factor in enumerate((0.999, 1.0, 1.001))
            )
            measurements.append(
                measurement(
                    index,
                    *repetitions,
                    server=load.server,
                    workload=load.workload,
                )
            )
    return bare_run(
        run_id=run_id,
        started=f"{run_id[:4]}-{run_id[4:6]}-{run_id[6:8]}T12:00:00",
        complete=complete,
        hardware=machine or hardware(),
        servers={
            key: Server(
                config=config, python="3.12", versions={"vllm": "0.26.0"}
            )
            for key, config in servers.items()
        },
        workloads={
            load.workload.name: load.workload
            for load in values
            if load.workload
        },
        launches=tuple(
            launched(
                index, servers[key], values=own, injected=dict(injected or {})
            )
            for (key, index), own in launches.items()
        ),
        measurements=tuple(measurements),
        cases=tuple(cases),
    )


def saved(folder: Path, number: int, value: float, **how: object) -> RunResults:
    """A run of that day of June in a run store, with this throughput."""
    run_id = f"202606{number:02}-120000-1"
    results = run(
        {MOE_LOAD: {"output_throughput": [value]}}, [THROUGHPUT], run_id, **how
    )
    save(results, folder / run_id)
    return results


def seen(case: Case, *values: float | None, **changed: str) -> Observation:
    """An observation of the case with these launch values.

    Keyword arguments change its identity.
    """
    sides = case.denominator is not None
    run_id = "20260601-120000-1"
    samples = []
    for n, value in enumerate(values):
        sample = Sample(run=run_id, launch=n, value=value)
        if value is None:
            sample = msgspec.structs.replace(sample, invalid=SILENT)
        elif sides:
            sample = msgspec.structs.replace(
                sample, numerator=value * 100, denominator=100.0
            )
        samples.append(sample)
    cpu = case.numerator.server.device == "cpu"
    return Observation(
        run=run_id,
        hardware_label="cpu-some-cpu-avx2-x2" if cpu else "h200x2",
        identity={"gpu_count": "2", "weights": "auto"} | changed,
        context={"driver": "580.1", "vllm": "0.26.0"},
        samples=tuple(samples),
    )


def recorded(
    case: Case,
    values: Sequence[float],
    delta: float | None = 0.02,
    runs: int | None = None,
    **more: object,
) -> Recorded:
    """A baseline of these launches, one a run unless `runs` says how many runs.

    Args:
        delta: the owner's target effect; None for the policy's.
    """
    metric = metric_of(case)
    points = tuple(
        Sample(
            run=f"run-{n % (runs or len(values)):02}",
            launch=n // (runs or len(values)),
            value=value,
            numerator=value * 100 if case.denominator else None,
            denominator=100.0 if case.denominator else None,
        )
        for n, value in enumerate(values)
    )
    fields = {
        "unit": metric.unit,
        "better": metric.better,
        "definition": metric.definition,
        "gate": "hard",
        "target_effect": delta,
        "floor": 0.0,
        "launches": points,
    } | more
    return Recorded(
        path=Path("baselines/h200x2/x/y.json"),
        identity={"gpu_count": "2", "weights": "auto"},
        context={"driver": "580.1", "vllm": "0.26.0"},
        metric=MetricBaseline(**fields),
    )


# Three machines that differ by 2 %; launches of each by 0.2 %.
MACHINES = {"gpu-a": 980.0, "gpu-b": 1000.0, "gpu-c": 1020.0}


def fleet(each: int = 6, **more: object) -> Recorded:
    """A baseline of `each` launches of every machine, each of a run of its own."""
    names = [name for name in MACHINES for _ in range(each)]
    values = [
        MACHINES[name] * factor for name in MACHINES for factor in QUIET[:each]
    ]
    found = recorded(THROUGHPUT, values, delta=None, **more)
    runs = [point.run for point in found.metric.launches]
    return dataclasses.replace(
        found, machines=dict(zip(runs, names, strict=True))
    )


def other_than_busy(reasons: Sequence[str]) -> list[str]:
    """The reasons or notes of a real measurement that are not the machine's own."""
    return [
        reason
        for reason in reasons
        if not any(words in reason for words in BUSY_MACHINE)
    ]


def transcript(
    sent_ms: float = 0.0,
    chunks_ms: Sequence[float] = (20.0, 30.0, 40.0),
    error: str | None = None,
    output_tokens: int | None = None,
    index: int = 0,
) -> Transcript:
    """One request: sent, and with chunks, at these ms since the start.

    It has as many tokens as chunks unless said.
    """
    tokens = len(chunks_ms) if output_tokens is None else output_tokens
    times = tuple(int(ms * MS) for ms in chunks_ms)
    sent = int(sent_ms * MS)
    return Transcript(
        index=index,
        input_tokens=8,
        output_tokens=tokens,
        sent_tokens=8,
        asked_tokens=tokens,
        due_ns=sent,
        sent_ns=sent,
        end_ns=times[-1] if times else sent,
        chunk_ns=times,
        error=error,
    )


def recording(
    end_ms: float = 1000.0, gaps_ms: Sequence[tuple[float, float]] = ()
) -> Recording:
    """What the client records of itself: the length and its own gaps."""
    gaps = tuple((int(a * MS), int(b * MS)) for a, b in gaps_ms)
    return Recording(
        start_ns=0,
        end_ns=int(end_ms * MS),
        requests=(),
        client_busy=0.0,
        client_gaps=gaps,
    )


def steady_streams(
    count: int = 8, tokens: int = 50, itl_ms: float = 10.0
) -> list[list[float]]:
    """Chunk times of streams that start 1 ms apart and tick every `itl_ms`."""
    return [[20 + n + itl_ms * k for k in range(tokens)] for n in range(count)]


def stalled(
    streams: list[list[float]], at_ms: float, length_ms: float
) -> list[Transcript]:
    """The same streams with everything after `at_ms` that much later."""
    return [
        transcript(
            chunks_ms=[t + (length_ms if t > at_ms else 0) for t in times],
            index=index,
        )
        for index, times in enumerate(streams)
    ]
