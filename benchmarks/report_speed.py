"""Time that the report of a large run takes.

1,000 cases with 10 launches each; the aim is below 10 s.

python -m benchmarks.report_speed [OUT]
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import msgspec

from perfgate.cases import Case, Load
from perfgate.engines.base import ServerConfig
from perfgate.judge.verdict import Outcome, Verdict
from perfgate.load.repetition import Repetition, RequestRow
from perfgate.load.workload import Workload
from perfgate.machine.hardware import Hardware
from perfgate.results import schema as rundata
from perfgate.results.schema import Launch, Measurement, RunResults, Server
from perfgate.servers.launch_record import LaunchRecord

SERVERS, WORKLOADS, LAUNCHES = 10, 20, 10
ASKED = (
    "output_throughput",
    "itl_median_ms",
    "ttft_median_ms",
    "tpot_median_ms",
    "e2el_median_ms",
)


def run() -> RunResults:
    """A run of 10 servers x 20 workloads x 5 metrics on 10 launches, with every request."""
    machine = Hardware(
        kind="h200",
        name="NVIDIA H200",
        count=2,
        memory_bytes=150 * 10**9,
        isa="avx512",
        host_memory_bytes=1,
    )
    servers = [
        ServerConfig(
            engine="vllm",
            model=model,
            tensor_parallel_size=ranks,
            device="cuda",
        )
        for ranks in range(1, SERVERS // 2 + 1)
        for model in ("mixtral-8x7b", "llama-3.1-8b")
    ]
    configs = {server.key: server for server in servers}
    batches = [
        Workload(name=f"batch-{2**n}", num_prompts=8, max_concurrency=2**n)
        for n in range(10)
    ]
    rates = [
        Workload(name=f"rate-{n}", num_prompts=8, request_rate=float(n))
        for n in range(1, WORKLOADS - 9)
    ]
    request = RequestRow(
        scheduled_ms=0.0,
        sent_ms=0.0,
        ttft_ms=20.0,
        e2el_ms=532.0,
        output_tokens=65,
        itl_ms=(8.0,) * 64,
        error=None,
    )
    measurements = tuple(
        Measurement(
            server=key,
            launch=launch,
            workload=workload.name,
            repetitions=(_repetition(launch, workload, request),),
        )
        for key in configs
        for workload in (*batches, *rates)
        for launch in range(LAUNCHES)
    )
    loads = [
        Load(server=server, workload=w)
        for server in servers
        for w in (*batches, *rates)
    ]
    cases = tuple(
        Case(experiment="E1", metric=metric, numerator=load)
        for load in loads
        for metric in ASKED
    )
    start = LaunchRecord(
        key="k",
        session_index=0,
        argv=("engine",),
        env={},
        pid=1,
        log="x",
        started_unix_s=1.8e9,
        ready_s=50.0,
    )
    results = RunResults(
        run_id="20260601-120000-1",
        suite_version="0",
        command=("pytest",),
        started="2026-06-01T12:00:00+00:00",
        complete=True,
        hardware=machine,
        servers={
            key: Server(config=config, python="python3", versions={"vllm": "1"})
            for key, config in configs.items()
        },
        workloads={w.name: w for w in (*batches, *rates)},
        launches=tuple(
            Launch(
                server=key,
                index=n,
                start=start,
                values={
                    "weights_bytes_per_rank": 46e9,
                    "memory_peak_bytes": 130e9,
                },
            )
            for key in configs
            for n in range(LAUNCHES)
        ),
        measurements=measurements,
        cases=cases,
    )
    details = ("-5.0 % vs the baseline 1,050 tok/s, threshold -2.0 %.",) * 6
    rows = tuple(
        Verdict(
            case=case.id,
            metric=case.metric,
            outcome=Outcome.REGRESSED if n % 20 == 0 else Outcome.PASSED,
            gate="hard",
            summary="-5.0 % vs the baseline 1,050 tok/s",
            details=details,
            advice="Look.",
            unit="tok/s",
            value=1000.0,
            baseline=1050.0,
            change=-0.05,
            worse_by=0.05,
            threshold=0.02,
            noise=0.01,
            launches=LAUNCHES,
        ).row(case, "t")
        for n, case in enumerate(cases)
    )
    return msgspec.structs.replace(results, verdicts=rows)


def _repetition(
    launch: int, workload: Workload, request: RequestRow
) -> Repetition:
    values = dict.fromkeys(
        ASKED, 1000.0 + launch + (workload.max_concurrency or 0)
    )
    return Repetition(
        index=0,
        started_unix_s=1.8e9,
        duration_s=0.6,
        completed=8,
        failed=0,
        input_tokens=1024,
        output_tokens=520,
        values=values,
        invalid=(),
        notes=(),
        server_values={},
        client_values={},
        requests=(request,) * 8,
    )


def main() -> None:
    """Write the run, read it back, build everything, and say how long each took."""
    out = (
        Path(sys.argv[1])
        if len(sys.argv) > 1
        else Path(tempfile.mkdtemp(prefix="perfgate-report-"))
    )
    rundata.save(run(), out)
    began, cpu = time.perf_counter(), time.process_time()
    from perfgate.report import artifacts as written
    from perfgate.report.page import Report

    results = rundata.load(out)
    read = time.perf_counter()
    paths = written.write(Report([results]), out)
    done = time.perf_counter()
    print(f"{len(results.cases)} cases, {LAUNCHES} launches each")
    print(
        f"read {read - began:.1f} s, built {done - read:.1f} s, together "
        f"{done - began:.1f} s (aim: below 10 s)"
    )
    print(
        f"of one core: {time.process_time() - cpu:.1f} s; more on the clock "
        "means that the machine was busy"
    )
    for path in paths:
        print(f"{path}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
