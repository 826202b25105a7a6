"""Change points: a step or a trend towards worse in a series of accepted runs.

The gate sees one run at a time. Losses below its threshold pass, join the baseline and
add up: this looks at the whole series. A step is the split with the largest difference
of means, judged by permutations, so that choosing the split is paid for. A trend is
Kendall's rank correlation with time (Mann, Econometrica 13, 1945), its slope that of
Theil and Sen. Neither assumes a distribution. Both are one-sided.

Each test is wrong in at most MAX_P of unchanged series. It reports nothing below the
smallest target effect of the metric, which drivers and clocks move as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

# False alarms of one test; a series has two of them.
MAX_P = 0.0005
# Kendall's test reaches MAX_P with seven runs, the permutations with fourteen.
MIN_RUNS = 7
EACH_SIDE = 2  # fewest runs before and after a step
PERMUTATIONS = 9999
SEED = 20261128

Kind = Literal["step", "trend"]


@dataclass(frozen=True)
class Worsening:
    """A change towards worse.

    Attributes:
        index: the first run after a step, or of a trend.
        loss: by how much it became worse, as a logarithm.
        p_value: how often an unchanged series shows as much.
    """

    kind: Kind
    index: int
    loss: float
    p_value: float


def worsening(losses: Sequence[float], smallest: float) -> Worsening | None:
    """The change towards worse of a series; None where nothing changed.

    The shape that fits better says how large the change is; the smaller p-value of the
    two tests says whether it is one.

    Args:
        losses: one for each run, in order of time, as logarithms: larger is worse.
        smallest: the smallest loss (log) that counts.
    """
    # Imported here: it takes a second, and few commands accept runs.
    import numpy as np

    if len(losses) < MIN_RUNS:
        return None
    series = np.asarray(losses)
    shape = min(_trend(series), _step(series), key=lambda fit: fit.squares)
    if shape.loss < smallest:
        return None
    p_value = min(_trend_p_value(series), _step_p_value(series))
    if p_value > MAX_P:
        return None
    return Worsening(shape.kind, shape.index, shape.loss, p_value)


@dataclass(frozen=True)
class _Shape:
    """A step or a line through a series; `squares` is the sum of what it leaves."""

    kind: Kind
    index: int
    loss: float
    squares: float


def _trend(series: Any) -> _Shape:
    """The line of Theil and Sen; the loss is that of its whole length."""
    import numpy as np
    from scipy import stats

    times = np.arange(len(series))
    fit = stats.theilslopes(series, times)
    rest = series - fit.slope * times
    squares = np.square(rest - rest.mean()).sum()
    loss = fit.slope * times[-1]
    return _Shape("trend", 0, float(loss), float(squares))


def _step(series: Any) -> _Shape:
    """The split with the largest step towards worse."""
    import numpy as np

    index = EACH_SIDE + int(np.argmax(_scaled_steps(series)))
    earlier, later = series[:index], series[index:]
    squares = earlier.var() * len(earlier) + later.var() * len(later)
    loss = later.mean() - earlier.mean()
    return _Shape("step", index, float(loss), float(squares))


def _trend_p_value(series: Any) -> float:
    """Of Mann and Kendall's test."""
    from scipy import stats

    times = range(len(series))
    result = stats.kendalltau(times, series, alternative="greater")
    return float(result.pvalue)


def _step_p_value(series: Any) -> float:
    """Of the largest step, by permutations of the series."""
    from scipy import stats

    result = stats.permutation_test(
        (series,),
        _largest_step,
        permutation_type="pairings",
        vectorized=True,
        n_resamples=PERMUTATIONS,
        alternative="greater",
        random_state=SEED,
    )
    return float(result.pvalue)


def _largest_step(series: Any, axis: int = -1) -> Any:
    """The largest scaled step of each series: shape (...), of (..., runs)."""
    import numpy as np

    return _scaled_steps(np.moveaxis(series, axis, -1)).max(axis=-1)


def _scaled_steps(series: Any) -> Any:
    """Difference of means of each split, by its standard error but for a constant.

    Permutations keep the variance of the series, so the largest of these is the
    largest t.
    """
    import numpy as np

    runs = series.shape[-1]
    before = np.arange(EACH_SIDE, runs - EACH_SIDE + 1)
    after = runs - before
    sums = np.cumsum(series, axis=-1)
    earlier_sums = sums[..., before - 1]
    earlier = earlier_sums / before
    later = (sums[..., -1:] - earlier_sums) / after
    return (later - earlier) * np.sqrt(before * after / runs)
