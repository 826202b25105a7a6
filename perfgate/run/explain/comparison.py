"""Comparison: kernels of the base and of the candidate, those that changed most by name."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from perfgate.results.profile import (
    KernelChange,
    ProfiledPhase,
    ProfiledSteps,
    WorkUnit,
)
from perfgate.run.explain import steps as cutting
from perfgate.run.explain.steps import US_PER_MS, Sum, Totals
from perfgate.run.explain.trace import Trace, UnreadableTrace, read

MOST_KERNELS = 12
NAME_CHARACTERS = 160
TRACES = "*.trace.json*"
_COMMUNICATION = re.compile(
    r"nccl|all_?reduce|all_?gather|reduce_?scatter|all_?to_?all|cross_device_reduce"
    r"|multimem|one_shot|two_shot|c10d::|gloo|broadcast_",
    re.IGNORECASE,
)
# "rank1.1795...", and SGLang's "...-TP-1.trace.json.gz".
_RANK = re.compile(r"(?:rank|TP-)(\d+)")
NOTHING = Sum()


@dataclass(frozen=True)
class Recorded:
    """What the profiler recorded of one launch.

    Attributes:
        phases: of a decode step, of the prefill of a request, or of all of a request.
    """

    unit: WorkUnit
    ranks: int
    phases: Mapping[ProfiledPhase, Totals]
    files: tuple[Path, ...]


def recorded(folder: Path, requests: int) -> Recorded:
    """Read the traces of all ranks of a launch.

    Args:
        requests: that were sent while the profiler ran.

    Raises:
        UnreadableTrace: there is none with work in it, or one is broken.
    """
    ranks: dict[Path, Trace] = {}
    for path in sorted(folder.rglob(TRACES), key=_rank_order):
        trace = read(path)
        if trace.kernels or trace.operators or trace.marks:
            ranks[path] = trace
    ranks = _of_ranks(ranks)
    if not any(trace.kernels or trace.operators for trace in ranks.values()):
        raise UnreadableTrace(
            tried=f"reading traces in {folder}",
            seen="no trace has a kernel or an operator",
            remedy="read the server's log: the profiler may not have started",
        )
    unit: WorkUnit = "operator"
    if any(trace.kernels for trace in ranks.values()):
        unit = "kernel"
    return Recorded(
        unit=unit,
        ranks=len(ranks),
        phases=_phases(list(ranks.values()), requests),
        files=tuple(ranks),
    )


def _of_ranks(traces: Mapping[Path, Trace]) -> dict[Path, Trace]:
    """Those of ranks: a front end that is recorded too has no steps and no kernels.

    Raises:
        UnreadableTrace: a rank has no kernels, and others do.
    """
    on_gpu = any(trace.kernels for trace in traces.values())
    if not on_gpu and not any(trace.marks for trace in traces.values()):
        return dict(traces)
    ranks = {}
    for path, trace in traces.items():
        if on_gpu and not trace.kernels and cutting.names_steps(trace):
            raise UnreadableTrace(
                tried=f"reading the trace {path}",
                seen=f"{path.name} has steps and no kernels, and other ranks have some",
                remedy=(
                    "read the server's log: another profiler may hold the GPU of "
                    "this rank"
                ),
            )
        if trace.kernels or (trace.marks and not on_gpu):
            ranks[path] = trace
    return ranks


def _rank_order(path: Path) -> tuple[int, str]:
    """By the rank that the file's name ends or begins with, 10 after 9."""
    found = _RANK.search(path.name)
    if found is None:
        return 0, path.name
    return int(found[1]), path.name


def _phases(
    traces: Sequence[Trace], requests: int
) -> dict[ProfiledPhase, Totals]:
    decode = []
    prefill = []
    rest = []
    for trace in traces:
        steps = cutting.steps_of(trace)
        decode.append(cutting.decoding(steps))
        prefill.append(cutting.prefilling(steps, requests))
        rest.append(cutting.of_request(trace, requests))
    phases: dict[ProfiledPhase, Totals] = {}
    known: tuple[tuple[ProfiledPhase, Sequence[Totals | None]], ...] = (
        ("decode", decode),
        ("prefill", prefill),
        ("request", rest),
    )
    for name, rows in known:
        totals = [row for row in rows if row is not None]
        if totals:
            waits = tuple(_communication_us(row) for row in totals)
            phases[name] = dataclasses.replace(
                cutting.averaged(totals), communication_us=waits
            )
    return phases


def lost_phase(
    before: Recorded,
    now: Recorded,
    output_tokens: float,
    streams: int,
    measured_ms: Mapping[ProfiledPhase, float],
) -> ProfiledPhase:
    """The phase that costs a request more than before, the larger one.

    While a request is served, each other stream takes a prompt in once, and it waits.
    The profiler may cost one of the launches more in each step. So what a phase lost
    without the profiler counts, where that was measured.

    Args:
        output_tokens: of a request of the load that is explained.
        streams: that the load keeps in flight.
        measured_ms: what a unit of a phase lost without the profiler, where it is known.
    """
    weights: dict[ProfiledPhase, float] = {
        "decode": output_tokens,
        "prefill": streams,
    }
    added: dict[ProfiledPhase, float] = {}
    for name, weight in weights.items():
        if name in before.phases and name in now.phases:
            longer_us = (
                now.phases[name].length_us - before.phases[name].length_us
            )
            if name in measured_ms:
                longer_us = US_PER_MS * measured_ms[name]
            added[name] = weight * longer_us
    if not added:
        return "request"
    return max(added, key=lambda name: added[name])


def changes(before: Totals | None, now: Totals) -> tuple[KernelChange, ...]:
    """Kernels by how much their time changed; without a base by their time."""
    base: Mapping[str, Sum] = {}
    if before is not None:
        base = before.kernels
    rows = []
    for name in now.kernels.keys() | base.keys():
        old, new = base.get(name, NOTHING), now.kernels.get(name, NOTHING)
        rows.append(
            KernelChange(
                name=name[:NAME_CHARACTERS],
                before_ms=old.time_us / US_PER_MS,
                now_ms=new.time_us / US_PER_MS,
                before_count=old.count,
                now_count=new.count,
            )
        )
    rows.sort(key=lambda row: (-abs(row.added_ms), -row.now_ms, row.name))
    return tuple(rows[:MOST_KERNELS])


def profiled_steps(totals: Totals, named_ms: float) -> ProfiledSteps:
    """The steps of one launch.

    Args:
        named_ms: time of a step in the kernels that are listed by name.
    """
    all_us = sum(kernel.time_us for kernel in totals.kernels.values())
    return ProfiledSteps(
        steps=totals.steps,
        batch=totals.batch,
        step_ms=totals.length_us / US_PER_MS,
        idle_ms=(totals.length_us - totals.busy_us) / US_PER_MS,
        communication_ms=_communication_us(totals) / US_PER_MS,
        other_ms=all_us / US_PER_MS - named_ms,
        rank_communication_ms=tuple(
            spent_us / US_PER_MS for spent_us in totals.communication_us
        ),
    )


def _communication_us(totals: Totals) -> float:
    """What a step takes to exchange data, waiting for other ranks included."""
    spent_us = 0.0
    for name, kernel in totals.kernels.items():
        if is_communication(name):
            spent_us += kernel.time_us
    return spent_us


def is_communication(name: str) -> bool:
    """Whether a kernel exchanges data between ranks, by its name."""
    return bool(_COMMUNICATION.search(name))
