"""Precision: the error of a load's figures within a launch, by the repetitions so far.

Launches of one server differ, and no number of repetitions takes that away. A further
repetition pays only while the error within the launch adds to it. So a closed loop is
repeated until its figures are known to a fraction of what launches differ by, and no
more often than its workload says.

A load is cut into parts that follow each other: the waves of a loop in lock-step, the
requests of a single stream, equal times of a steady state. The figures of these parts
tell the error of their mean.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from perfgate.load.repetition import Repetition, RequestRow
from perfgate.load.workload import Arrivals, Workload

MS_PER_S = 1e3
# Relative errors within a launch that add little: launches of one H200 differ by 0.25 %
# in the ITL, 0.8 % in the throughput and 7 % in the TTFT of short prompts.
ITL_ERROR, THROUGHPUT_ERROR, TTFT_ERROR = 0.0015, 0.004, 0.02
PREFILL_ERROR = 0.004
# Fewer do not tell how much parts differ.
FEWEST_PARTS = 8
STEADY_PARTS = 10
# Standard error of a sample's median over that of its mean: sqrt(pi / 2) of normal values.
MEDIAN_OVER_MEAN = 1.25


@dataclass(frozen=True)
class Part:
    """A part of a load: the median gap between chunks, and output tokens a second."""

    itl_ms: float
    tokens_per_s: float


def is_known(workload: Workload, repetitions: Sequence[Repetition]) -> bool:
    """Whether another repetition would add nothing to what the valid ones tell."""
    limits = limits_of(workload)
    valid = [row for row in repetitions if not row.invalid]
    if not limits or not valid:
        return False
    found = errors(workload, valid)
    return all(found.get(name, 1.0) <= limit for name, limit in limits.items())


def limits_of(workload: Workload) -> Mapping[str, float]:
    """The largest error of each figure; none for a load of which every repetition counts.

    A burst is one event, and an open loop's mixture needs all of its time.
    """
    limits: dict[Arrivals, Mapping[str, float]] = {
        "single": {"itl": ITL_ERROR, "ttft": TTFT_ERROR},
        "prefill": {"itl": ITL_ERROR, "ttft": PREFILL_ERROR},
        "closed": {"itl": ITL_ERROR, "throughput": THROUGHPUT_ERROR},
        "steady": {"itl": ITL_ERROR, "throughput": THROUGHPUT_ERROR},
    }
    return limits.get(workload.arrivals, {})


def errors(
    workload: Workload, repetitions: Sequence[Repetition]
) -> dict[str, float]:
    """Relative errors of the figures over all of these repetitions; empty of too few parts."""
    parts: list[Part] = []
    ttfts_ms: list[float] = []
    for repetition in repetitions:
        parts += parts_of(workload, repetition)
        for row in repetition.requests:
            if row.ttft_ms is not None:
                ttfts_ms.append(row.ttft_ms)
    if len(parts) < FEWEST_PARTS or len(ttfts_ms) < FEWEST_PARTS:
        return {}
    return {
        "itl": _error([part.itl_ms for part in parts]),
        "throughput": _error([part.tokens_per_s for part in parts]),
        "ttft": MEDIAN_OVER_MEAN * _error(ttfts_ms),
    }


def _error(values: Sequence[float]) -> float:
    """Standard error of the mean over the mean; infinite where the mean is zero.

    Gaps are zero where several tokens come in one chunk.
    """
    mean = statistics.fmean(values)
    if not mean:
        return math.inf
    spread = statistics.stdev(values) / len(values) ** 0.5
    return float(spread / mean)


def parts_of(workload: Workload, repetition: Repetition) -> Iterator[Part]:
    """The parts of one repetition; none where a request has no times."""
    rows = []
    for row in repetition.requests:
        if row.sent_ms is not None and row.ttft_ms is not None and row.itl_ms:
            rows.append(row)
    rows.sort(key=lambda row: row.sent_ms or 0.0)
    if workload.staggered:
        yield from _equal_times(rows, workload.first_wave)
        return
    slots = workload.max_concurrency or 1
    for place in range(0, len(rows) - slots + 1, slots):
        yield _wave(rows[place : place + slots])


def _wave(rows: Sequence[RequestRow]) -> Part:
    """Requests that are answered together: from the first sending to the last token."""
    start_ms = min(row.sent_ms or 0.0 for row in rows)
    end_ms = max(_chunks_ms(row)[-1] for row in rows)
    gaps_ms = np.concatenate([row.itl_ms for row in rows])
    tokens = sum(row.output_tokens for row in rows)
    return Part(
        itl_ms=float(np.median(gaps_ms)),
        tokens_per_s=MS_PER_S * tokens / (end_ms - start_ms),
    )


def _equal_times(rows: Sequence[RequestRow], first_wave: int) -> Iterator[Part]:
    """Equal times between the end of the first wave and the last sending.

    A chunk counts as one token. A part in which no gap ends is left out.
    """
    if len(rows) <= first_wave:
        return
    chunks_ms = [_chunks_ms(row) for row in rows]
    start_ms = max(times_ms[-1] for times_ms in chunks_ms[:first_wave])
    end_ms = rows[-1].sent_ms or 0.0
    if end_ms <= start_ms:
        return
    # Of all requests, by chunk: when it came, and the gap before it. The first chunk of a
    # request has none.
    times_ms = np.concatenate(chunks_ms)
    gaps_ms = np.concatenate(
        [np.diff(times, prepend=np.nan) for times in chunks_ms]
    )
    edges_ms = np.linspace(start_ms, end_ms, STEADY_PARTS + 1)
    for low_ms, high_ms in itertools.pairwise(edges_ms):
        is_within = (times_ms > low_ms) & (times_ms <= high_ms)
        part_gaps_ms = gaps_ms[is_within & np.isfinite(gaps_ms)]
        if not len(part_gaps_ms):
            continue
        chunk_count = int(is_within.sum())
        yield Part(
            itl_ms=float(np.median(part_gaps_ms)),
            tokens_per_s=MS_PER_S * chunk_count / float(high_ms - low_ms),
        )


def _chunks_ms(row: RequestRow) -> np.ndarray:
    """When each chunk came, since the start of the repetition: shape (chunks,)."""
    first_ms = (row.sent_ms or 0.0) + (row.ttft_ms or 0.0)
    return first_ms + np.concatenate([[0.0], np.cumsum(row.itl_ms)])
