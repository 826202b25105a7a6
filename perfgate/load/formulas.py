"""Formulas of the client's metrics: throughputs, goodput, mean, median and percentiles.

Each takes a `CompletedRequests`, one repetition's completed requests, and returns the value, or
None where the repetition has no such figure. `perfgate.load.metrics` declares which
metric has which formula.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from perfgate.load.request_times import (
    NS_PER_MS,
    NS_PER_S,
    Window,
    e2el_ns,
    independent_gaps,
    itl_ns,
    meets,
    samples_needed,
    tokens_within,
    tpot_ns,
    ttft_ns,
)
from perfgate.load.response import Transcript

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


@dataclass(frozen=True)
class Distribution:
    """Times of one kind in one repetition.

    Attributes:
        times_ms: of each request or gap.
        independent: how many of them count as independent samples.
    """

    times_ms: npt.NDArray[np.float64]
    independent: int


@dataclass(frozen=True)
class CompletedRequests:
    """One repetition, as the formulas read it.

    Attributes:
        requests: those that completed, at least one.
        duration_s: from arrival 0 to the last answer.
        slo_ms: limits for goodput as (metric, ms) pairs; without any there is no
            goodput.
        window: the steady window as (start_ns, end_ns), if there is one.
    """

    requests: Sequence[Transcript]
    duration_s: float
    slo_ms: Sequence[tuple[str, float]] = ()
    window: Window | None = None

    @functools.cached_property
    def input_tokens(self) -> int:
        """Input tokens of all requests, by the server's usage."""
        return sum(t.input_tokens for t in self.requests)

    @functools.cached_property
    def output_tokens(self) -> int:
        """Output tokens of all requests, by the server's usage."""
        return sum(t.output_tokens for t in self.requests)

    @functools.cached_property
    def ttft(self) -> Distribution:
        """TTFT of each request."""
        return self._per_request([ttft_ns(t) for t in self.requests])

    @functools.cached_property
    def e2el(self) -> Distribution:
        """E2EL of each request."""
        return self._per_request([e2el_ns(t) for t in self.requests])

    @functools.cached_property
    def tpot(self) -> Distribution:
        """TPOT of each request of two tokens or more."""
        several = [t for t in self.requests if t.output_tokens > 1]
        return self._per_request([tpot_ns(t) for t in several])

    @functools.cached_property
    def itl(self) -> Distribution:
        """Gaps of all requests, pooled."""
        import numpy as np

        gaps = np.concatenate([itl_ns(t) for t in self.requests])
        independent = independent_gaps(self.requests, len(gaps))
        return Distribution(gaps.astype(float) / NS_PER_MS, independent)

    def _per_request(self, times_ns: Sequence[float]) -> Distribution:
        import numpy as np

        times_ms = np.asarray(times_ns, dtype=float) / NS_PER_MS
        return Distribution(times_ms, len(self.requests))


Formula = Callable[[CompletedRequests], float | None]
DistributionGetter = Callable[[CompletedRequests], Distribution]


def output_throughput(completed: CompletedRequests) -> float:
    """Output tokens / duration, tok/s."""
    return completed.output_tokens / completed.duration_s


def total_token_throughput(completed: CompletedRequests) -> float:
    """Input and output tokens / duration, tok/s."""
    return (
        completed.output_tokens + completed.input_tokens
    ) / completed.duration_s


def request_throughput(completed: CompletedRequests) -> float:
    """Completed requests / duration, req/s."""
    return len(completed.requests) / completed.duration_s


def request_goodput(completed: CompletedRequests) -> float | None:
    """Completed requests that meet every SLO / duration, req/s; None without an SLO."""
    if not completed.slo_ms:
        return None
    good = sum(meets(t, completed.slo_ms) for t in completed.requests)
    return good / completed.duration_s


def steady_output_throughput(completed: CompletedRequests) -> float | None:
    """Output tokens within the steady window / its length, tok/s; None without a window."""
    if completed.window is None:
        return None
    start, end = completed.window
    length_s = (end - start) / NS_PER_S
    return tokens_within(completed.requests, completed.window) / length_s


def mean_ms(
    get_distribution: DistributionGetter, completed: CompletedRequests
) -> float | None:
    """Arithmetic mean; None of no times."""
    import numpy as np

    times_ms = get_distribution(completed).times_ms
    if not len(times_ms):
        return None
    return float(np.mean(times_ms))


def median_ms(
    get_distribution: DistributionGetter, completed: CompletedRequests
) -> float | None:
    """Median; None of no times."""
    import numpy as np

    times_ms = get_distribution(completed).times_ms
    if not len(times_ms):
        return None
    return float(np.median(times_ms))


def percentile_ms(
    percentile: int,
    get_distribution: DistributionGetter,
    completed: CompletedRequests,
) -> float | None:
    """A percentile; None of fewer independent samples than MLPerf's rule asks for."""
    import numpy as np

    distribution = get_distribution(completed)
    count = min(distribution.independent, len(distribution.times_ms))
    if count < samples_needed(percentile):
        return None
    return float(np.percentile(distribution.times_ms, percentile))
