"""Rules of pairs (base and candidate) on simulated noise.

The rule of `perfgate.judge.paired`, for arrays and for a throughput on a GPU: the
assumed noise of other metrics, and their floors, are not in it. A test compares it
with `judge_pairs` itself.
"""

from __future__ import annotations

import numpy as np

from benchmarks.gate_rules import Array, Machine, rate, session
from perfgate.judge.noise import LINE_SHARE, log_loss
from perfgate.judge.paired import PAIRS, interval
from perfgate.judge.policy import GPU_RATE


def pairs_rate(
    rng: np.random.Generator,
    machine: Machine,
    loss: float,
    target_effect: float,
    runs: int,
) -> float:
    """How often three pairs of base and candidate in one session fail."""
    return rate(
        lambda size: pairs_red(_pairs(rng, machine, loss, size), target_effect),
        runs,
    )


def pairs_report_only_rate(
    rng: np.random.Generator,
    machine: Machine,
    loss: float,
    target_effect: float,
    runs: int,
) -> float:
    """How often they lie below the threshold, and yet exclude no loss of the target.

    Such a case is report-only.
    """
    return rate(
        lambda size: pairs_report_only(
            _pairs(rng, machine, loss, size), target_effect
        ),
        runs,
    )


def pairs_red(losses: Array, target_effect: float) -> Array:
    """Which sessions fail, by the losses of throughput within their pairs.

    Losses are logarithms, shape (size, 6).
    The last three pairs count only where the first three leave a loss in doubt.
    """
    mean, error = _decided(losses, target_effect)
    return np.asarray(mean > np.maximum(_threshold(target_effect), error))


def pairs_report_only(losses: Array, target_effect: float) -> Array:
    """Which lie below the threshold, and yet exclude no loss of the target effect."""
    mean, error = _decided(losses, target_effect)
    return np.asarray(
        (mean <= _threshold(target_effect))
        & (mean + error > log_loss(target_effect, True))
    )


def pairs_doubtful(losses: Array, target_effect: float) -> Array:
    """Which of them are launched again."""
    first = losses[:, :PAIRS]
    return np.asarray(
        (first.mean(axis=1) > _threshold(target_effect))
        & (_interval(first, target_effect) > _threshold(target_effect))
    )


def _pairs(
    rng: np.random.Generator, machine: Machine, loss: float, size: int
) -> Array:
    """The losses within three pairs and three more, shape (size, 6)."""
    both = session(rng, machine, size, 4 * PAIRS)
    return np.asarray(
        both[:, : 2 * PAIRS] - (both[:, 2 * PAIRS :] + np.log1p(-loss))
    )


def _decided(losses: Array, target_effect: float) -> tuple[Array, Array]:
    """Mean and half of its interval of the pairs that count, shape (size,) each."""
    is_doubtful, first = (
        pairs_doubtful(losses, target_effect),
        losses[:, :PAIRS],
    )
    mean = np.where(is_doubtful, losses.mean(axis=1), first.mean(axis=1))
    error = np.where(
        is_doubtful,
        _interval(losses, target_effect),
        _interval(first, target_effect),
    )
    return mean, error


def _threshold(target_effect: float) -> float:
    return LINE_SHARE * log_loss(target_effect, True)


def _interval(losses: Array, target_effect: float) -> Array:
    return interval(
        losses.std(axis=1, ddof=1),
        losses.shape[1],
        GPU_RATE.assumed_cv,
        _threshold(target_effect),
    )
