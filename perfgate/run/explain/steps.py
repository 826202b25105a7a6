"""Steps: a trace cut into the engine's steps, with the time of each kernel in them.

vLLM and SGLang name each step and say what it prefills and decodes. On a GPU a step
lasts from its first kernel to that of the next one, on the CPU from call to call.
"""

from __future__ import annotations

import bisect
import itertools
import re
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from perfgate.run.explain.trace import Span, Trace

US_PER_MS = 1e3
# Of the steps, at least, must have a range on the GPU's clock.
ON_GPU_SHARE = 0.8
# vLLM: execute_context_1(512)_generation_31(31): requests (tokens) of each kind.
_VLLM = re.compile(r"execute_context_(\d+)\(\d+\)_generation_(\d+)\(\d+\)")
# SGLang: step[EXTEND bs=4 toks=256], step[DECODE bs=32].
_SGLANG = re.compile(r"step\[(\w+) bs=(\d+)")
_SGLANG_PREFILLS = frozenset({"EXTEND", "MIXED", "SPLIT_PREFILL"})
# Of a model that drafts tokens: a part of the step in which they are verified.
_SGLANG_DRAFT = "DRAFT"
_SGLANG_VERIFIED = re.compile(r"step\[(?:TARGET_)?VERIFY ")
_SGLANG_DECODED = re.compile(r"step\[DECODE ")
_SGLANG_IDLE = frozenset({"IDLE", "PREBUILT"})


@dataclass(frozen=True)
class Mark:
    """The begin of a step, and how many requests it prefills and decodes."""

    begin_us: float
    prefills: int
    decodes: int
    thread: tuple[str, str]


@dataclass
class Sum:
    """Time and calls of one kernel."""

    time_us: float = 0.0
    count: float = 0.0


@dataclass
class Step:
    """One step, and what ran in it.

    Attributes:
        busy_us: while anything ran.
    """

    prefills: int
    decodes: int
    length_us: float
    busy_us: float = 0.0
    kernels: dict[str, Sum] = field(default_factory=dict)


@dataclass(frozen=True)
class Totals:
    """Means over the steps of one phase, of one rank or of several.

    Attributes:
        steps: how many were counted. batch: sequences in each; None where they differ.
        kernels: name -> time (us) and count of a step.
        communication_us: of a step, for each of several ranks in their order.
    """

    steps: int
    batch: int | None
    length_us: float
    busy_us: float
    kernels: Mapping[str, Sum]
    communication_us: tuple[float, ...] = ()


def mark_of(span: Span) -> Mark | None:
    """What a named range says of a step; None if it is no step."""
    found = _VLLM.search(span.name)
    if found:
        return Mark(span.begin_us, int(found[1]), int(found[2]), span.thread)
    found = _SGLANG.match(span.name)
    if not found or found[1] in _SGLANG_IDLE:
        return None
    if found[1].startswith(_SGLANG_DRAFT):
        return None
    size = int(found[2])
    if found[1] in _SGLANG_PREFILLS:
        return Mark(span.begin_us, size, 0, span.thread)
    return Mark(span.begin_us, 0, size, span.thread)


def names_steps(trace: Trace) -> bool:
    """Whether a step was called while it was recorded."""
    return any(mark_of(span) is not None for span in trace.marks)


def steps_of(trace: Trace) -> list[Step]:
    """The steps of a rank that have an end; none where the trace names no steps."""
    marks = _marks(trace)
    steps = []
    for mark, following in itertools.pairwise(marks):
        length_us = following.begin_us - mark.begin_us
        steps.append(Step(mark.prefills, mark.decodes, length_us))
    if not steps:
        return []
    edges = [mark.begin_us for mark in marks]
    if trace.kernels:
        _add_kernels(steps, edges, trace.kernels)
    else:
        _add_operators(steps, edges, _of_thread(trace.operators, marks))
    return steps


def _marks(trace: Trace) -> list[Mark]:
    """The begins of steps: on a GPU by their first kernels, where most steps have them.

    A range has an entry on each stream: those of the stream that works most count.
    Elsewhere a step begins with the call; its kernels may follow up to a step later.
    """
    called = _steps_among(trace.marks)
    if not trace.kernels:
        return called
    work: Counter[tuple[str, str]] = Counter()
    for span in trace.kernels:
        work[span.thread] += round(span.end_us - span.begin_us) + 1
    ((stream, _),) = work.most_common(1)
    run = _steps_among(
        span for span in trace.gpu_marks if span.thread == stream
    )
    if len(run) >= ON_GPU_SHARE * len(called):
        return run
    return called


def _steps_among(spans: Iterable[Span]) -> list[Mark]:
    named = list(spans)
    if any(_SGLANG_VERIFIED.match(span.name) for span in named):
        # Then only the draft decodes; up to 0.5.16 its ranges have the same names.
        named = [span for span in named if not _SGLANG_DECODED.match(span.name)]
    marks = [mark for mark in map(mark_of, named) if mark is not None]
    return sorted(marks, key=lambda mark: mark.begin_us)


def of_request(trace: Trace, requests: int) -> Totals | None:
    """All that was recorded, divided by the requests of the load; None if it is nothing."""
    spans = trace.kernels or trace.operators
    if not spans:
        return None
    return _mean([_whole(trace, spans)], requests, None)


def decoding(steps: Sequence[Step]) -> Totals | None:
    """A decode step of the size that occurs most; None if there is none.

    The faster half counts: in the others the machine may have been elsewhere.
    """
    rows = [step for step in steps if step.decodes and not step.prefills]
    if not rows:
        return None
    sizes = Counter(step.decodes for step in rows)
    ((batch, _),) = sizes.most_common(1)
    rows = [step for step in rows if step.decodes == batch]
    longest_us = statistics.median_high(step.length_us for step in rows)
    rows = [step for step in rows if step.length_us <= longest_us]
    return _mean(rows, len(rows), batch)


def prefilling(steps: Sequence[Step], requests: int) -> Totals | None:
    """All prefill steps, divided by the requests of the load; None if there is none."""
    rows = [step for step in steps if step.prefills]
    if not rows:
        return None
    return _mean(rows, requests, None)


def averaged(ranks: Sequence[Totals]) -> Totals:
    """The mean over ranks; at least one."""
    kernels: dict[str, Sum] = {}
    for rank in ranks:
        _add(kernels, rank.kernels, 1 / len(ranks))
    return Totals(
        steps=min(rank.steps for rank in ranks),
        batch=ranks[0].batch,
        length_us=statistics.fmean(rank.length_us for rank in ranks),
        busy_us=statistics.fmean(rank.busy_us for rank in ranks),
        kernels=kernels,
    )


def _whole(trace: Trace, spans: Sequence[Span]) -> Step:
    """All of a trace as one step; on the CPU what the busiest thread ran."""
    begin_us = min(span.begin_us for span in spans)
    end_us = max(span.end_us for span in spans)
    step = Step(0, 0, end_us - begin_us)
    edges = [begin_us, end_us]
    if trace.kernels:
        _add_kernels([step], edges, spans)
        return step
    threads = Counter(span.thread for span in spans)
    ((busiest, _),) = threads.most_common(1)
    own = [span for span in spans if span.thread == busiest]
    _add_operators([step], edges, own)
    return step


def _mean(rows: Sequence[Step], parts: int, batch: int | None) -> Totals:
    kernels: dict[str, Sum] = {}
    for step in rows:
        _add(kernels, step.kernels, 1 / parts)
    return Totals(
        steps=len(rows),
        batch=batch,
        length_us=sum(step.length_us for step in rows) / parts,
        busy_us=sum(step.busy_us for step in rows) / parts,
        kernels=kernels,
    )


def _add(
    total: dict[str, Sum], kernels: Mapping[str, Sum], share: float
) -> None:
    for name, part in kernels.items():
        kernel = total.setdefault(name, Sum())
        kernel.time_us += part.time_us * share
        kernel.count += part.count * share


def _add_kernels(
    steps: Sequence[Step], edges: Sequence[float], spans: Iterable[Span]
) -> None:
    """Add what ran on the GPU; kernels of several streams may overlap."""
    busy_until_us = edges[0]
    for span in sorted(spans, key=lambda span: span.begin_us):
        place = bisect.bisect_right(edges, span.begin_us) - 1
        if not 0 <= place < len(steps):
            continue
        length_us = span.end_us - span.begin_us
        _count(steps[place], span.name, length_us)
        begin_us = max(span.begin_us, busy_until_us)
        steps[place].busy_us += max(0.0, span.end_us - begin_us)
        busy_until_us = max(busy_until_us, span.end_us)


def _add_operators(
    steps: Sequence[Step], edges: Sequence[float], spans: Iterable[Span]
) -> None:
    """Add what ran on a thread, each operator without those that it called."""
    ordered = sorted(spans, key=lambda span: (span.begin_us, -span.end_us))
    open_spans: list[tuple[Span, Step]] = []
    for span in ordered:
        place = bisect.bisect_right(edges, span.begin_us) - 1
        while open_spans and open_spans[-1][0].end_us <= span.begin_us:
            open_spans.pop()
        if not 0 <= place < len(steps):
            continue
        step = steps[place]
        length_us = span.end_us - span.begin_us
        _count(step, span.name, length_us)
        if open_spans:
            caller, callers_step = open_spans[-1]
            callers_step.kernels[caller.name].time_us -= length_us
        else:
            step.busy_us += length_us
        open_spans.append((span, step))


def _count(step: Step, name: str, length_us: float) -> None:
    kernel = step.kernels.setdefault(name, Sum())
    kernel.time_us += length_us
    kernel.count += 1


def _of_thread(spans: Sequence[Span], marks: Sequence[Mark]) -> list[Span]:
    """The operators of the thread that runs the steps."""
    return [span for span in spans if span.thread == marks[0].thread]
