"""Measurement of one repetition of one workload on one server.

`measure` returns a `Repetition`: its metrics, the reasons why it may not be judged, and
the times of every request. Warm up before (`perfgate.load.warmup`).
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

from perfgate import formatting
from perfgate.engines.registry import ENGINES
from perfgate.errors import describe_error
from perfgate.foreign_text import one_line
from perfgate.load import metrics, server_rates, validity
from perfgate.load.client import Progress, Recording, Sending, no_progress
from perfgate.load.multiprocess import send_with
from perfgate.load.repetition import LOG_REASON, Repetition, RequestRow
from perfgate.load.request_times import (
    NS_PER_MS,
    NS_PER_S,
    completed,
    e2el_ns,
    itl_ns,
    short_gap_share,
    steady_window,
    tokens_per_chunk,
    ttft_ns,
)
from perfgate.load.response import Transcript, read
from perfgate.load.server_metrics import (
    Figures,
    ScrapeFailed,
    difference,
    renamed,
    scrape,
)
from perfgate.load.workload import (
    Conversations,
    Drawn,
    Frozen,
    PromptFile,
    Synthetic,
    UnusableWorkload,
    Workload,
    build_requests,
)

COMPLETIONS = "/v1/completions"
# Above it, reads queue up by more than 1 ms before they get the client's timestamp
# (docs/measuring.md). The kernel's are not late for that: there, what counts is that
# the client reads each chunk before the next, and sends in time.
CLIENT_TOO_BUSY = 0.4
BUSIER_WITH_KERNEL_TIMES = 2
MOST_CLIENT_PROCESSES = 8  # where the workload does not declare them
LOG_LINE_CHARACTERS = 200


@dataclass(frozen=True)
class Target:
    """The server to be measured.

    Attributes:
        served_model: the name under which it serves the model.
        device: "cuda" or "cpu": which limits of validity hold.
        log: the server's log file; what it says of compiling makes a repetition
            invalid.
        tokenizer: only for the equivalent command lines.
        silence_timeout_s: the server hangs if no stream sends a token for so long.
        death_reason, note_life, authorization: as of `perfgate.load.client.Sending`.
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
    death_reason: str = "the server process is gone"
    note_life: Callable[[], None] = lambda: None
    authorization: str = ""


@dataclass(frozen=True)
class Beginning:
    """What was there just before a load was sent.

    Attributes:
        figures: the server's own until then; `missing` has why there are none.
        log_bytes: size of its log.
    """

    figures: Figures
    missing: tuple[str, ...]
    log_bytes: int
    unix_s: float

    @classmethod
    def of_load(cls, target: Target) -> Beginning:
        """Read it now."""
        figures, missing = server_figures(target)
        log_bytes = 0
        if target.log is not None and target.log.exists():
            log_bytes = target.log.stat().st_size
        return cls(figures, missing, log_bytes, time.time())


def sending(target: Target, workload: Workload, progress: Progress) -> Sending:
    """How the client reaches the target."""
    return Sending(
        url=target.url + COMPLETIONS,
        model=target.served_model,
        max_concurrency=workload.max_concurrency,
        silence_timeout_s=target.silence_timeout_s,
        is_alive=target.is_alive,
        progress=progress,
        death_reason=target.death_reason,
        note_life=target.note_life,
        authorization=target.authorization,
    )


def measure(
    target: Target,
    workload: Workload,
    repetition_index: int,
    *,
    progress: Progress = no_progress,
    policy: validity.Policy | None = None,
    begin: Callable[[], None] = lambda: None,
) -> Repetition:
    """Run one repetition and compute its figures.

    Never raises for what the server does: failed requests are counted, named, and make
    the repetition invalid.

    Args:
        begin: called just before the load is sent, and again where it is sent once more.

    Raises:
        UnusableWorkload: the workload cannot be sent as declared, whatever the server
            does.
    """
    policy = policy or validity.POLICIES[target.device]
    before, recording = send_repetition(
        target, workload, repetition_index, progress, begin
    )
    after, missing_after = server_figures(target)
    server_values: dict[str, float] = {}
    if before.figures and after:
        server_values = difference(target.engine, before.figures, after)
    transcripts = [read(record) for record in recording.requests]
    findings = validity.examine(
        workload, transcripts, recording, server_values, policy
    )
    compiled: tuple[str, ...] = ()
    if target.log is not None:
        compiled = compile_lines(target.log, before.log_bytes, target.engine)
    missing = tuple(dict.fromkeys(before.missing + missing_after))
    missing += renamed(target.engine, after)
    good = completed(transcripts)
    rows = tuple(request_row(t, recording.start_ns) for t in transcripts)
    return Repetition(
        index=repetition_index,
        started_unix_s=before.unix_s,
        duration_s=duration_s(recording),
        completed=len(good),
        failed=len(transcripts) - len(good),
        input_tokens=sum(t.input_tokens for t in good),
        output_tokens=sum(t.output_tokens for t in good),
        values=metric_values(workload, recording, transcripts, rows)
        | server_rates.values(workload, transcripts, server_values),
        invalid=findings.invalid + busy_reasons(recording) + compiled,
        notes=findings.notes + missing,
        server_values=server_values,
        client_values=client_values(recording, transcripts),
        requests=rows,
        hang=recording.hang,
        unchecked=validity.unchecked(workload, target.engine, server_values),
    )


def duration_s(recording: Recording) -> float:
    """From arrival 0 to the last answer."""
    return (recording.end_ns - recording.start_ns) / NS_PER_S


def metric_values(
    workload: Workload,
    recording: Recording,
    transcripts: Sequence[Transcript],
    rows: Sequence[RequestRow],
) -> dict[str, float]:
    """Every metric that the requests have, built in or custom."""
    is_open_loop = workload.request_rate is not None
    built_in = metrics.compute(
        transcripts,
        recording.start_ns,
        recording.end_ns,
        workload.slo_ms,
        steady_window(transcripts, is_open_loop, workload.first_wave),
    )
    return built_in | metrics.computed(rows, duration_s(recording))


def send_repetition(
    target: Target,
    workload: Workload,
    repetition_index: int,
    progress: Progress,
    begin: Callable[[], None],
) -> tuple[Beginning, Recording]:
    """Send a repetition with as many client processes as it takes.

    Where one process turns out to be too busy, all is sent once more by several, with
    other prompts of the same distribution, and nothing counts of the first time. Prompts
    from files are not sent twice: there, the workload must say how many processes it
    needs.

    Raises:
        UnusableWorkload: the workload declares more client processes than this process
            may use CPU cores.
    """
    processes = client_processes(workload)
    settings = sending(target, workload, progress)
    requests = build_requests(workload, repetition_index, target.vocab_size)
    begin()
    before = Beginning.of_load(target)
    recording = send_with(processes, requests, settings)
    is_repeatable = isinstance(workload.prompts, Synthetic | Drawn)
    if workload.client_processes is not None or not is_repeatable:
        return before, recording
    limit = busy_limit(recording)
    if recording.client_busy <= limit:
        return before, recording
    enough = math.ceil(2 * recording.client_busy / limit)
    processes = min(MOST_CLIENT_PROCESSES, enough)
    requests = build_requests(
        workload, repetition_index, target.vocab_size, attempt=1
    )
    begin()
    before = Beginning.of_load(target)
    return before, send_with(processes, requests, settings)


def client_processes(workload: Workload) -> int:
    """The declared number of client processes; 1 where none is declared.

    Raises:
        UnusableWorkload: this machine has fewer CPU cores. A study is also read on
            machines that only judge, so that reading it does not check this.
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


def server_figures(target: Target) -> tuple[Figures, tuple[str, ...]]:
    """The server's own figures until now, or none and a note with the reason."""
    try:
        return scrape(target.url, authorization=target.authorization), ()
    except ScrapeFailed as failure:
        reason = f"{failure.tried}: {failure.seen} ({failure.remedy})"
        return {}, (f"no server metrics: {reason}",)


def compile_lines(log: Path, from_byte: int, engine: str) -> tuple[str, ...]:
    """Reasons from what the engine logged during the measurement.

    Line by line: a log may be larger than the memory. One that became shorter was
    emptied meanwhile, as log rotation does, and what it said is gone.
    """
    if engine not in ENGINES:
        return ()
    compiles = re.compile(ENGINES[engine].compiles)
    reasons = []
    try:
        with log.open(encoding="utf-8", errors="replace") as file:
            if file.seek(0, os.SEEK_END) < from_byte:
                return (f"{LOG_REASON}: {log} was emptied meanwhile",)
            file.seek(from_byte)
            for line in file:
                if compiles.search(line):
                    text = one_line(line, LOG_LINE_CHARACTERS)
                    reasons.append(
                        f"the engine compiled during the measurement: {text}"
                    )
    except OSError as error:
        return (f"{LOG_REASON}: {describe_error(error)}",)
    return tuple(reasons)


def busy_limit(recording: Recording) -> float:
    """The share of a core above which a client process is too busy."""
    if recording.no_kernel_times:
        return CLIENT_TOO_BUSY
    return BUSIER_WITH_KERNEL_TIMES * CLIENT_TOO_BUSY


def busy_reasons(recording: Recording) -> tuple[str, ...]:
    """A client that is busy reads late."""
    if recording.client_busy <= busy_limit(recording):
        return ()
    busy = formatting.percent(recording.client_busy)
    limit = formatting.percent(busy_limit(recording))
    processes = formatting.count(recording.processes, "client process")
    effect = "its timestamps are late"
    if not recording.no_kernel_times:
        effect = "it sends late, and reads chunks together"
    reason = (
        f"the client was too busy: {busy} of a core, limit {limit} ({processes}); "
        f"{effect}"
    )
    return (reason,)


def client_values(
    recording: Recording, transcripts: Sequence[Transcript]
) -> dict[str, float]:
    """How the client fared, and in what pieces it received the tokens."""
    absent_ns = sum(end - start for start, end in recording.client_gaps)
    values = {
        "busy": recording.client_busy,
        "processes": float(recording.processes),
        "absent_ms": absent_ns / NS_PER_MS,
    }
    waits_ms = validity.lateness_ms(transcripts)
    if len(waits_ms):
        values["late_median_ms"] = float(np.median(waits_ms))
        values["late_max_ms"] = float(np.max(waits_ms))
    values |= read_values(recording)
    good = completed(transcripts)
    for name, value in (
        ("tokens_per_chunk", tokens_per_chunk(good)),
        ("short_gap_share", short_gap_share(good)),
    ):
        if value is not None:
            values[name] = value
    return values


def read_values(recording: Recording) -> dict[str, float]:
    """Whose the times are, and how late the client read what the kernel had received."""
    values = {"kernel_times": float(not recording.no_kernel_times)}
    delays = []
    for record in recording.requests:
        client_ns = np.asarray(record.reads.client_ns)
        if len(client_ns):
            delays.append(client_ns - np.asarray(record.reads.at_ns))
    if delays:
        delays_ms = np.concatenate(delays) / NS_PER_MS
        values["read_delay_median_ms"] = float(np.median(delays_ms))
        values["read_delay_p99_ms"] = float(np.percentile(delays_ms, 99))
        values["read_delay_max_ms"] = float(np.max(delays_ms))
    return values


def request_row(t: Transcript, start_ns: int) -> RequestRow:
    """One request as it is stored."""
    sent_ms = ttft_ms = e2el_ms = None
    output_tokens = len(t.chunk_ns)
    if t.sent_ns is not None:
        sent_ms = (t.sent_ns - start_ns) / NS_PER_MS
    if t.error is None:
        ttft_ms = ttft_ns(t) / NS_PER_MS
        e2el_ms = e2el_ns(t) / NS_PER_MS
        output_tokens = t.output_tokens
    gaps_ms = []
    for gap_ns in itl_ns(t):
        gap_ms = float(gap_ns) / NS_PER_MS
        gaps_ms.append(round(gap_ms, 3))
    return RequestRow(
        scheduled_ms=(t.due_ns - start_ns) / NS_PER_MS,
        sent_ms=sent_ms,
        ttft_ms=ttft_ms,
        e2el_ms=e2el_ms,
        output_tokens=output_tokens,
        itl_ms=tuple(gaps_ms),
        error=t.error,
    )


def vllm_bench_command(target: Target, workload: Workload) -> str:
    """The `vllm bench serve` command line that sends the same pattern, with other prompts."""
    arguments = vllm_bench_arguments(target, workload)
    return shlex.join(["vllm", "bench", "serve", *arguments])


def vllm_bench_arguments(target: Target, workload: Workload) -> list[str]:
    """What follows `vllm bench serve` there."""
    flags = {
        "--backend": "openai",
        "--base-url": target.url,
        "--endpoint": COMPLETIONS,
        "--model": target.served_model,
    }
    if target.tokenizer:
        flags["--tokenizer"] = target.tokenizer
    flags |= dataset_flags(workload)
    flags["--num-prompts"] = str(workload.num_prompts)
    if workload.request_rate is None:
        flags["--request-rate"] = "inf"
    else:
        flags["--request-rate"] = f"{workload.request_rate:g}"
        flags["--burstiness"] = f"{workload.gap_shape:g}"
    if workload.max_concurrency is not None:
        flags["--max-concurrency"] = str(workload.max_concurrency)
    arguments = [word for pair in flags.items() for word in pair]
    arguments += [
        "--ignore-eos",
        "--temperature",
        "0",
        "--seed",
        str(workload.seed),
    ]
    return [*arguments, "--percentile-metrics", "ttft,tpot,itl,e2el"]


def dataset_flags(workload: Workload) -> dict[str, str]:
    """Which prompts, as flags of `vllm bench serve`."""
    prompts = workload.prompts
    if isinstance(prompts, Conversations):
        conversations = math.ceil(workload.num_prompts / prompts.turns)
        return {
            "--dataset-name": "prefix_repetition",
            "--prefix-repetition-prefix-len": str(prompts.first_len_tokens),
            "--prefix-repetition-suffix-len": str(prompts.turn_len_tokens),
            "--prefix-repetition-num-prefixes": str(conversations),
            "--prefix-repetition-output-len": str(prompts.output_len_tokens),
        }
    if isinstance(prompts, Drawn):
        # It has no such distribution: all have the mean lengths.
        return {
            "--dataset-name": "random",
            "--random-output-len": str(prompts.output_len_tokens),
            "--random-input-len": str(prompts.input_len_tokens),
        }
    if not isinstance(prompts, Synthetic):
        name = "custom" if isinstance(prompts, PromptFile) else "sharegpt"
        path = prompts.path
        if isinstance(prompts, Frozen):
            path = prompts.file
        return {"--dataset-name": name, "--dataset-path": path}
    # There, the prefix comes on top of the input length.
    input_tokens = prompts.input_len_tokens - prompts.shared_prefix_tokens
    flags = {
        "--dataset-name": "random",
        "--random-output-len": str(prompts.output_len_tokens),
        "--random-input-len": str(input_tokens),
    }
    if prompts.shared_prefix_tokens:
        flags["--random-prefix-len"] = str(prompts.shared_prefix_tokens)
    ratios = {
        "input": prompts.input_range_ratio,
        "output": prompts.output_range_ratio,
    }
    flags["--random-range-ratio"] = "0"
    if any(ratios.values()):
        flags["--random-range-ratio"] = msgspec.json.encode(ratios).decode()
    return flags
