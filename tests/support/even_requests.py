"""Repetitions with the times of their requests, as a server of even speed gives them."""

from __future__ import annotations

from perfgate.load.measurement import duration_s, metric_values, request_row
from perfgate.load.repetition import Repetition
from perfgate.load.response import Transcript
from perfgate.load.workload import Workload
from tests.support import builders as m

CLOSED = Workload(name="closed-c4", num_prompts=12, max_concurrency=4)
OPEN = Workload(name="rate-8", num_prompts=12, request_rate=8.0)
TTFT_MS, ITL_MS, TOKENS = 20.0, 10.0, 21
REQUEST_MS = TTFT_MS + ITL_MS * (TOKENS - 1)


def sendings(workload: Workload) -> list[float]:
    """When each request leaves: at a rate, or 1 ms after a slot became free."""
    times = []
    for index in range(workload.num_prompts):
        if workload.request_rate is not None:
            times.append(125.0 * index)
            continue
        turn, slot = divmod(index, workload.max_concurrency)
        times.append(slot * 0.5 + turn * (REQUEST_MS + 1))
    return times


def transcripts(workload: Workload) -> list[Transcript]:
    """Requests of 20 ms to the first token and 10 ms to each further one."""
    found = []
    for index, sent_ms in enumerate(sendings(workload)):
        first_ms = sent_ms + TTFT_MS
        chunks_ms = [first_ms + ITL_MS * step for step in range(TOKENS)]
        one = m.transcript(sent_ms, chunks_ms, index=index)
        found.append(one)
    return found


def repetition(workload: Workload, index: int = 0) -> Repetition:
    """A repetition as the suite would have stored it."""
    requests = transcripts(workload)
    last_ms = max(t.last_ns for t in requests) / m.MS
    recording = m.recording(last_ms + 2.0)
    rows = tuple(request_row(t, 0) for t in requests)
    values = metric_values(workload, recording, requests, rows)
    return m.repetition(
        index,
        values | {"energy_per_output_token_j": 0.5},
        requests=rows,
        duration_s=duration_s(recording),
        completed=len(rows),
        input_tokens=8 * len(rows),
        output_tokens=TOKENS * len(rows),
    )
