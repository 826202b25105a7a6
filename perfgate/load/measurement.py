"""Measurement of one repetition of one workload on one server.

The seam to those who decide what is measured: `measure` gives a `Repetition` with its
figures, the reasons why it may not be judged, and every request's times. Warm up before
(`perfgate.load.warmup`).
"""

from __future__ import annotations

import math
import os
import re
import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from perfgate.engines.registry import ENGINES
from perfgate.load import metrics, validity
from perfgate.load.client import Recording, Sending
from perfgate.load.multiprocess import send_with
from perfgate.load.repetition import Repetition, RequestRow
from perfgate.load.request_times import (
    completed,
    e2el_ns,
    itl_ns,
    steady_window,
    ttft_ns,
)
from perfgate.load.response import Transcript, read
from perfgate.load.server_metrics import ScrapeFailed, difference, scrape
from perfgate.load.workload import (
    ShareGPT,
    Synthetic,
    UnusableWorkload,
    Workload,
    build_requests,
)

COMPLETIONS = "/v1/completions"
# Above it, reads queue up by more than 1 ms before they get their timestamp
# (docs/measuring.md).
CLIENT_TOO_BUSY = 0.4
MOST_CLIENT_PROCESSES = 8


@dataclass(frozen=True)
class Target:
    """The server to be measured.

    Attributes:
        served_model: the name under which it serves the model.
        device: "cuda" or "cpu": which limits of validity hold.
        log: the server's log file; what it says of compiling makes a repetition
            invalid.
        tokenizer: only for the equivalent command lines.
    """

    url: str
    served_model: str
    vocab_size: int
    engine: str
    is_alive: Callable[[], bool] = lambda: True
    device: str = "cpu"
    log: Path | None = None
    tokenizer: str | None = None
    silence_timeout_s: float = 120.0


def sending(
    target: Target, workload: Workload, progress: Callable[[int, int], None]
) -> Sending:
    """How the client reaches the target."""
    return Sending(
        url=target.url + COMPLETIONS,
        model=target.served_model,
        max_concurrency=workload.max_concurrency,
        silence_timeout_s=target.silence_timeout_s,
        is_alive=target.is_alive,
        progress=progress,
    )


def measure(
    target: Target,
    workload: Workload,
    repetition_index: int,
    *,
    progress: Callable[[int, int], None] = lambda _d, _t: None,
    policy: validity.Policy | None = None,
) -> Repetition:
    """Run one repetition and work out what it came to.

    Never raises for what the server does: failed requests are counted, named, and make
    the repetition invalid.

    Raises:
        UnusableWorkload: the workload cannot be sent as declared, whatever the server
            does.
    """
    policy = policy or validity.POLICIES[target.device]
    before, missing = scraped(target)
    log_size = target.log.stat().st_size if target.log else 0
    started = time.time()
    recording = send_enough(target, workload, repetition_index, progress)
    after, also_missing = scraped(target)
    served = difference(target.engine, before, after) if before and after else {}
    transcripts = [read(record) for record in recording.requests]
    findings = validity.examine(workload, transcripts, recording, served, policy)
    compiled = compile_lines(target.log, log_size, target.engine) if target.log else ()
    rows = tuple(row(t, recording.start_ns) for t in transcripts)
    duration_s = (recording.end_ns - recording.start_ns) / 1e9
    return Repetition(
        index=repetition_index,
        started_unix_s=started,
        duration_s=duration_s,
        completed=len(completed(transcripts)),
        failed=sum(t.error is not None for t in transcripts),
        input_tokens=sum(t.input_tokens for t in completed(transcripts)),
        output_tokens=sum(t.output_tokens for t in completed(transcripts)),
        values=metrics.compute(
            transcripts,
            recording.start_ns,
            recording.end_ns,
            workload.slo_ms,
            steady_window(transcripts, workload.request_rate is not None),
        )
        | metrics.computed(rows, duration_s),
        invalid=findings.invalid + too_busy(recording) + compiled,
        notes=findings.notes + tuple(dict.fromkeys(missing + also_missing)),
        server_values=served,
        client_values=client_values(recording, transcripts),
        requests=rows,
        hang=recording.hang,
    )


def send_enough(
    target: Target,
    workload: Workload,
    repetition_index: int,
    progress: Callable[[int, int], None],
) -> Recording:
    """Send a repetition with as many client processes as it takes.

    Where one process turns out to be too busy, all is sent once more by several, with
    other prompts of the same distribution. Prompts from files are not sent twice:
    there, the workload must say how many processes it needs.

    Raises:
        UnusableWorkload: the workload declares more client processes than this process
            may use CPU cores.
    """
    processes = client_processes(workload)
    requests = build_requests(workload, repetition_index, target.vocab_size)
    recording = send_with(processes, requests, sending(target, workload, progress))
    repeatable = workload.client_processes is None and isinstance(
        workload.prompts, Synthetic
    )
    if recording.client_busy > CLIENT_TOO_BUSY and repeatable:
        processes = min(
            MOST_CLIENT_PROCESSES,
            math.ceil(2 * recording.client_busy / CLIENT_TOO_BUSY),
        )
        requests = build_requests(
            workload, repetition_index, target.vocab_size, attempt=1
        )
        recording = send_with(processes, requests, sending(target, workload, progress))
    return recording


def client_processes(workload: Workload) -> int:
    """The declared number of client processes, each on a CPU core of its own; 1 where none is declared.

    Raises:
        UnusableWorkload: this machine has fewer cores. A study is also read on machines
            that only judge, so that reading it does not check this.
    """
    declared = workload.client_processes or 1
    cores = len(os.sched_getaffinity(0))
    if declared > cores:
        raise UnusableWorkload(
            tried=f"sending {workload.name} with {declared} client processes",
            seen=f"this process may use {cores} CPU cores",
            remedy=(
                f"set client_processes of the workload to {cores} at most, or leave it out"
            ),
        )
    return declared


def scraped(target: Target) -> tuple[dict[str, float], tuple[str, ...]]:
    """The server's own figures until now, or none and why."""
    try:
        return scrape(target.url), ()
    except ScrapeFailed as failure:
        return {}, (
            f"no figures of the server's own: {failure.tried}: {failure.seen} ({failure.remedy})",
        )


def compile_lines(log: Path, from_byte: int, engine: str) -> tuple[str, ...]:
    """Reasons from what the engine logged during the measurement."""
    if engine not in ENGINES:
        return ()
    compiles = re.compile(ENGINES[engine].compiles)
    with log.open("rb") as file:
        file.seek(from_byte)
        lines = file.read().decode(errors="replace").splitlines()
    return tuple(
        f"the engine compiled during the measurement: {line.strip()[:200]}"
        for line in lines
        if compiles.search(line)
    )


def too_busy(recording: Recording) -> tuple[str, ...]:
    """A client that is busy reads late."""
    if recording.client_busy <= CLIENT_TOO_BUSY:
        return ()
    seen = f"{recording.client_busy:.0%} of a core, {CLIENT_TOO_BUSY:.0%} is the most"
    return (
        (
            f"the client was too busy ({seen}, with {recording.processes} "
            "processes): its times are late"
        ),
    )


def client_values(
    recording: Recording, transcripts: Sequence[Transcript]
) -> dict[str, float]:
    """How the client fared."""
    values = {"busy": recording.client_busy, "processes": float(recording.processes)}
    values["absent_ms"] = sum(end - start for start, end in recording.client_gaps) / 1e6
    waits = validity.lateness_ms(transcripts)
    if len(waits):
        values |= {
            "late_median_ms": float(np.median(waits)),
            "late_max_ms": float(np.max(waits)),
        }
    return values


def row(t: Transcript, start_ns: int) -> RequestRow:
    """One request as it is kept."""
    good = t.error is None
    return RequestRow(
        scheduled_ms=(t.due_ns - start_ns) / 1e6,
        sent_ms=None if t.sent_ns is None else (t.sent_ns - start_ns) / 1e6,
        ttft_ms=ttft_ns(t) / 1e6 if good else None,
        e2el_ms=e2el_ns(t) / 1e6 if good else None,
        output_tokens=t.output_tokens if good else len(t.chunk_ns),
        itl_ms=tuple(round(float(gap) / 1e6, 3) for gap in itl_ns(t)),
        error=t.error,
    )


def vllm_bench_command(target: Target, workload: Workload) -> str:
    """The `vllm bench serve` command line that sends the same pattern; its prompts are other ones."""
    return shlex.join(
        ["vllm", "bench", "serve", *vllm_bench_arguments(target, workload)]
    )


def vllm_bench_arguments(target: Target, workload: Workload) -> list[str]:
    """What follows `vllm bench serve` there."""
    arguments = [
        "--backend",
        "openai",
        "--base-url",
        target.url,
        "--endpoint",
        COMPLETIONS,
    ]
    arguments += ["--model", target.served_model]
    if target.tokenizer:
        arguments += ["--tokenizer", target.tokenizer]
    arguments += dataset_arguments(workload)
    arguments += ["--num-prompts", str(workload.num_prompts)]
    arguments += [
        "--request-rate",
        "inf" if workload.request_rate is None else f"{workload.request_rate:g}",
    ]
    if workload.request_rate is not None:
        arguments += ["--burstiness", f"{workload.burstiness:g}"]
    if workload.max_concurrency is not None:
        arguments += ["--max-concurrency", str(workload.max_concurrency)]
    arguments += ["--ignore-eos", "--temperature", "0", "--seed", str(workload.seed)]
    return [*arguments, "--percentile-metrics", "ttft,tpot,itl,e2el"]


def dataset_arguments(workload: Workload) -> list[str]:
    """Which prompts, in the words of `vllm bench serve`."""
    prompts = workload.prompts
    if not isinstance(prompts, Synthetic):
        name = "sharegpt" if isinstance(prompts, ShareGPT) else "custom"
        return ["--dataset-name", name, "--dataset-path", prompts.path]
    arguments = [
        "--dataset-name",
        "random",
        "--random-output-len",
        str(prompts.output_len_tokens),
    ]
    # There, the prefix comes on top of the input length.
    arguments += [
        "--random-input-len",
        str(prompts.input_len_tokens - prompts.shared_prefix_tokens),
    ]
    if prompts.shared_prefix_tokens:
        arguments += ["--random-prefix-len", str(prompts.shared_prefix_tokens)]
    ratios = {"input": prompts.input_range_ratio, "output": prompts.output_range_ratio}
    return [
        *arguments,
        "--random-range-ratio",
        msgspec.json.encode(ratios).decode() if any(ratios.values()) else "0",
    ]
