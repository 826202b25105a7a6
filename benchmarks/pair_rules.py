"""Pairs of launches (base and candidate) on simulated noise, judged by `judge_pairs`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks.gate_trials import Subject
from benchmarks.simulated_launches import Array, Machine
from perfgate.judge.paired import PAIRS, judge_pairs
from perfgate.judge.verdict import Decision, Outcome


@dataclass(frozen=True)
class PairRates:
    """Shares of sessions, as fractions.

    Attributes:
        red: REGRESSED.
        not_excluded: left a loss of the target effect open.
        again: measured by three more pairs.
    """

    red: float
    not_excluded: float
    again: float


def judged(
    subject: Subject, losses: Array, target_effect: float
) -> tuple[Decision, bool]:
    """The decision, and whether three more pairs were asked for.

    Args:
        losses: logarithms, within six pairs.
    """
    pairs = []
    for loss in losses:
        candidate = subject.sample("now", 0, float(loss)).value
        pairs.append((subject.reference, candidate or 0.0))
    first = judge_pairs(
        subject.case, pairs[:PAIRS], subject.label, target_effect
    )
    if not first.needs_launches:
        return first, False
    return judge_pairs(subject.case, pairs, subject.label, target_effect), True


def pair_rates(
    rng: np.random.Generator,
    subject: Subject,
    machine: Machine,
    loss: float,
    target_effect: float,
    trials: int,
) -> PairRates:
    """How sessions of three pairs end at this true loss (log)."""
    launches = machine.session(rng, trials, 4 * PAIRS)
    base, candidate = launches[:, : 2 * PAIRS], launches[:, 2 * PAIRS :]
    red = not_excluded = again = 0
    for row in candidate - base + loss:
        decision, is_repeated = judged(subject, row, target_effect)
        again += is_repeated
        red += decision.outcome is Outcome.REGRESSED
        not_excluded += decision.outcome is Outcome.NOT_EXCLUDED
    return PairRates(red / trials, not_excluded / trials, again / trials)
