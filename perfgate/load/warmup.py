"""What must a server have answered before its answers count?

The pattern of each workload, until it gets no faster. What engines compile for single
lengths of a prompt is met before (`perfgate.load.ladder`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from perfgate.errors import Failure
from perfgate.load.client import send
from perfgate.load.measurement import Target, sending
from perfgate.load.request_times import e2el_ns
from perfgate.load.response import read
from perfgate.load.workload import Prompts, Workload, build_requests

MAX_PASSES = 3
STILL_GETTING_FASTER = 1.3


class WarmUpFailed(Failure):
    """Requests of a warm-up fail."""


class WarmUpHung(WarmUpFailed):
    """The server hung during a warm-up: `seen` says for how long no stream sent a token."""


def needing(workloads: Sequence[Workload], device: str) -> Sequence[Workload]:
    """Those that are sent once before they count: on GPUs each, since graphs and kernels are made for one size.

    But of open loops with the same prompts only the fastest: as it fills and empties it
    has as many streams at once as the slower ones, whose warm-up takes ten seconds of
    arrivals and more, twice. On the CPU steps of every size run the same code, so that
    the one with the most requests at once stands for all.
    """
    if device != "cuda":
        return sorted(workloads, key=lambda w: w.max_concurrency or 0)[-1:]
    fastest: dict[Prompts, float] = {}
    for workload in workloads:
        if workload.request_rate is not None:
            fastest[workload.prompts] = max(
                workload.request_rate, fastest.get(workload.prompts, 0.0)
            )
    return [
        w
        for w in workloads
        if w.request_rate is None or w.request_rate == fastest[w.prompts]
    ]


def warm_up(
    target: Target,
    workload: Workload,
    *,
    progress: Callable[[int, int], None] = lambda _d, _t: None,
) -> None:
    """Send the workload's own pattern, with fewer prompts, until its requests no longer get faster.

    Two passes at least (one cannot show that it was not the slow one), three at most.
    It is the requests' own mean time that tells: an open loop lasts as long as its
    arrivals do, however fast it is answered.

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
        failed = [t.error for t in transcripts if t.error]
        if failed:
            first = recording.hang or failed[0]
            seen = (
                f"{len(failed)} of {len(requests)} requests failed, the first: {first}"
            )
            kind = WarmUpFailed if recording.hang is None else WarmUpHung
            raise kind(
                f"warm up {target.url} with {workload.name}",
                seen,
                "look at the server's log",
                target.log,
            )
        mean_ns = float(np.mean([e2el_ns(t) for t in transcripts]))
        if number > 1 and previous_ns <= STILL_GETTING_FASTER * mean_ns:
            return
        previous_ns = mean_ns
