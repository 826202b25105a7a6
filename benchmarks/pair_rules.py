"""Rules of pairs (base and candidate) on simulated noise.

The rule of `perfgate.judge.paired`, for arrays and as of a throughput on a GPU: what is
taken for granted of other metrics, and their floors, are not in it. A test holds it
against `judge_pairs` itself.
"""

from __future__ import annotations

import numpy as np

from benchmarks.gate_rules import Array, Machine, rate, session
from perfgate.judge.paired import PAIRS, interval
from perfgate.judge.policy import GPU_RATE, LINE_SHARE, log_loss


def pairs_rate(
    rng: np.random.Generator,
    machine: Machine,
    loss: float,
    delta: float,
    runs: int,
) -> float:
    """How often three pairs of base and candidate in one session are red."""
    return rate(
        lambda size: pairs_red(_pairs(rng, machine, loss, size), delta), runs
    )


def pairs_untold_rate(
    rng: np.random.Generator,
    machine: Machine,
    loss: float,
    delta: float,
    runs: int,
) -> float:
    """How often they lie below the line, and yet exclude no loss of delta: the case then is only reported."""
    return rate(
        lambda size: pairs_untold(_pairs(rng, machine, loss, size), delta), runs
    )


def pairs_red(losses: Array, delta: float) -> Array:
    """Which sessions are red, by the losses of throughput within their pairs (logarithms, shape (size, 6)).

    The last three pairs count only where the first three leave a loss in doubt.
    """
    mean, error = _decided(losses, delta)
    return np.asarray(mean > np.maximum(_line(delta), error))


def pairs_untold(losses: Array, delta: float) -> Array:
    """Which of them lie below the line, and yet exclude no loss of delta."""
    mean, error = _decided(losses, delta)
    return np.asarray(
        (mean <= _line(delta)) & (mean + error > log_loss(delta, True))
    )


def pairs_doubtful(losses: Array, delta: float) -> Array:
    """Which of them are launched again."""
    first = losses[:, :PAIRS]
    return np.asarray(
        (first.mean(axis=1) > _line(delta))
        & (_interval(first, delta) > _line(delta))
    )


def _pairs(
    rng: np.random.Generator, machine: Machine, loss: float, size: int
) -> Array:
    """The losses within three pairs and three more, shape (size, 6)."""
    both = session(rng, machine, size, 4 * PAIRS)
    return np.asarray(
        both[:, : 2 * PAIRS] - (both[:, 2 * PAIRS :] + np.log1p(-loss))
    )


def _decided(losses: Array, delta: float) -> tuple[Array, Array]:
    """Mean and half of its interval of the pairs that count, shape (size,) each."""
    again, first = pairs_doubtful(losses, delta), losses[:, :PAIRS]
    mean = np.where(again, losses.mean(axis=1), first.mean(axis=1))
    return mean, np.where(
        again, _interval(losses, delta), _interval(first, delta)
    )


def _line(delta: float) -> float:
    return LINE_SHARE * log_loss(delta, True)


def _interval(losses: Array, delta: float) -> Array:
    return interval(
        losses.std(axis=1, ddof=1),
        losses.shape[1],
        GPU_RATE.assumed_cv,
        _line(delta),
    )
