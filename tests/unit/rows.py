"""Rows of a small run, for tests of what is stored and of what is read out of it."""

import msgspec

from perfgate.engines.base import ServerConfig
from perfgate.load.repetition import Repetition, RequestRow
from perfgate.load.workload import Synthetic, Workload
from perfgate.machine.hardware import Gpu, Hardware
from perfgate.results.schema import Launch, Measurement, RunResults
from perfgate.servers.launch_record import LaunchRecord, PhaseTime

MOE = ServerConfig(engine="vllm", model="mixtral-small", tensor_parallel_size=2, extra_args=("--enforce-eager",))
DENSE = msgspec.structs.replace(MOE, model="llama-small")
CLOSED = Workload(name="closed-c16", prompts=Synthetic(), num_prompts=48, max_concurrency=16)
CPU = Hardware(kind="cpu", name="A CPU", count=2, memory_bytes=24, isa="avx2", host_memory_bytes=24)
GPU = Hardware(
    kind="h200",
    name="NVIDIA H200",
    count=2,
    memory_bytes=150_754_820_096,
    isa="avx512",
    host_memory_bytes=512,
    driver="580.82",
    cuda="13.0",
    gpus=tuple(
        Gpu(index=i, uuid=f"GPU-{i}", name="NVIDIA H200", memory_total_bytes=150_754_820_096, mig=False,
            power_limit_w=700.0)
        for i in (0, 1)
    ),
)  # fmt: skip


def repetition(index, value=None, invalid=()):
    """A repetition of one request whose throughput is `value`."""
    return Repetition(
        index=index,
        started_unix_s=1_775_000_000.5,
        duration_s=10.0,
        completed=1,
        failed=0,
        input_tokens=32,
        output_tokens=3,
        values={} if value is None else {"output_throughput": value},
        invalid=invalid,
        notes=("the client was 3 % busy",),
        server_values={"generation_tokens": 3.0},
        client_values={"busy": 0.03},
        requests=(
            RequestRow(
                scheduled_ms=0.0, sent_ms=0.1, ttft_ms=50.0, e2el_ms=70.25, output_tokens=3, itl_ms=(10.0, 10.25),
                error=None,
            ),
        ),
    )  # fmt: skip


def measurement(launch, *repetitions, server=MOE, error=None):
    """Those repetitions of the closed loop on that launch."""
    return Measurement(server=server.key, launch=launch, workload=CLOSED.name, repetitions=repetitions, error=error)


def launched(index=0, server=MOE, **more):
    """One launch of a server."""
    start = LaunchRecord(
        key=server.key,
        index=index,
        argv=("python", "-m", "server"),
        env={"A": "1"},
        pid=4711,
        log="logs/0.log",
        started_unix_s=1_775_000_000.0,
        ready_s=26.5,
        phases=(PhaseTime(name="loading weights", at_s=11.0, line="Loading"),),
    )
    return Launch(server=server.key, index=index, start=start, **more)


def run(**changes):
    """A run's results."""
    settings = {
        "run_id": "20260131-142233-4711",
        "suite_version": "0.1.0",
        "command": ("pytest", "-m", "cpu"),
        "started": "2026-01-31T14:22:33+00:00",
        "hardware": CPU,
    }
    return RunResults(**(settings | changes))
