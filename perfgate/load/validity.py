"""Validity of a repetition: reasons why it is invalid (stalls, lateness, ...), and notes.

Each rule reads what was recorded and gives reasons; a repetition with a reason is
INVALID and proves nothing, good or bad. What spoils nothing becomes a note.

A stall is a gap in which every stream is silent at once: a kernel is compiled, a
collector runs, a neighbour takes the machine. It moves throughput by its whole length
and the ITL median not at all. The rule, for the gap between two consecutive chunks of
any stream while at least one stream is in flight:

* The gap counts from the later of the previous chunk and the moment from which a
  request was in flight, so that an open loop's idle time is no gap.
* Expected is one decode step (the run's ITL median) and, for each request that waits
  for its first token during the gap, what one such request typically costs in this
  run: the median over the requests of (TTFT - step) / (requests that waited meanwhile).
  Taking requests in and prefilling them stops decoding legitimately: on an H200 a wave
  of 32 prompts of 128 tokens silences all streams for 80 ms and then for 60 ms more,
  while a step takes 5 ms.
* It is a stall above `stall_factor` times what is expected, and above an absolute
  floor that ordinary scheduling does not reach on that kind of machine.
* Stalls that sum to less than `stall_share` of the run move no judged value by more than
  launches differ: they are notes. A request rate lasts 15 to 100 s, and a GPU host is
  away for 41 to 48 ms now and then.
* It is the client's own absence, and not the server's silence, if the client's
  heartbeat (every 10 ms) was missing for at least half of the gap. That is a note.

A client that did not run spoils what it did itself. The kernel knows when data came, so
that an absence is no reason by itself: what counts are chunks of one stream that were
read together, whose times are not known, and slots that stayed empty. Where times are
the client's own, they are late as well: there the absences are a reason if they sum to
more than `client_absent_share` of the run and to more than 50 ms.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from perfgate import formatting
from perfgate.load.client import CLIENT_TIMES, Recording
from perfgate.load.request_times import Window, completed, itl_ns
from perfgate.load.response import Transcript
from perfgate.load.server_metrics import counter_of
from perfgate.load.workload import Workload

MS = 1_000_000
MOST_SHOWN = 5  # stalls, or reasons of failed requests
ABSENT_FLOOR_NS = 50 * MS
Ns = npt.NDArray[np.int64]
Floats = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Policy:
    """The limits of the rules.

    Attributes:
        stall_floor_ms: no shorter gap is a stall.
        stall_factor: times what is expected of the gap.
        client_absent_share: of the run, in which the client did not run at all, or did
            not fill its slots; of the chunks, which it read together for that.
        late_floor_ms, late_gap_share: an open loop's p99 lateness may be this much, or
            this share of the mean gap between arrivals, whichever is more.
        prefix_hit_share: of the input tokens; engines that cache single tokens find
            some by chance.
        stall_share: of the run, up to which stalls do not matter.
    """

    stall_floor_ms: float
    stall_factor: float
    client_absent_share: float
    late_floor_ms: float
    late_gap_share: float = 0.25
    prefix_hit_share: float = 0.01
    stall_share: float = 0.0


POLICIES = {
    # A GPU host has cores to spare: hiccups there stay below 40 ms, decode steps at 5
    # to 25 ms.
    "cuda": Policy(
        stall_floor_ms=40,
        stall_factor=3,
        stall_share=0.003,
        client_absent_share=0.01,
        late_floor_ms=5,
    ),
    # The engine takes every core: client and engine are scheduled away for tens of ms
    # all the time.
    "cpu": Policy(
        stall_floor_ms=300,
        stall_factor=5,
        client_absent_share=0.1,
        late_floor_ms=100,
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

    sending: Ns
    first: Ns
    last: Ns

    @classmethod
    def of_requests(cls, transcripts: Sequence[Transcript]) -> Spans:
        """Of those requests that were sent and had a token."""
        sending = []
        first = []
        last = []
        for t in transcripts:
            if t.sent_ns is not None and t.chunk_ns:
                sending.append(t.sent_ns)
                first.append(t.first_ns)
                last.append(t.last_ns)
        return cls(_sorted(sending), _sorted(first), _sorted(last))

    def in_flight(self, moments: Ns) -> Ns:
        """How many requests were in flight at each moment."""
        started = np.searchsorted(self.sending, moments, "right")
        complete = np.searchsorted(self.last, moments, "right")
        return started - complete

    def waiting(self, starts: Ns, ends: Ns) -> Ns:
        """How many requests waited for their first token at some time of each interval."""
        started = np.searchsorted(self.sending, ends, "right")
        answered = np.searchsorted(self.first, starts, "right")
        return started - answered


def _sorted(times_ns: Sequence[int]) -> Ns:
    return np.sort(np.array(times_ns, dtype=np.int64))


def find_stalls(
    transcripts: Sequence[Transcript], recording: Recording, policy: Policy
) -> list[Stall]:
    """All gaps that break the rule in the module's docstring, in order."""
    good = completed(transcripts)
    if not good:
        return []
    spans = Spans.of_requests(good)
    starts, ends = silences(good, spans)
    expected = expected_ns(good, spans, starts, ends)
    limit = np.maximum(
        policy.stall_floor_ms * MS, policy.stall_factor * expected
    )
    in_flight = spans.in_flight(starts)
    stalls = []
    for i in np.flatnonzero(ends - starts > limit):
        start = int(starts[i])
        end = int(ends[i])
        absent_ns = overlap(recording.client_gaps, start, end)
        stall = Stall(
            start_ms=(start - recording.start_ns) / MS,
            length_ms=(end - start) / MS,
            expected_ms=float(expected[i]) / MS,
            streams=max(1, int(in_flight[i])),
            client_absent=absent_ns >= (end - start) / 2,
        )
        stalls.append(stall)
    return stalls


def silences(good: Sequence[Transcript], spans: Spans) -> tuple[Ns, Ns]:
    """(starts, ends) of all gaps between consecutive chunks, and of those before a first.

    Only while something was in flight: where nothing is, the gap starts when the next
    request is sent.
    """
    chunks = [np.asarray(t.chunk_ns, dtype=np.int64) for t in good]
    ends = np.sort(np.concatenate(chunks))
    starts = np.concatenate([spans.sending[:1], ends[:-1]])
    following = np.searchsorted(spans.sending, starts, "right")
    last = len(spans.sending) - 1
    next_sent = spans.sending[np.minimum(following, last)]
    from_sending = np.minimum(np.maximum(starts, next_sent), ends)
    return np.where(spans.in_flight(starts) > 0, starts, from_sending), ends


def expected_ns(
    good: Sequence[Transcript], spans: Spans, starts: Ns, ends: Ns
) -> Floats:
    """How long each silence may be: one decode step, and the requests that wait."""
    gaps = np.concatenate([itl_ns(t) for t in good])
    step = 0.0
    # One-token answers have no ITL: then only waiting is expected.
    if len(gaps):
        step = float(np.median(gaps))
    waiting = spans.waiting(starts, ends)
    return step + waiting * cost_of_one(good, spans, step)


def cost_of_one(good: Sequence[Transcript], spans: Spans, step: float) -> float:
    """Silence that one waiting request adds, ns.

    The median of (TTFT - step) / requests that waited meanwhile.
    """
    sending = np.array([t.sent_ns for t in good], dtype=np.int64)
    first = np.array([t.first_ns for t in good], dtype=np.int64)
    # From just before it was sent, so that it counts itself.
    waiting = np.maximum(spans.waiting(sending - 1, first), 1)
    beyond_step = np.maximum(first - sending - step, 0)
    return float(np.median(beyond_step / waiting))


def overlap(gaps: Sequence[Window], start: int, end: int) -> int:
    """Total ns of [start, end] that lie in the gaps."""
    total = 0
    for gap_start, gap_end in gaps:
        common_start = max(start, gap_start)
        common_end = min(end, gap_end)
        total += max(0, common_end - common_start)
    return total


def lateness_ms(transcripts: Sequence[Transcript]) -> Floats:
    """How long after it was due each request left, ms."""
    waits = []
    for t in transcripts:
        if t.sent_ns is not None:
            waits.append((t.sent_ns - t.due_ns) / MS)
    return np.array(waits)


@dataclass(frozen=True)
class Findings:
    """Result of the rules: reasons make the repetition invalid, notes do not."""

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
    stalls = find_stalls(transcripts, recording, policy)
    server_stalls, stall_notes = stall_texts(stalls, recording, policy)
    invalid = [
        *failures(transcripts),
        *wrong_counts(transcripts),
        *counter_reasons(workload, transcripts, server_values, policy),
        *server_stalls[:MOST_SHOWN],
        *absence_reasons(workload, transcripts, recording, policy),
        *lateness_reasons(workload, transcripts, policy),
    ]
    notes = [
        *merged_chunks(transcripts),
        *stall_notes[:MOST_SHOWN],
        *process_notes(workload, recording),
        *time_notes(recording),
    ]
    return Findings(tuple(invalid), tuple(notes))


def stall_texts(
    stalls: Sequence[Stall], recording: Recording, policy: Policy
) -> tuple[list[str], list[str]]:
    """Those that spoil the repetition, and those that are notes."""
    of_server = []
    notes = []
    length_ms = 0.0
    for stall in stalls:
        if stall.client_absent:
            notes.append(f"the client itself did not run: {describe(stall)}")
        else:
            of_server.append(describe(stall))
            length_ms += stall.length_ms
    share = length_ms * MS / max(1, recording.end_ns - recording.start_ns)
    if share > policy.stall_share:
        return of_server, notes
    for text in of_server:
        notes.append(f"{text}: {formatting.percent(share)} of the load")
    return [], notes


def describe(stall: Stall) -> str:
    """One stall as a sentence."""
    return (
        f"all {stall.streams} streams fell silent at once for {stall.length_ms:.0f} ms, "
        f"{stall.start_ms / 1e3:.2f} s after the start (expected: "
        f"{stall.expected_ms:.0f} ms)"
    )


def failures(transcripts: Sequence[Transcript]) -> list[str]:
    """Failed requests by reason, the commonest first."""
    counts = Counter(t.error for t in transcripts if t.error is not None)
    reasons = []
    for error, count in counts.most_common(MOST_SHOWN):
        reasons.append(
            f"{count} of {len(transcripts)} requests failed: {error}"
        )
    return reasons


def wrong_counts(transcripts: Sequence[Transcript]) -> list[str]:
    """Tokens in or out that differ from what was asked for."""
    reasons = []
    good = completed(transcripts)
    short = [t for t in good if t.output_tokens != t.asked_tokens]
    if short:
        t = short[0]
        detail = (
            f"request {t.index}: requested {t.asked_tokens} tokens, got "
            f"{t.output_tokens}"
        )
        count = formatting.count(len(short), "request")
        reasons.append(
            f"{count} with another output length than requested ({detail})"
        )
    split = [t for t in good if len(t.chunk_ns) > t.output_tokens]
    if split:
        t = split[0]
        chunks = len(t.chunk_ns)
        detail = f"request {t.index}: {chunks} chunks, {t.output_tokens} tokens"
        count = formatting.count(len(split), "request")
        reasons.append(
            f"{count} with more chunks than tokens: a gap is not the time of a token "
            f"({detail})"
        )
    miscounted = [t for t in good if t.input_tokens != t.sent_tokens]
    if miscounted:
        t = miscounted[0]
        detail = (
            f"request {t.index}: sent {t.sent_tokens} tokens, the server counted "
            f"{t.input_tokens}"
        )
        count = formatting.count(len(miscounted), "request")
        reasons.append(
            f"{count} with another input length than sent ({detail})"
        )
    return reasons


def merged_chunks(transcripts: Sequence[Transcript]) -> list[str]:
    """Chunks that carry several tokens: then ITL is a time per chunk."""
    good = completed(transcripts)
    tokens = sum(t.output_tokens for t in good)
    chunks = sum(len(t.chunk_ns) for t in good)
    if tokens <= chunks:
        return []
    note = (
        f"{tokens} tokens came in {chunks} chunks, some of several tokens: ITL "
        "is per chunk, not per token"
    )
    return [note]


def counter_reasons(
    workload: Workload,
    transcripts: Sequence[Transcript],
    server_values: dict[str, float],
    policy: Policy,
) -> list[str]:
    """Preemptions and prefix-cache hits, by the server's own counters."""
    reasons = []
    preempted = server_values.get("preemptions", 0.0)
    if preempted > 0 and workload.doubles_to is None:
        reasons.append(
            f"the engine preempted {preempted:.0f} requests: its KV cache was "
            "too small for the workload"
        )
    hits = server_values.get("prefix_cache_hit_tokens", 0.0)
    input_tokens = sum(t.sent_tokens for t in transcripts)
    limit = policy.prefix_hit_share * input_tokens
    if hits > limit and not workload.shares_prefixes:
        reasons.append(
            f"the prefix cache answered {hits:.0f} of {input_tokens} input tokens: "
            "these prompts were sent before"
        )
    return reasons


def unchecked(
    workload: Workload, engine: str, server_values: Mapping[str, float]
) -> tuple[str, ...]:
    """The rules that cannot be applied, for the server does not say what they need."""
    rules = {"preemptions": "preempted requests"}
    if not workload.shares_prefixes:
        rules["prefix_cache_hit_tokens"] = "hits of the prefix cache"
    lines = []
    for name, subject in rules.items():
        if name in server_values:
            continue
        reason = f"no counter of them is known for the engine {engine}"
        counter = counter_of(engine, name)
        if counter:
            reason = f"the server's /metrics has no {counter}"
        lines.append(f"{subject} are not known: {reason}")
    return tuple(lines)


def absence_reasons(
    workload: Workload,
    transcripts: Sequence[Transcript],
    recording: Recording,
    policy: Policy,
) -> list[str]:
    """What a client that did not run, or ran late, has spoilt."""
    if not recording.no_kernel_times:
        return [
            *joined_reasons(transcripts, recording, policy),
            *slot_reasons(workload, transcripts, recording, policy),
        ]
    absent_ns = _absent_ns(recording)
    if absent_ns <= _tolerated_ns(recording, policy):
        return []
    reason = (
        f"the client did not run for a total of {absent_ns / MS:.0f} ms: its "
        "machine is too busy to measure on"
    )
    return [reason]


def _absent_ns(recording: Recording) -> int:
    """How long the client did not run in all."""
    return sum(end - start for start, end in recording.client_gaps)


def _tolerated_ns(recording: Recording, policy: Policy) -> float:
    """How much of the run may be lost by the client."""
    run_ns = recording.end_ns - recording.start_ns
    return max(ABSENT_FLOOR_NS, policy.client_absent_share * run_ns)


def joined_reasons(
    transcripts: Sequence[Transcript], recording: Recording, policy: Policy
) -> list[str]:
    """Chunks of one stream that came while the client did not run have one time."""
    if not recording.client_gaps:
        return []
    starts, ends = np.array(recording.client_gaps, dtype=np.int64).T
    joined = gaps = 0
    for t in completed(transcripts):
        gaps_ns = itl_ns(t)
        gaps += len(gaps_ns)
        times = np.asarray(t.chunk_ns, dtype=np.int64)[1:][gaps_ns == 0]
        following = np.searchsorted(ends, times)
        inside = following < len(ends)
        inside[inside] = starts[following[inside]] <= times[inside]
        joined += int(np.count_nonzero(inside))
    if not gaps or joined <= policy.client_absent_share * gaps:
        return []
    share = formatting.percent(joined / gaps)
    limit = formatting.percent(policy.client_absent_share)
    reason = (
        f"the client did not run for a total of {_absent_ns(recording) / MS:.0f} ms and "
        f"read {share} of the chunks together with the one before, limit {limit}: their "
        "times are not known"
    )
    return [reason]


def slot_reasons(
    workload: Workload,
    transcripts: Sequence[Transcript],
    recording: Recording,
    policy: Policy,
) -> list[str]:
    """A closed loop whose slots stay empty offers less load than it should."""
    if workload.request_rate is not None:
        return []
    slots = workload.max_concurrency or len(transcripts)
    empty_ns = float(np.sum(lateness_ms(transcripts))) * MS / slots
    limit_ns = _tolerated_ns(recording, policy)
    if empty_ns <= limit_ns:
        return []
    reason = (
        f"the client filled its slots late: they were empty for {empty_ns / MS:.0f} ms "
        f"on average, limit {limit_ns / MS:.0f} ms"
    )
    return [reason]


def lateness_reasons(
    workload: Workload, transcripts: Sequence[Transcript], policy: Policy
) -> list[str]:
    """An open loop must send when a request is due, not when it can."""
    waits = lateness_ms(transcripts)
    if workload.request_rate is None or not len(waits):
        return []
    p99_ms = float(np.percentile(waits, 99))
    gap_ms = 1e3 / workload.request_rate
    limit_ms = max(policy.late_floor_ms, policy.late_gap_share * gap_ms)
    if p99_ms <= limit_ms:
        return []
    reason = (
        f"the client fell behind: p99 lateness of its requests {p99_ms:.0f} ms, limit "
        f"{limit_ms:.0f} ms"
    )
    return [reason]


def process_notes(workload: Workload, recording: Recording) -> list[str]:
    """How many client processes sent it, and why, where there were several."""
    if recording.processes == 1:
        return []
    reason = "one would have been too busy"
    if workload.client_processes is not None:
        reason = "as the workload declares (client_processes)"
    return [f"sent by {recording.processes} client processes: {reason}"]


def time_notes(recording: Recording) -> list[str]:
    """Why the times are those at which the client read, where nobody asked for that."""
    reason = recording.no_kernel_times
    if reason in ("", CLIENT_TIMES):
        return []
    return [
        "times are those at which the client read the chunks, not those at which the "
        f"kernel received them: {reason}"
    ]
