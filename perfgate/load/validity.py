"""May this measurement be judged at all?

Each rule looks at what was recorded and gives reasons; a measurement with a reason is
INVALID and proves nothing, good or bad. What is worth saying but spoils nothing becomes
a note.

A stall is a gap in which every stream is silent at once: a kernel is compiled, a
collector runs, a neighbour takes the machine. It moves throughput by its whole length
and the ITL median not at all. The rule, for the gap between two consecutive chunks of
any stream while at least one stream is in flight:

* The gap is measured from the later of the previous chunk and the moment from which a request was in flight, so an open
  loop's idle time is no gap.
* Expected is one decode step (the run's ITL median) and, for each request that waits for its first token during the
  gap, what one such request typically costs in this run: the median over the requests of (TTFT - step) / (requests that
  waited meanwhile). Taking requests in and prefilling them stops decoding legitimately: on an H200 a wave of 32 prompts
  of 128 tokens silences all streams for 80 ms and then for 60 ms more, while a step takes 5 ms.
* It is a stall above `stall_factor` times what is expected, and above an absolute floor that ordinary scheduling does
  not reach on that kind of machine.
* It is the client's own absence, and not the server's silence, if the client's heartbeat (every 5 ms) was missing for
  at least half of the gap: a note, or invalid where all its absences sum to more than `client_absent_share` of the run
  and to more than 50 ms.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from perfgate.load.client import Recording
from perfgate.load.request_times import completed, itl_ns
from perfgate.load.response import Transcript
from perfgate.load.workload import Workload

MS = 1_000_000
Ns = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Policy:
    """The limits of the rules.

    Attributes:
        stall_floor_ms: no shorter gap is a stall.
        stall_factor: times what is expected of the gap.
        client_absent_share: of the run, in which the client did not run at all.
        late_floor_ms, late_gap_share: an open loop's p99 lateness may be this much, or
            this share of the mean gap between arrivals, whichever is more.
        prefix_hit_share: of the input tokens; engines that cache single tokens find
            some by chance.
    """

    stall_floor_ms: float
    stall_factor: float
    client_absent_share: float
    late_floor_ms: float
    late_gap_share: float = 0.25
    prefix_hit_share: float = 0.01


POLICIES = {
    # A GPU host has cores to spare: hiccups there stay below 40 ms, decode steps at 5
    # to 25 ms.
    "cuda": Policy(
        stall_floor_ms=40, stall_factor=3, client_absent_share=0.01, late_floor_ms=5
    ),
    # The engine takes every core: client and engine are scheduled away for tens of ms
    # all the time.
    "cpu": Policy(
        stall_floor_ms=300, stall_factor=5, client_absent_share=0.1, late_floor_ms=100
    ),
}


@dataclass(frozen=True)
class Stall:
    """A gap in which all streams were silent; times since the start of the run."""

    start_ms: float
    length_ms: float
    expected_ms: float
    streams: int
    client_absent: bool


@dataclass(frozen=True)
class Spans:
    """When requests were sent, had their first chunk and their last, each sorted."""

    sent: Ns
    first: Ns
    last: Ns

    @classmethod
    def of(cls, transcripts: Sequence[Transcript]) -> Spans:
        """Of those requests that were sent and had a token."""
        rows = [
            (t.sent_ns, t.first_ns, t.last_ns)
            for t in transcripts
            if t.sent_ns is not None and t.chunk_ns
        ]
        return cls(
            *(
                np.sort(np.array(column, dtype=np.int64))
                for column in zip(*rows, strict=True)
            )
        )


def find_stalls(
    transcripts: Sequence[Transcript], recording: Recording, policy: Policy
) -> list[Stall]:
    """All gaps that break the rule in the module's docstring, in order."""
    good = completed(transcripts)
    if not good:
        return []
    spans = Spans.of(good)
    starts, ends = silences(good, spans)
    gaps = np.concatenate([itl_ns(t) for t in good])
    # One-token answers have no ITL: then only waiting is expected.
    step = float(np.median(gaps)) if len(gaps) else 0.0
    expected = step + waiting_during(spans, starts, ends) * cost_of_one(
        good, spans, step
    )
    limit = np.maximum(policy.stall_floor_ms * MS, policy.stall_factor * expected)
    found = []
    for i in np.flatnonzero(ends - starts > limit):
        start, end = int(starts[i]), int(ends[i])
        in_flight = int(
            np.searchsorted(spans.sent, start, "right")
            - np.searchsorted(spans.last, start, "right")
        )
        absent = overlap(recording.client_gaps, start, end) >= (end - start) / 2
        at, length = (start - recording.start_ns) / MS, (end - start) / MS
        found.append(
            Stall(at, length, float(expected[i]) / MS, max(1, in_flight), absent)
        )
    return found


def silences(good: Sequence[Transcript], spans: Spans) -> tuple[Ns, Ns]:
    """(starts, ends) of all gaps between consecutive chunks while something was in flight, and those before a first."""
    chunks = np.sort(
        np.concatenate([np.asarray(t.chunk_ns, dtype=np.int64) for t in good])
    )
    starts, ends = np.concatenate([spans.sent[:1], chunks[:-1]]), chunks
    in_flight = np.searchsorted(spans.sent, starts, "right") - np.searchsorted(
        spans.last, starts, "right"
    )
    # Nothing in flight: the gap starts when the next request is sent.
    following = spans.sent[
        np.minimum(np.searchsorted(spans.sent, starts, "right"), len(spans.sent) - 1)
    ]
    starts = np.where(
        in_flight > 0, starts, np.minimum(np.maximum(starts, following), ends)
    )
    return starts, ends


def waiting_during(spans: Spans, starts: Ns, ends: Ns) -> Ns:
    """How many requests waited for their first token at some time of each interval."""
    return np.searchsorted(spans.sent, ends, "right") - np.searchsorted(
        spans.first, starts, "right"
    )


def cost_of_one(good: Sequence[Transcript], spans: Spans, step: float) -> float:
    """What one waiting request adds to a silence, ns: median of (TTFT - step) / requests that waited meanwhile."""
    sent = np.array([t.sent_ns for t in good], dtype=np.int64)
    first = np.array([t.first_ns for t in good], dtype=np.int64)
    # From just before it was sent, so that it counts itself.
    waited = waiting_during(spans, sent - 1, first)
    return float(np.median(np.maximum(first - sent - step, 0) / np.maximum(waited, 1)))


def overlap(gaps: Sequence[tuple[int, int]], start: int, end: int) -> int:
    """Total ns of [start, end] that lie in the gaps."""
    return sum(max(0, min(end, b) - max(start, a)) for a, b in gaps)


def lateness_ms(transcripts: Sequence[Transcript]) -> npt.NDArray[np.float64]:
    """How long after it was due each request left, ms."""
    return np.array(
        [(t.sent_ns - t.due_ns) / MS for t in transcripts if t.sent_ns is not None]
    )


@dataclass(frozen=True)
class Findings:
    """What the rules say: reasons make the measurement invalid, notes do not."""

    invalid: tuple[str, ...]
    notes: tuple[str, ...]


def examine(
    workload: Workload,
    transcripts: Sequence[Transcript],
    recording: Recording,
    server_values: dict[str, float],
    policy: Policy,
) -> Findings:
    """Apply every rule."""
    invalid = [
        *failures(transcripts),
        *wrong_counts(transcripts),
        *served(workload, transcripts, server_values, policy),
    ]
    notes = merged_chunks(transcripts)
    stalls = find_stalls(transcripts, recording, policy)
    invalid += [describe(stall) for stall in stalls if not stall.client_absent][:5]
    notes += [
        f"the client itself did not run: {describe(stall)}"
        for stall in stalls
        if stall.client_absent
    ][:5]
    absent = sum(end - start for start, end in recording.client_gaps)
    if absent > max(
        50 * MS, policy.client_absent_share * (recording.end_ns - recording.start_ns)
    ):
        invalid.append(
            f"the client did not run for {absent / MS:.0f} ms in all: its "
            "machine is too busy to measure on"
        )
    invalid += late(workload, transcripts, policy)
    if recording.processes > 1:
        notes.append(sent_by(workload, recording.processes))
    return Findings(tuple(invalid), tuple(notes))


def sent_by(workload: Workload, processes: int) -> str:
    """How many processes of the client sent it, and why."""
    if workload.client_processes is not None:
        reason = "as the workload declares (client_processes)"
    else:
        reason = "one would have been too busy"
    return f"sent by {processes} client processes: {reason}"


def describe(stall: Stall) -> str:
    """One stall in words."""
    return (
        f"all {stall.streams} streams fell silent at once for "
        f"{stall.length_ms:.0f} ms, {stall.start_ms / 1e3:.2f} s "
        f"after the start (expected there: {stall.expected_ms:.0f} ms)"
    )


def failures(transcripts: Sequence[Transcript]) -> list[str]:
    """Failed requests by reason, the commonest first."""
    reasons = Counter(t.error for t in transcripts if t.error is not None)
    return [
        f"{count} of {len(transcripts)} requests failed: {reason}"
        for reason, count in reasons.most_common(5)
    ]


def wrong_counts(transcripts: Sequence[Transcript]) -> list[str]:
    """Tokens in or out that differ from what was asked for."""
    reasons = []
    good = completed(transcripts)
    short = [t for t in good if t.output_tokens != t.asked_tokens]
    if short:
        t = short[0]
        detail = f"request {t.index}: asked {t.asked_tokens}, got {t.output_tokens}"
        reasons.append(
            f"{len(short)} requests have other output lengths than asked for ({detail})"
        )
    more = [t for t in good if len(t.chunk_ns) > t.output_tokens]
    if more:
        t = more[0]
        detail = (
            f"request {t.index}: {len(t.chunk_ns)} chunks, {t.output_tokens} tokens"
        )
        reasons.append(
            f"{len(more)} requests came in more chunks than tokens, so that no "
            f"gap is a token's ({detail})"
        )
    other = [t for t in good if t.input_tokens != t.sent_tokens]
    if other:
        t = other[0]
        detail = f"request {t.index}: sent {t.sent_tokens}, counted {t.input_tokens}"
        reasons.append(
            "the server counts other input lengths than were sent in "
            f"{len(other)} requests ({detail})"
        )
    return reasons


def merged_chunks(transcripts: Sequence[Transcript]) -> list[str]:
    """Chunks that carry several tokens: then ITL is a time per chunk."""
    good = completed(transcripts)
    tokens, chunks = (
        sum(t.output_tokens for t in good),
        sum(len(t.chunk_ns) for t in good),
    )
    if tokens <= chunks:
        return []
    return [
        (
            f"{tokens} tokens came in {chunks} chunks, some of several tokens: ITL "
            "is per chunk, not per token"
        )
    ]


def served(
    workload: Workload,
    transcripts: Sequence[Transcript],
    server_values: dict[str, float],
    policy: Policy,
) -> list[str]:
    """What the server's own counters reveal."""
    reasons = []
    preempted = server_values.get("preemptions", 0.0)
    if preempted > 0:
        reasons.append(
            f"the engine preempted {preempted:.0f} requests: its KV cache was "
            "too small for the workload"
        )
    hits = server_values.get("prefix_cache_hit_tokens", 0.0)
    sent = sum(t.sent_tokens for t in transcripts)
    if hits > policy.prefix_hit_share * sent and not workload.shares_prefixes:
        reasons.append(
            f"the prefix cache answered {hits:.0f} of {sent} input tokens: these "
            "prompts were sent before"
        )
    return reasons


def late(
    workload: Workload, transcripts: Sequence[Transcript], policy: Policy
) -> list[str]:
    """An open loop must send when it is due, not when it can."""
    waits = lateness_ms(transcripts)
    if workload.request_rate is None or not len(waits):
        return []
    p99 = float(np.percentile(waits, 99))
    limit = max(
        policy.late_floor_ms, policy.late_gap_share * 1e3 / workload.request_rate
    )
    if p99 <= limit:
        return []
    return [
        (
            f"the client fell behind: requests left up to {p99:.0f} ms late at p99, "
            f"{limit:.0f} ms is allowed"
        )
    ]
