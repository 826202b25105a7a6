"""Coarse gate: a speed on a processor that was never recorded, against all that were.

The speed of an unknown processor is not known, so a threshold can only be wide: twice
the slowest value that any launch on any processor had. It catches what no processor
explains, and nothing smaller; two builds in turns (`perfgate.judge.duel`) catch that.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from perfgate import formatting
from perfgate.cases import Case
from perfgate.judge import portable, wording
from perfgate.judge.baseline_store import Recorded, Store
from perfgate.judge.noise import fraction_of
from perfgate.judge.observation import Observation
from perfgate.judge.verdict import Decision, Outcome
from perfgate.load.metrics import METRICS
from perfgate.results.samples import values_of

# A value that is so many times as bad as the slowest recorded one is a regression.
MOST = 2.0
# With one processor alone nothing is known of how much they differ.
FEWEST_PROCESSORS = 2


@dataclass(frozen=True)
class Slowest:
    """The slowest launch that any processor had.

    Attributes:
        label: of the processor.
        processors: how many were compared.
    """

    value: float
    label: str
    processors: int


def judged(
    decision: Decision, case: Case, observation: Observation, store: Store
) -> Decision:
    """A decision without a baseline; a verdict where other processors can tell."""
    is_open = decision.outcome is Outcome.NO_BASELINE
    if not is_open or decision.gate != "hard" or case.is_ratio:
        return decision
    if not observation.hardware_label.startswith(portable.ONE_CPU):
        return decision
    others = store.other_processors(case, observation.hardware_label)
    slowest = slowest_of(case, observation, others)
    if slowest is None:
        return decision
    return _verdict(decision, case, slowest)


def slowest_of(
    case: Case, observation: Observation, others: Sequence[Recorded]
) -> Slowest | None:
    """The slowest launch of the same server and load; None where too few are recorded."""
    is_higher = METRICS[case.metric].better == "higher"
    expected = portable.identity(portable.ANY_CPU, observation.identity)
    values: dict[str, float] = {}
    for recorded in others:
        known = portable.identity(portable.ANY_CPU, recorded.identity)
        launches = values_of(recorded.metric.launches)
        if known != expected or not launches:
            continue
        label = recorded.path.parent.parent.name
        values[label] = max(launches)
        if is_higher:
            values[label] = min(launches)
    if len(values) < FEWEST_PROCESSORS:
        return None
    pick = min if is_higher else max
    label = pick(values, key=lambda name: values[name])
    return Slowest(values[label], label, len(values))


def _verdict(decision: Decision, case: Case, slowest: Slowest) -> Decision:
    value = decision.value
    assert value is not None
    is_higher = METRICS[case.metric].better == "higher"
    loss = math.log(value / slowest.value)
    if is_higher:
        loss = -loss
    threshold = math.log(MOST)
    outcome, advice = Outcome.PASSED, ""
    if loss > threshold:
        outcome, advice = Outcome.REGRESSED, wording.COARSE_LOSS
    summary = wording.COARSE.format(
        change=formatting.change(value / slowest.value - 1),
        slowest=formatting.number(slowest.value, decision.unit),
        processors=slowest.processors,
        label=slowest.label,
        most=f"{MOST:g}",
    )
    return msgspec.structs.replace(
        decision,
        outcome=outcome,
        reference="recorded",
        baseline=slowest.value,
        change=value / slowest.value - 1,
        worse_by=fraction_of(loss, is_higher),
        threshold=fraction_of(threshold, is_higher),
        summary=summary,
        advice=advice,
    )
