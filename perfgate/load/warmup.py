"""Warm-up: the pattern of each workload, sent until it gets no faster.

Kernels that engines compile for single lengths of a prompt are met before
(`perfgate.load.ladder`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from perfgate import web
from perfgate.errors import Failure
from perfgate.load.client import STARVED, Progress, Recording, no_progress, send
from perfgate.load.measurement import Target, sending
from perfgate.load.request_times import e2el_ns
from perfgate.load.response import Transcript, read
from perfgate.load.workload import Prompts, Workload, build_requests

MAX_PASSES = 3
STILL_GETTING_FASTER = 1.3


class WarmUpFailed(Failure):
    """Requests of a warm-up fail."""


class WarmUpHung(WarmUpFailed):
    """The server hung during a warm-up: `seen` has how long no stream sent a token."""


def needing(workloads: Sequence[Workload], device: str) -> Sequence[Workload]:
    """The workloads that are sent once before they count.

    On GPUs each of them, since graphs and kernels are made for one size. Of open loops
    with the same prompts only the fastest: while it fills and empties it passes through
    the batch sizes of the slower ones, whose warm-up takes ten seconds and more, twice.
    On the CPU the one with the most requests at once: steps of every size run the same
    code there.
    """
    if device != "cuda":
        return sorted(workloads, key=lambda w: w.max_concurrency or 0)[-1:]
    fastest: dict[Prompts, float] = {}
    for workload in workloads:
        if workload.request_rate is not None:
            rate = fastest.get(workload.prompts, 0.0)
            fastest[workload.prompts] = max(workload.request_rate, rate)
    warmed = []
    for workload in workloads:
        own_rate = workload.request_rate
        if own_rate is None or own_rate == fastest[workload.prompts]:
            warmed.append(workload)
    return warmed


def warm_up(
    target: Target, workload: Workload, *, progress: Progress = no_progress
) -> None:
    """Send the workload's own pattern, with fewer prompts, until it gets no faster.

    Two passes at least (one cannot show that it was not the slow one), three at most.
    The mean time of the requests decides: an open loop lasts as long as its arrivals
    do, however fast it is answered.

    Raises:
        WarmUpHung: no stream sent a token within the silence timeout.
        WarmUpFailed: requests fail in another way.
    """
    previous_ns = math.inf
    for number in range(1, MAX_PASSES + 1):
        requests = build_requests(
            workload, -number, target.vocab_size, count=workload.warm_up_size()
        )
        recording = send(requests, sending(target, workload, progress))
        transcripts = [read(record) for record in recording.requests]
        _check(target, workload, recording, transcripts)
        mean_ns = float(np.mean([e2el_ns(t) for t in transcripts]))
        if number > 1 and previous_ns <= STILL_GETTING_FASTER * mean_ns:
            return
        previous_ns = mean_ns


def _check(
    target: Target,
    workload: Workload,
    recording: Recording,
    transcripts: Sequence[Transcript],
) -> None:
    """Refuse a pass with failed requests."""
    errors = [t.error for t in transcripts if t.error is not None]
    if not errors:
        return
    kind = WarmUpFailed
    error = errors[0]
    if recording.hang is not None:
        kind = WarmUpHung
        error = recording.hang
    remedy = web.remedy_of(_refused(recording), "look at the server's log")
    if error.startswith(STARVED):
        remedy = "raise that limit, and run again: the server is not the cause"
    raise kind(
        tried=f"warm up {target.url} with {workload.name}",
        seen=f"{len(errors)} of {len(transcripts)} requests failed, the first: {error}",
        remedy=remedy,
        log=target.log,
    )


def _refused(recording: Recording) -> int | None:
    """The status of the first answer that is not a 200; None where there is none."""
    for record in recording.requests:
        if record.status not in (None, 200):
            return record.status
    return None
