"""Saturation: streams are doubled until the throughput stops growing.

One repetition is the whole ramp. Each step is a closed loop of its own; the knee is the
fewest streams that reach nearly the most throughput. Preemptions are a finding here, and
make nothing invalid.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence

import msgspec

from perfgate.load import measurement
from perfgate.load.client import Progress, no_progress
from perfgate.load.measurement import Target
from perfgate.load.multiprocess import send_with
from perfgate.load.repetition import LoadStep, Repetition
from perfgate.load.workload import Workload, build_requests

WAVES = 3  # requests of a step for each stream
GROWTH = 0.05  # of the throughput, that a doubling must give
MOST_IDLE = 2  # doublings in a row that give less: one may be a disturbance
NEAR_MOST = 0.9  # of the throughput, which the knee reaches
WARM_TOKENS = 8  # a stream's answer while a step is warmed up
NEXT_SEED = 1_000_003  # further than any ramp goes
# Of a repetition, carried into its step.
STEP_VALUES = (
    "output_throughput",
    "steady_output_throughput",
    "request_goodput",
    "ttft_median_ms",
    "ttft_p90_ms",
    "tpot_median_ms",
    "itl_median_ms",
    "e2el_median_ms",
)


def steps(workload: Workload) -> Iterator[Workload]:
    """The closed loops of the ramp, smallest first."""
    streams = workload.max_concurrency or 1
    most = workload.doubles_to or streams
    while streams <= most:
        yield msgspec.structs.replace(
            workload,
            max_concurrency=streams,
            num_prompts=WAVES * streams,
            seed=workload.seed + streams,
        )
        streams *= 2


def measure(
    target: Target,
    workload: Workload,
    repetition_index: int,
    *,
    progress: Progress = no_progress,
) -> Repetition:
    """One ramp; its figures are those of the whole, and of each step in `steps`.

    A step that does not count is sent again; the second time it ends the ramp, and makes
    it invalid.
    """
    began_unix_s, began_s = time.time(), time.monotonic()
    parts: list[Repetition] = []
    taken: list[LoadStep] = []
    for step in steps(workload):
        _warm_up(target, step, repetition_index, progress)
        part = _send(target, step, repetition_index, progress)
        parts.append(part)
        taken.append(load_step(step, part))
        if part.invalid or not _still_grows(taken):
            break
    return _joined(parts, taken, began_unix_s, time.monotonic() - began_s)


def _send(
    target: Target, step: Workload, repetition_index: int, progress: Progress
) -> Repetition:
    """One step, with other prompts once more where it does not count."""
    part = measurement.measure(
        target, step, repetition_index, progress=progress
    )
    if not part.invalid or part.failed:
        return part
    again = msgspec.structs.replace(step, seed=step.seed + NEXT_SEED)
    return measurement.measure(
        target, again, repetition_index, progress=progress
    )


def _warm_up(
    target: Target, step: Workload, repetition_index: int, progress: Progress
) -> None:
    """Let the engine meet this batch size: short answers, all at once."""
    requests = build_requests(
        step,
        -1 - repetition_index,
        target.vocab_size,
        count=step.max_concurrency,
    )
    short = []
    for request in requests:
        length = min(WARM_TOKENS, request.output_len_tokens)
        short.append(dataclasses.replace(request, output_len_tokens=length))
    send_with(1, short, measurement.sending(target, step, progress))


def load_step(step: Workload, part: Repetition) -> LoadStep:
    """What one closed loop of the ramp measured."""
    values = {}
    for name in STEP_VALUES:
        if name in part.values:
            values[name] = part.values[name]
    assert step.max_concurrency is not None
    return LoadStep(
        streams=step.max_concurrency,
        tokens_in_flight=round(
            step.max_concurrency
            * (part.input_tokens + part.output_tokens)
            / max(1, part.completed)
        ),
        preemptions=int(part.server_values.get("preemptions", 0)),
        values=values,
    )


def _still_grows(taken: Sequence[LoadStep]) -> bool:
    """Whether one of the last doublings gave enough to try another one."""
    throughputs = [step.values.get("output_throughput", 0.0) for step in taken]
    if len(throughputs) <= MOST_IDLE:
        return True
    before, last = throughputs[:-MOST_IDLE], throughputs[-MOST_IDLE:]
    return max(last) > (1 + GROWTH) * max(before)


def values(taken: Sequence[LoadStep]) -> dict[str, float]:
    """Metrics of the ramp: the most throughput, the knee, and the most goodput."""
    figures: dict[str, float] = {}
    throughputs = _of(taken, "output_throughput")
    if throughputs:
        most = max(throughputs.values())
        figures["saturated_throughput"] = most
        near = []
        for streams, throughput in throughputs.items():
            if throughput >= NEAR_MOST * most:
                near.append(streams)
        figures["knee_streams"] = float(min(near))
    goodputs = _of(taken, "request_goodput")
    if goodputs:
        figures["saturated_goodput"] = max(goodputs.values())
    figures["preemptions_per_step"] = 1.0 + sum(
        step.preemptions for step in taken
    ) / max(1, len(taken))
    return figures


def _of(taken: Sequence[LoadStep], name: str) -> dict[int, float]:
    """Streams -> the value, of the steps that have it."""
    return {
        step.streams: step.values[name] for step in taken if name in step.values
    }


def _joined(
    parts: Sequence[Repetition],
    taken: Sequence[LoadStep],
    began_unix_s: float,
    took_s: float,
) -> Repetition:
    """The ramp as one repetition; without the rows of its requests, which are many."""
    last = parts[-1]

    def each(pick: Callable[[Repetition], tuple[str, ...]]) -> tuple[str, ...]:
        texts: list[str] = []
        for step, part in zip(taken, parts, strict=True):
            for text in pick(part):
                texts.append(f"{step.streams} streams: {text}")
        return tuple(texts)

    return msgspec.structs.replace(
        last,
        started_unix_s=began_unix_s,
        duration_s=took_s,
        completed=sum(part.completed for part in parts),
        failed=sum(part.failed for part in parts),
        input_tokens=sum(part.input_tokens for part in parts),
        output_tokens=sum(part.output_tokens for part in parts),
        values=values(taken),
        invalid=each(lambda part: part.invalid),
        notes=each(lambda part: part.notes),
        requests=(),
        steps=tuple(taken),
    )
