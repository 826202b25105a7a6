"""Times of one request (TTFT, inter-token latency ITL, TPOT, E2EL) and of a run (steady window).

The words are those of `vllm bench serve`. Only completed requests have times: a
transcript without them raises instead of returning 0 or NaN.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from perfgate.load.response import Transcript

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Times = npt.NDArray[np.int64]

NS_PER_MS = 1e6
NS_PER_S = 1e9
SHORT_GAP = 0.25  # of a step
FEWEST_GAPS = 7  # of a request, so that a quarter of them are several
Window = tuple[int, int]  # start_ns, end_ns


def completed(transcripts: Sequence[Transcript]) -> list[Transcript]:
    """The requests that did not fail."""
    return [t for t in transcripts if t.error is None]


def ttft_ns(t: Transcript) -> int:
    """First content chunk - request sent.

    Raises:
        ValueError: the request did not complete.
    """
    return t.first_ns - _sent_ns(t)


def e2el_ns(t: Transcript) -> int:
    """Last content chunk - request sent.

    Raises:
        ValueError: the request did not complete.
    """
    return t.last_ns - _sent_ns(t)


def tpot_ns(t: Transcript) -> float:
    """(E2EL - TTFT) / (output tokens - 1).

    Raises:
        ValueError: the request has fewer than two output tokens.
    """
    if t.output_tokens < 2:
        raise ValueError(
            f"request {t.index} has {t.output_tokens} output tokens: no time per "
            "further token exists"
        )
    return (t.last_ns - t.first_ns) / (t.output_tokens - 1)


def itl_ns(t: Transcript) -> Times:
    """Gaps between consecutive content chunks."""
    # here and below: to read the names of the metrics takes none
    import numpy as np

    chunk_ns = np.asarray(t.chunk_ns, dtype=np.int64)
    return chunk_ns[1:] - chunk_ns[:-1]


def tokens_per_chunk(good: Sequence[Transcript]) -> float | None:
    """Output tokens over content chunks; None without a chunk."""
    chunks = sum(len(t.chunk_ns) for t in good)
    if not chunks:
        return None
    return sum(t.output_tokens for t in good) / chunks


def short_gap_share(good: Sequence[Transcript]) -> float | None:
    """Share of gaps that are far shorter than a step; None where answers are short.

    A step is the 75th percentile of a request's gaps: one that waits for prompts of
    others has a few long gaps, one whose chunks come in twos to fours has many.
    """
    import numpy as np

    short = gaps = 0
    for t in good:
        gaps_ns = itl_ns(t)
        if len(gaps_ns) < FEWEST_GAPS:
            continue
        step_ns = float(np.percentile(gaps_ns, 75))
        short += int(np.count_nonzero(gaps_ns < SHORT_GAP * step_ns))
        gaps += len(gaps_ns)
    if not gaps:
        return None
    return short / gaps


def _sent_ns(t: Transcript) -> int:
    sent_ns = t.sent_ns
    if sent_ns is None or not t.chunk_ns or t.first_ns < sent_ns:
        raise ValueError(
            f"request {t.index}: sent at {sent_ns}, first chunk "
            f"{t.chunk_ns[:1]}: not a completed request"
        )
    return sent_ns


@functools.cache
def samples_needed(percentile: float) -> int:
    """Fewest requests from which a percentile may be stated: 64 for p90, 662 for p99.

    MLPerf Inference's early-stopping rule with one sample above the percentile: the
    smallest n for which P(X <= 1) <= 1 %, X ~ Bin(n, 1 - p), that is p^n + n (1 - p)
    p^(n - 1) <= 0.01.
    """
    p = percentile / 100
    n = 2
    while True:
        none_above = p**n
        one_above = n * (1 - p) * p ** (n - 1)
        if none_above + one_above <= 0.01:
            return n
        n += 1


def independent_gaps(good: Sequence[Transcript], gaps: int) -> int:
    """How many of the gaps are independent: streams that decode together share each step.

    Gaps divided by the mean number of streams that decode at once: (sum of decoding
    times) / (their span).
    """
    decoding_ns = sum(t.last_ns - t.first_ns for t in good)
    start = min(t.first_ns for t in good)
    end = max(t.last_ns for t in good)
    covered_ns = end - start
    if decoding_ns <= covered_ns:
        return gaps
    return math.ceil(gaps * covered_ns / decoding_ns)


def meets(t: Transcript, slo_ms: Sequence[tuple[str, float]]) -> bool:
    """Whether a completed request is within every limit.

    A single token has no TPOT and cannot miss a limit on it.
    """
    limits = ((name, limit_ms * NS_PER_MS) for name, limit_ms in slo_ms)
    return all(_limited_ns(t, name) <= limit for name, limit in limits)


def _limited_ns(t: Transcript, metric: str) -> float:
    """The time that a limit on "ttft", "e2el" or "tpot" is about."""
    if metric == "ttft":
        return ttft_ns(t)
    if metric == "e2el":
        return e2el_ns(t)
    if t.output_tokens < 2:
        return 0.0
    return tpot_ns(t)


def tokens_within(good: Sequence[Transcript], window: Window) -> float:
    """Output tokens that came in (start, end]; a chunk counts as its request's tokens / chunks."""
    import numpy as np

    total = 0.0
    for t in good:
        first, end = np.searchsorted(t.chunk_ns, window, side="right")
        total += float(end - first) * t.output_tokens / len(t.chunk_ns)
    return total


def steady_window(
    transcripts: Sequence[Transcript], open_loop: bool, first_wave: int = 0
) -> Window | None:
    """The part of a run between ramp-up and tail, (start_ns, end_ns); None if it has none.

    Open loop: from the moment a fifth of the requests was sent to the moment four
    fifths were. A staggered closed loop: from the moment its first wave was answered to
    the moment its last request was sent. Otherwise: from the first to the last moment
    at which at least 90 % of the most streams ever decoding were decoding. A burst has
    one too: its pure decode phase. A window shorter than a tenth of the run is none.

    Args:
        first_wave: requests of a staggered load that were sent at once.
    """
    good = sorted(completed(transcripts), key=_sent_ns)
    if len(good) < 2:
        return None
    if open_loop:
        start, end = _middle_of_arrivals(good)
    elif first_wave:
        start, end = _between_waves(good, first_wave)
    else:
        start, end = _full_decoding(good)
    run_start = _sent_ns(good[0])
    run_end = max(t.last_ns for t in good)
    run_ns = run_end - run_start
    if end - start <= 0.1 * run_ns:
        return None
    return start, end


def _middle_of_arrivals(good: Sequence[Transcript]) -> Window:
    """From the sending of the first fifth to that of the fourth; requests in order of sending."""
    fifth = good[len(good) // 5]
    four_fifths = good[(4 * len(good)) // 5]
    return _sent_ns(fifth), _sent_ns(four_fifths)


def _between_waves(good: Sequence[Transcript], first_wave: int) -> Window:
    """From the last answer to the first wave to the last sending."""
    start = max(t.last_ns for t in good[:first_wave])
    return start, _sent_ns(good[-1])


def _full_decoding(good: Sequence[Transcript]) -> Window:
    """From the first to the last moment at which 90 % of the most streams decode."""
    import numpy as np

    edges = []
    for t in good:
        edges.append((t.first_ns, 1))
        edges.append((t.last_ns, -1))
    edges.sort()
    times = np.array([time_ns for time_ns, _ in edges])
    decoding = np.cumsum([step for _, step in edges])
    full = np.flatnonzero(decoding >= 0.9 * decoding.max())
    first = full[0]
    following = min(full[-1] + 1, len(times) - 1)
    return int(times[first]), int(times[following])
