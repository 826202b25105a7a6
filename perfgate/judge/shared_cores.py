"""Shared cores: a loss on cores that others took meanwhile is not held for one.

Four busy loops beside an engine on two cores make it three times slower, and no baseline
knows of them. Such a loss may be theirs, so it is not excluded, and it is no regression.
What does not depend on the cores (facts, work, two builds in turns) is judged as ever.
On a host with GPUs most cores are idle: see `perfgate.judge.neighbours`.
"""

from __future__ import annotations

import statistics

import msgspec

from perfgate import formatting
from perfgate.cases import Case
from perfgate.judge import wording
from perfgate.judge.observation import RunReader
from perfgate.judge.verdict import Decision, Outcome
from perfgate.load.metrics import Family, family_of
from perfgate.load.repetition import OTHERS_SHARE

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


def judged(decision: Decision, case: Case, reader: RunReader) -> Decision:
    """A decision; without the regression where the loss may be that of others."""
    if decision.outcome is not Outcome.REGRESSED:
        return decision
    share = others_share(case, reader)
    if share is None:
        return decision
    used = f"{formatting.percent(share)} of the cores"
    return in_doubt(decision, Outcome.NOT_EXCLUDED, used, wording.QUIET_CORES)


def in_doubt(
    decision: Decision, outcome: Outcome, used: str, advice: str
) -> Decision:
    """The decision with another outcome, because the loss may be that of others.

    No further launch is asked for: it would have the same company.

    Args:
        used: what they used of the cores, as text.
    """
    summary = wording.BESIDE_OTHERS.format(summary=decision.summary, used=used)
    return msgspec.structs.replace(
        decision,
        outcome=outcome,
        summary=summary,
        advice=advice,
        needs_launches=0,
    )


def others_share(case: Case, reader: RunReader) -> float | None:
    """What others used of the cores during a load of the case; None where they did not."""
    if family_of(case.metric) not in TIMES:
        return None
    for load in case.loads:
        if load.workload is None:
            continue
        counted = reader.index.repetitions(load.server.key, load.workload.name)
        beside = [row for row in counted if row.is_beside_others]
        if len(beside) > len(counted) / 2:
            shares = [row.client_values[OTHERS_SHARE] for row in beside]
            return statistics.median(shares)
    return None
