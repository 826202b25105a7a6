"""Shared cores: a loss on cores that others took meanwhile is not held for one.

Four busy loops beside an engine on two cores make it three times slower, and no baseline
knows of them. Such a loss may be theirs, so it is not excluded, and it is no regression.
What does not depend on the cores (facts, work, two builds in turns) is judged as ever.

On a host with GPUs most cores are idle, and a neighbour costs less: what waits for the
host loses up to a fifth. Such a loss is INCONCLUSIVE, so that a strict gate on a host with
neighbours does not turn blind, and a larger one is red.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

import msgspec

from perfgate import formatting
from perfgate.cases import Case, Load
from perfgate.judge import wording
from perfgate.judge.observation import RunReader
from perfgate.judge.verdict import Decision, Outcome
from perfgate.load.metrics import Family, family_of
from perfgate.load.repetition import OTHERS_SHARE, Repetition
from perfgate.results.samples import valid_repetitions

TIMES: frozenset[Family] = frozenset(
    {
        "throughput",
        "ttft",
        "itl",
        "tpot",
        "e2el",
        "tail",
        "e2el_tail",
        "bandwidth",
    }
)


# On a host with GPUs: others that use so many cores are neighbours. Two sessions of vLLM
# and SGLang on GPUs of their own used 2.5 to 4 cores of each other's 64 under load, and up
# to 6 while a server started; alone, what else ran used 0.1 to 0.3.
NEIGHBOUR_CORES = 1.0
# Without a count of cores, this share of them.
NEIGHBOUR_SHARE = 0.05
# The most that a neighbour is held for. In unchanged launches starts beside the load cost
# up to 17 % of throughput and 50 % of a TTFT, loads beside it 8 %.
MOST_LOST = 0.20
MOST_TTFT_LOST = 0.60
# They move by less than 1 %: each is of the steps in which nothing waits for the host.
UNMOVED_METRICS = frozenset({"itl_median_ms", "tpot_median_ms"})
UNMOVED_FAMILIES: frozenset[Family] = frozenset({"bandwidth"})
# What may be different without them.
DOUBTFUL = frozenset(
    {Outcome.REGRESSED, Outcome.INCONCLUSIVE, Outcome.NOT_EXCLUDED}
)


def host_notes(decision: Decision, case: Case, reader: RunReader) -> list[str]:
    """What others used of a GPU host's cores, where the verdict may be theirs."""
    is_doubtful = decision.outcome in DOUBTFUL
    if not is_doubtful or family_of(case.metric) not in TIMES:
        return []
    shares = [0.0]
    for load, counted in _loads(case, reader):
        if load.server.device != "cpu":
            for row in counted:
                shares.append(row.client_values.get(OTHERS_SHARE, 0.0))
    if not _are_neighbours(max(shares), reader):
        return []
    cores = _cores_text(max(shares), reader)
    return [wording.HOST_SHARED.format(cores=cores)]


def judged(decision: Decision, case: Case, reader: RunReader) -> Decision:
    """A decision; without the regression where the loss may be that of others."""
    if decision.outcome is not Outcome.REGRESSED:
        return decision
    share = others_share(case, reader)
    if share is not None:
        used = f"{formatting.percent(share)} of the cores"
        outcome, advice = Outcome.NOT_EXCLUDED, wording.QUIET_CORES
        return _in_doubt(decision, outcome, used, advice)
    share = neighbours_share(case, reader)
    if share is None or _is_larger(decision, case):
        return decision
    used = _cores_text(share, reader)
    outcome, advice = Outcome.INCONCLUSIVE, wording.QUIET_HOST
    return _in_doubt(decision, outcome, used, advice)


def _in_doubt(
    decision: Decision, outcome: Outcome, used: str, advice: str
) -> Decision:
    summary = wording.BESIDE_OTHERS.format(summary=decision.summary, used=used)
    return msgspec.structs.replace(
        decision,
        outcome=outcome,
        summary=summary,
        advice=advice,
        needs_launches=0,
    )


def is_beside_others(case: Case, reader: RunReader) -> bool:
    """Whether what a case measured may be slower for what others did meanwhile."""
    if others_share(case, reader) is not None:
        return True
    return neighbours_share(case, reader) is not None


def others_share(case: Case, reader: RunReader) -> float | None:
    """What others used of the cores during a load of the case; None where they did not."""
    if family_of(case.metric) not in TIMES:
        return None
    for _, counted in _loads(case, reader):
        beside = [row for row in counted if row.is_beside_others]
        if len(beside) > len(counted) / 2:
            shares = [row.client_values[OTHERS_SHARE] for row in beside]
            return statistics.median(shares)
    return None


def neighbours_share(case: Case, reader: RunReader) -> float | None:
    """What neighbours on a GPU host used during a load of the case, of all its cores.

    One launch that most repetitions shared with them is enough: it has the vote of any
    other. None without neighbours, and of what they do not move.
    """
    family = family_of(case.metric)
    if family not in TIMES - UNMOVED_FAMILIES:
        return None
    if case.metric in UNMOVED_METRICS:
        return None
    medians = []
    for load in case.loads:
        if load.workload is None or load.server.device == "cpu":
            continue
        key, workload = load.server.key, load.workload.name
        for launch in reader.index.measurements(key, workload):
            counted = valid_repetitions(launch)
            beside = _beside(counted, reader)
            if len(beside) > len(counted) / 2:
                medians.append(statistics.median(beside))
    return max(medians, default=None)


def neighbours(case: Case, reader: RunReader) -> str:
    """What neighbours used during a load of the case, as text; "" without any."""
    share = neighbours_share(case, reader)
    if share is None:
        return ""
    return _cores_text(share, reader)


def _beside(
    repetitions: Sequence[Repetition], reader: RunReader
) -> list[float]:
    """What neighbours used, for each repetition that had any."""
    shares = []
    for row in repetitions:
        share = row.client_values.get(OTHERS_SHARE, 0.0)
        if _are_neighbours(share, reader):
            shares.append(share)
    return shares


def _are_neighbours(share: float, reader: RunReader) -> bool:
    cores = reader.results.hardware.cpu_count
    if not cores:
        return share >= NEIGHBOUR_SHARE
    return share * cores >= NEIGHBOUR_CORES


def _cores_text(share: float, reader: RunReader) -> str:
    cores = reader.results.hardware.cpu_count
    if not cores:
        return f"{formatting.percent(share)} of the host's cores"
    return f"{share * cores:.1f} of the host's {cores} cores"


def _is_larger(decision: Decision, case: Case) -> bool:
    """Whether a loss is larger than any that a neighbour is held for."""
    most = MOST_LOST
    if family_of(case.metric) == "ttft":
        most = MOST_TTFT_LOST
    return decision.worse_by is not None and decision.worse_by > most


def _loads(
    case: Case, reader: RunReader
) -> Iterator[tuple[Load, Sequence[Repetition]]]:
    """The loads of a case that send something, with their repetitions."""
    for load in case.loads:
        if load.workload is not None:
            name = load.workload.name
            yield load, reader.index.repetitions(load.server.key, name)
