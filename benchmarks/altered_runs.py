"""Altered runs: a stored run whose requests, launches or servers are changed by arithmetic.

First tokens and gaps of the stored requests are altered, the slots of a closed loop are
filled anew, and the client's own code computes every metric and looks for stalls. So a
loss shows in whatever it would show in, and an invalid repetition is measured again as
the suite does it: with other prompts, a bounded number of times.

What a run does not store stays as it was: energy, memory, the client's own absences.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt

from perfgate.cases import Load
from perfgate.load import validity
from perfgate.load.client import Recording
from perfgate.load.measurement import duration_s, metric_values, request_row
from perfgate.load.metrics import BUILT_IN
from perfgate.load.repetition import Repetition, RequestRow
from perfgate.load.request_times import NS_PER_MS, NS_PER_S, completed
from perfgate.load.response import Transcript
from perfgate.load.workload import Workload
from perfgate.machine.hardware import Hardware
from perfgate.results import bandwidth
from perfgate.results.schema import Measurement, RunResults
from perfgate.run.launch_runner import EXTRA_REPETITIONS

Gaps = npt.NDArray[np.float64]
FROM_REQUESTS = frozenset(
    row.metric.name for row in BUILT_IN if row.formula is not None
)
PER_GB = "output_throughput_per_gb"
THROUGHPUT = "output_throughput"


@dataclass(frozen=True)
class RequestTimes:
    """One request of one repetition.

    Attributes:
        attempt: number of the repetition, replacements counted.
        index: number of the request in it.
        ttft_ms: time to first token.
        gaps_ms: times between its chunks.
    """

    attempt: int
    index: int
    ttft_ms: float
    gaps_ms: Gaps


@dataclass(frozen=True)
class Pause:
    """Nothing is sent to any stream from `start_ms` on, for `length_ms`."""

    start_ms: float
    length_ms: float


@dataclass(frozen=True)
class Change:
    """What is altered in the requests of a load.

    Attributes:
        alter: makes a request's new times of its old ones; None leaves them.
        pause: of the whole server in a repetition, by its number and its duration in
            ms; None where there is none.
    """

    alter: Callable[[RequestTimes], tuple[float, Gaps]] | None = None
    pause: Callable[[int, float], Pause | None] | None = None


ChangeOf = Callable[[Load], Change | None]


def alter_requests(results: RunResults, change_of: ChangeOf) -> RunResults:
    """The run with other requests in the loads that are to be changed.

    Args:
        change_of: the change of a load; None leaves it as it is.
    """
    measurements = []
    for measurement in results.measurements:
        load = Load(
            server=results.servers[measurement.server].config,
            workload=results.workloads[measurement.workload],
        )
        change = change_of(load)
        if change is not None:
            measurement = _altered(measurement, load, results.hardware, change)
        measurements.append(measurement)
    return msgspec.structs.replace(
        results, measurements=tuple(measurements), verdicts=()
    )


def _altered(
    measurement: Measurement, load: Load, hardware: Hardware, change: Change
) -> Measurement:
    """Its valid repetitions again, and replacements of those that turn out invalid."""
    assert load.workload is not None
    recorded = []
    for repetition in measurement.repetitions:
        if not repetition.invalid and repetition.requests:
            recorded.append(repetition)
    if not recorded:
        return measurement
    wanted, valid = len(recorded), 0
    repetitions: list[Repetition] = []
    while valid < wanted and len(repetitions) < wanted + EXTRA_REPETITIONS:
        attempt = len(repetitions)
        source = recorded[attempt % wanted]
        repetition = rebuild(source, load, hardware, change, attempt)
        repetitions.append(repetition)
        if not repetition.invalid:
            valid += 1
    return msgspec.structs.replace(
        measurement, repetitions=tuple(repetitions), intervals={}
    )


def rebuild(
    repetition: Repetition,
    load: Load,
    hardware: Hardware,
    change: Change,
    attempt: int = 0,
) -> Repetition:
    """A repetition of other requests, with its metrics and the reasons against it."""
    workload = load.workload
    assert workload is not None
    transcripts = list(_transcripts(repetition, workload, change, attempt))
    recording = _recording(repetition, transcripts)
    findings = validity.examine(
        workload,
        transcripts,
        recording,
        repetition.server_values,
        validity.POLICIES[load.server.device],
    )
    rows = tuple(request_row(t, recording.start_ns) for t in transcripts)
    measured = metric_values(workload, recording, transcripts, rows)
    good = completed(transcripts)
    return msgspec.structs.replace(
        repetition,
        index=attempt,
        duration_s=duration_s(recording),
        completed=len(good),
        failed=len(transcripts) - len(good),
        values=_values(repetition, load, hardware, measured),
        invalid=findings.invalid,
        notes=findings.notes,
        requests=rows,
    )


def _values(
    repetition: Repetition,
    load: Load,
    hardware: Hardware,
    measured: dict[str, float],
) -> dict[str, float]:
    """All metrics of a repetition: measured anew, what follows from them, and the rest."""
    assert load.workload is not None
    old = repetition.values
    values = dict(measured)
    for name, value in old.items():
        if name not in FROM_REQUESTS:
            values[name] = value
    if "decode_bandwidth_gb_s" in old:
        values |= bandwidth.values(
            load.server, load.workload, measured, hardware
        )
    if PER_GB in old:
        values[PER_GB] = old[PER_GB] * measured[THROUGHPUT] / old[THROUGHPUT]
    return values


def _recording(
    repetition: Repetition, transcripts: Sequence[Transcript]
) -> Recording:
    """What the client wrote down; it ends as long after the last chunk as it did."""
    last_ms = max(_end_ms(row) for row in repetition.requests)
    rest_ns = repetition.duration_s * NS_PER_S - last_ms * NS_PER_MS
    end_ns = max(t.end_ns for t in transcripts) + max(0, round(rest_ns))
    return Recording(
        start_ns=0,
        end_ns=end_ns,
        requests=(),
        client_busy=repetition.client_values.get("busy", 0.0),
        client_gaps=(),
        processes=int(repetition.client_values.get("processes", 1)),
    )


def _end_ms(row: RequestRow) -> float:
    """When its last chunk came, since the start of the repetition."""
    if row.sent_ms is None or row.e2el_ms is None:
        return 0.0
    return row.sent_ms + row.e2el_ms


class Slots:
    """When the slots of a closed loop become free: as recorded, and as altered.

    Args:
        count: most requests in flight.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._recorded_ms: list[float] = []
        self._altered_ms: list[float] = []

    def sending_ms(self, recorded_ms: float) -> float:
        """When the next request leaves, which left at that time when it was recorded.

        It leaves as long after its slot became free as it did.
        """
        if len(self._altered_ms) < self._count:
            return recorded_ms
        wait_ms = recorded_ms - heapq.heappop(self._recorded_ms)
        return heapq.heappop(self._altered_ms) + wait_ms

    def release(self, recorded_ms: float, altered_ms: float) -> None:
        """A request is complete, at these times."""
        heapq.heappush(self._recorded_ms, recorded_ms)
        heapq.heappush(self._altered_ms, altered_ms)


def _transcripts(
    repetition: Repetition, workload: Workload, change: Change, attempt: int
) -> Iterator[Transcript]:
    """Each request as it would have gone."""
    slots = None
    if workload.request_rate is None and workload.max_concurrency is not None:
        slots = Slots(workload.max_concurrency)
    pause = None
    if change.pause is not None:
        pause = change.pause(attempt, repetition.duration_s * 1e3)
    input_tokens = _shares(repetition.input_tokens, len(repetition.requests))
    for index, row in enumerate(repetition.requests):
        assert row.sent_ms is not None
        assert row.ttft_ms is not None
        sent_ms = row.sent_ms
        if slots is not None:
            sent_ms = slots.sending_ms(row.sent_ms)
        times = RequestTimes(
            attempt, index, row.ttft_ms, np.asarray(row.itl_ms)
        )
        ttft_ms, gaps_ms = times.ttft_ms, times.gaps_ms
        if change.alter is not None:
            ttft_ms, gaps_ms = change.alter(times)
        chunks_ms = (
            sent_ms + ttft_ms + np.concatenate([[0.0], gaps_ms.cumsum()])
        )
        if pause is not None:
            chunks_ms = paused(chunks_ms, sent_ms, pause)
        if slots is not None:
            slots.release(_end_ms(row), float(chunks_ms[-1]))
        due_ms = row.scheduled_ms + sent_ms - row.sent_ms
        chunks_ns = np.rint(chunks_ms * NS_PER_MS).astype(np.int64)
        yield Transcript(
            index=index,
            input_tokens=input_tokens[index],
            output_tokens=row.output_tokens,
            sent_tokens=input_tokens[index],
            asked_tokens=row.output_tokens,
            due_ns=round(due_ms * NS_PER_MS),
            sent_ns=round(sent_ms * NS_PER_MS),
            end_ns=int(chunks_ns[-1]),
            chunk_ns=tuple(chunks_ns.tolist()),
        )


def _shares(total: int, count: int) -> list[int]:
    """A total in so many whole parts that are as equal as can be."""
    share, rest = divmod(total, count)
    return [share + (index < rest) for index in range(count)]


def paused(chunks_ms: Gaps, sent_ms: float, pause: Pause) -> Gaps:
    """A request's chunks where all streams stop for a while.

    What was to come later comes later by what the request waits.
    """
    end_ms = pause.start_ms + pause.length_ms
    wait_ms = max(0.0, end_ms - max(sent_ms, pause.start_ms))
    is_after = chunks_ms >= pause.start_ms
    return np.where(is_after, chunks_ms + wait_ms, chunks_ms)
