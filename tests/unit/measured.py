"""What does a finished run look like? Builds one from the values that its launches are to have."""

import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path

from perfgate.cases import Case, Load
from perfgate.engines.base import ServerConfig
from perfgate.judge.baseline_schema import LaunchPoint, MetricBaseline
from perfgate.judge.baseline_store import Recorded
from perfgate.judge.gate import metric_of
from perfgate.judge.observation import Observation, Reading
from perfgate.load.repetition import Repetition
from perfgate.load.workload import Workload
from perfgate.machine.hardware import Gpu, Hardware
from perfgate.results.schema import Launch, Measurement, RunResults, Server
from perfgate.servers.launch_record import LaunchRecord

TODAY = datetime.date(2026, 6, 1)
CLOSED = Workload(name="closed-c32", num_prompts=256, max_concurrency=32)
BURST = Workload(name="burst-100", num_prompts=100)
MOE = ServerConfig(engine="vllm", model="mixtral-8x7b", tensor_parallel_size=2, device="cuda")
DENSE = ServerConfig(engine="vllm", model="llama-3.1-8b", tensor_parallel_size=2, device="cuda")
MOE_CPU = ServerConfig(engine="vllm", model="mixtral-small", tensor_parallel_size=2)
DENSE_CPU = ServerConfig(engine="vllm", model="llama-small", tensor_parallel_size=2)
MOE_LOAD, DENSE_LOAD = Load(server=MOE, workload=CLOSED), Load(server=DENSE, workload=CLOSED)
THROUGHPUT = Case(experiment="E1", metric="output_throughput", of=MOE_LOAD)
ITL = Case(experiment="E1", metric="itl_median_ms", of=MOE_LOAD)
TTFT = Case(experiment="E3", metric="ttft_median_ms", of=MOE_LOAD)
TTFT_P99 = Case(experiment="E3", metric="ttft_p99_ms", of=MOE_LOAD)
RATIO = Case(experiment="E1", metric="output_throughput", of=DENSE_LOAD, over=MOE_LOAD)
CPU_RATIO = Case(
    experiment="E1",
    metric="output_throughput",
    of=Load(server=DENSE_CPU, workload=CLOSED),
    over=Load(server=MOE_CPU, workload=CLOSED),
    two_sided=True,
)
# Six launches of six runs that scatter by 0.21 %, as the output throughput did on an H200.
QUIET = (0.9979, 1.0021, 0.9979, 1.0021, 1.0, 1.0)


def hardware(kind: str = "h200", count: int = 2, driver: str = "580.1") -> Hardware:
    """GPUs of one kind, or the CPU."""
    gpus = tuple(
        Gpu(
            index=index,
            uuid=f"GPU-{index}",
            name=f"NVIDIA {kind.upper()}",
            memory_total_bytes=150 * 10**9,
            mig=False,
            power_limit_w=700.0,
            sm_clock_max_mhz=1980,
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


def repetition(index: int, values: Mapping[str, float], invalid: Sequence[str] = ()) -> Repetition:
    """One repetition with these values."""
    return Repetition(
        index=index,
        started_unix_s=1.8e9 + index,
        duration_s=4.0,
        completed=256,
        failed=0,
        input_tokens=256 * 128,
        output_tokens=256 * 128,
        values=dict(values),
        invalid=tuple(invalid),
        notes=(),
        server_values={},
        client_values={},
        requests=(),
    )


Values = Mapping[Load, Mapping[str, Sequence[float | None]]]


def run(
    values: Values,
    cases: Sequence[Case],
    run_id: str = "20260601-120000-1",
    complete: bool = True,
    machine: Hardware | None = None,
    injected: Mapping[str, float | str] | None = None,
) -> RunResults:
    """A run in which launch n of a load has the n-th value of each metric; None makes all its repetitions invalid."""
    launches: dict[tuple[str, int], dict[str, float]] = {}
    measurements = []
    for load, metrics in values.items():
        for index in range(max(len(row) for row in metrics.values())):
            seen = {name: row[index] for name, row in metrics.items() if index < len(row)}
            mine = launches.setdefault((load.server.key, index), {})
            if load.workload is None:
                mine.update({name: value for name, value in seen.items() if value is not None})
                continue
            bad = ("all streams fell silent for 1,400 ms",) if None in seen.values() else ()
            good = {name: value for name, value in seen.items() if value is not None}
            repetitions = tuple(
                repetition(n, {name: value * factor for name, value in good.items()}, bad)
                for n, factor in enumerate((0.999, 1.0, 1.001))
            )
            measurements.append(
                Measurement(server=load.server.key, launch=index, workload=load.workload.name, repetitions=repetitions)
            )
    servers = {load.server.key: load.server for load in values}
    return RunResults(
        run_id=run_id,
        suite_version="0.1.0",
        command=("pytest",),
        started=f"{run_id[:4]}-{run_id[4:6]}-{run_id[6:8]}T12:00:00",
        complete=complete,
        hardware=machine or hardware(),
        servers={
            key: Server(config=config, python="3.12", versions={"vllm": "0.26.0"}) for key, config in servers.items()
        },
        workloads={load.workload.name: load.workload for load in values if load.workload},
        launches=tuple(_launch(key, index, own, injected or {}) for (key, index), own in launches.items()),
        measurements=tuple(measurements),
        cases=tuple(cases),
    )


def _launch(key: str, index: int, values: dict[str, float], injected: Mapping[str, float | str]) -> Launch:
    start = LaunchRecord(
        key=key, index=index, argv=("engine",), env={}, pid=1, log="logs/x.log", started_unix_s=1.8e9, ready_s=50.0
    )
    return Launch(server=key, index=index, start=start, values=values, injected=dict(injected))


def seen(case: Case, *values: float | None, **changed: str) -> Observation:
    """An observation of the case with these launch values; keyword arguments change its identity."""
    sides = case.over is not None
    readings = tuple(
        Reading(n, value, value * 100 if sides and value else None, 100.0 if sides and value else None)
        if value is not None
        else Reading(n, None, invalid=("all streams fell silent for 1,400 ms",))
        for n, value in enumerate(values)
    )
    cpu = case.of.server.device == "cpu"
    return Observation(
        run="20260601-120000-1",
        hardware_label="cpu-some-cpu-avx2-x2" if cpu else "h200x2",
        identity={"gpu_count": "2", "weights": "auto"} | changed,
        context={"driver": "580.1", "vllm": "0.26.0"},
        readings=readings,
    )


def recorded(
    case: Case, values: Sequence[float], delta: float = 0.02, runs: int | None = None, **more: object
) -> Recorded:
    """A baseline of these launches, one a run unless `runs` says in how many they lie."""
    metric = metric_of(case)
    points = tuple(
        LaunchPoint(
            run=f"run-{n % (runs or len(values)):02}",
            launch=n // (runs or len(values)),
            value=value,
            of=value * 100 if case.over else None,
            over=100.0 if case.over else None,
        )
        for n, value in enumerate(values)
    )
    fields = {
        "unit": metric.unit,
        "better": metric.better,
        "definition": metric.definition,
        "gate": "hard",
        "delta": delta,
        "floor": 0.0,
        "launches": points,
    } | more
    return Recorded(
        path=Path("baselines/h200x2/x/y.json"),
        identity={"gpu_count": "2", "weights": "auto"},
        context={"driver": "580.1", "vllm": "0.26.0"},
        metric=MetricBaseline(**fields),
    )
