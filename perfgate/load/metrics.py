"""Metrics of the client: TTFT, ITL, TPOT, E2EL, throughputs, with their definitions.

The words are those of `vllm bench serve`; each metric carries its formula, and a
baseline stores it, because tools use the same words for different things. A metric that
cannot be had from a run is not in the result: nothing here returns zero, NaN or None
for "not known".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from perfgate.errors import Failure
from perfgate.load.response import Transcript

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Times = npt.NDArray[np.int64]

NS_PER_MS = 1e6
NS_PER_S = 1e9
PERCENTILES = (90, 95, 99)


class Metric(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A figure's name, unit, direction and formula."""

    name: str
    unit: str
    better: Literal["higher", "lower"]
    definition: str


LATENCIES = {
    "ttft": "time to first token: first content chunk - request sent, per completed request",
    "itl": (
        "inter-token latency: gap between consecutive content chunks of a request, "
        "pooled over completed requests"
    ),
    "tpot": (
        "time per output token: (E2EL - TTFT) / (output tokens - 1), per completed "
        "request of two tokens or more"
    ),
    "e2el": "end-to-end latency: last content chunk - request sent, per completed request",
}
RATES = {
    "output_throughput": (
        "tok/s",
        "output tokens of completed requests, by the server's usage / duration",
    ),
    "total_token_throughput": (
        "tok/s",
        "input and output tokens of completed requests, by usage / duration",
    ),
    "request_throughput": ("req/s", "completed requests / duration"),
    "request_goodput": ("req/s", "completed requests that meet every SLO / duration"),
    "steady_output_throughput": (
        "tok/s",
        "output tokens that came within the steady window / its length",
    ),
}

# Of a launch, whatever is sent to it; read by `perfgate.machine.memory` and the
# engines' modules.
OF_THE_SERVER: dict[str, tuple[str, Literal["higher", "lower"], str]] = {
    "ready_s": ("s", "lower", "launch to first healthy answer"),
    "weights_bytes_per_rank": (
        "bytes",
        "lower",
        "bytes of weights on the rank that holds most, as ranks count them",
    ),
    "weights_over_arithmetic": (
        "",
        "lower",
        "weights_bytes_per_rank / (parameters x bytes per parameter / ranks)",
    ),
    "kv_cache_tokens": (
        "tokens",
        "higher",
        "tokens that the KV cache holds, as the engine logs it",
    ),
    "memory_bytes": (
        "bytes",
        "lower",
        "memory of all GPUs by NVML, or of the server's processes (PSS), after its load",
    ),
    "memory_peak_bytes": (
        "bytes",
        "lower",
        (
            "most memory during the load: of the GPU that uses most, by NVML; on the "
            "CPU the sum of the processes' VmHWM"
        ),
    ),
    "kv_cache_bytes": (
        "bytes",
        "higher",
        "KV cache of each rank, as the engine logs it or from its tokens",
    ),
    "memory_rest_bytes": (
        "bytes",
        "lower",
        "memory_peak_bytes less weights, KV cache and graphs",
    ),
    "output_throughput_per_gb": (
        "tok/s/GB",
        "higher",
        "output throughput / (memory_bytes / 1e9)",
    ),
    "energy_per_output_token_j": (
        "J/tok",
        "lower",
        "energy of the server's GPUs by NVML's counter / output tokens",
    ),
    "decode_bandwidth_gb_s": (
        "GB/s",
        "higher",
        (
            "bytes that a decode step reads by arithmetic, weights and KV cache over "
            "all ranks / ITL median"
        ),
    ),
    "bandwidth_utilisation": (
        "",
        "higher",
        "decode_bandwidth_gb_s / (ranks x the GPU's bandwidth by its data sheet)",
    ),
}

# Of a server that is asked where the tokens went; `perfgate.models.routing_stats` has
# the formulas. Of a layer's choices, those of the worst layer where a layer has its
# own.
OF_THE_ROUTING: dict[str, tuple[str, Literal["higher", "lower"], str]] = {
    "routing_shares": (
        "",
        "higher",
        (
            "smallest overlap of a layer's expert shares with uniform; judged by the "
            "distance from the recorded shares"
        ),
    ),
    "routing_top2_share": (
        "",
        "lower",
        "largest share of a layer's choices that two experts take together",
    ),
    "routing_max_over_mean": (
        "",
        "lower",
        "largest share of an expert / (1 / experts)",
    ),
    "routing_min_over_mean": (
        "",
        "higher",
        "(choices of the least chosen expert + 1/2) / (mean of its layer + 1/2)",
    ),
    "routing_entropy": (
        "",
        "higher",
        "smallest entropy of a layer's shares / log(experts)",
    ),
    "routing_balancedness": (
        "",
        "higher",
        "smallest mean / maximum of the ranks' loads, experts spread over --tp ranks",
    ),
    "routing_live_experts": (
        "",
        "higher",
        "experts of all layers that any token chose / all experts",
    ),
    "routing_repeats_first": (
        "",
        "lower",
        "consecutive tokens with the same first choice / consecutive tokens",
    ),
    "routing_repeats_any": (
        "",
        "lower",
        "consecutive tokens that choose an expert again / consecutive tokens",
    ),
    "routing_ep_cost": (
        "",
        "lower",
        "mean over layers of the busiest rank's load / the mean load, experts spread",
    ),
}


def _declared() -> dict[str, Metric]:
    metrics = [
        Metric(name=n, unit=u, better="higher", definition=d)
        for n, (u, d) in RATES.items()
    ]
    metrics += [
        Metric(name=n, unit=u, better=b, definition=d)
        for n, (u, b, d) in (OF_THE_SERVER | OF_THE_ROUTING).items()
    ]
    for word, definition in LATENCIES.items():
        for statistic in ("mean", "median", *(f"p{p}" for p in PERCENTILES)):
            name, text = f"{word}_{statistic}_ms", f"{statistic} of {definition}"
            metrics.append(
                Metric(name=name, unit="ms", better="lower", definition=text)
            )
    return {metric.name: metric for metric in metrics}


METRICS: dict[str, Metric] = _declared()


@dataclass(frozen=True)
class CustomMetric:
    """A metric that a plugin or a test declares.

    Attributes:
        compute: works it out of a repetition's requests
            (`perfgate.load.repetition.RequestRow`) and its duration in seconds, and
            returns None where it cannot be had; None for a number that a test measures
            itself.
    """

    metric: Metric
    compute: Callable[[Sequence[Any], float], float | None] | None = None


CUSTOM: dict[str, CustomMetric] = {}


class BadMetric(Failure):
    """A metric that cannot be declared."""


def register(metrics: Iterable[CustomMetric | Metric]) -> None:
    """Declare metrics beside the built-in ones.

    Raises:
        BadMetric: the name is that of a built-in metric, or of another custom one with
            another definition.
    """
    for found in metrics:
        custom = found if isinstance(found, CustomMetric) else CustomMetric(found)
        name = custom.metric.name
        known = METRICS.get(name)
        if known is not None and known != custom.metric:
            raise BadMetric(
                tried=f"declaring the metric {name}",
                seen=(
                    f"it is declared already: {known.unit or 'no unit'}, better "
                    f"{known.better}: {known.definition}"
                ),
                remedy="choose another name, or declare it in the same way everywhere",
            )
        METRICS[name] = custom.metric
        if custom.compute is not None or name not in CUSTOM:
            CUSTOM[name] = custom


def computed(rows: Sequence[Any], duration_s: float) -> dict[str, float]:
    """Values of the custom metrics that this repetition has."""
    values = {}
    for name, custom in CUSTOM.items():
        if custom.compute is not None:
            value = custom.compute(rows, duration_s)
            if value is not None:
                values[name] = float(value)
    return values


def samples_needed(percentile: float) -> int:
    """Fewest requests from which a percentile may be stated: 64 for p90, 662 for p99.

    MLPerf Inference's early-stopping rule with one sample above the percentile: the
    smallest n for which P(X <= 1) <= 1 %, X ~ Bin(n, 1 - p), that is p^n + n (1 - p)
    p^(n - 1) <= 0.01.
    """
    p = percentile / 100
    n = 2
    while p**n + n * (1 - p) * p ** (n - 1) > 0.01:
        n += 1
    return n


def completed(transcripts: Sequence[Transcript]) -> list[Transcript]:
    """Those that did not fail."""
    return [t for t in transcripts if t.error is None]


def ttft_ns(t: Transcript) -> int:
    """First content chunk - request sent."""
    return t.first_ns - _sent(t)


def e2el_ns(t: Transcript) -> int:
    """Last content chunk - request sent."""
    return t.last_ns - _sent(t)


def tpot_ns(t: Transcript) -> float:
    """(E2EL - TTFT) / (output tokens - 1); only for two tokens or more."""
    if t.output_tokens < 2:
        raise ValueError(
            f"request {t.index} has {t.output_tokens} output tokens: no time per "
            "further token exists"
        )
    return (t.last_ns - t.first_ns) / (t.output_tokens - 1)


def itl_ns(t: Transcript) -> Times:
    """Gaps between consecutive content chunks."""
    import numpy as np  # here and below: to read the names of the metrics takes none

    at = np.asarray(t.chunk_ns, dtype=np.int64)
    return at[1:] - at[:-1]


def _sent(t: Transcript) -> int:
    if t.sent_ns is None or not t.chunk_ns or t.chunk_ns[0] < t.sent_ns:
        raise ValueError(
            f"request {t.index}: sent at {t.sent_ns}, first chunk "
            f"{t.chunk_ns[:1]}: not a completed request"
        )
    return t.sent_ns


def compute(
    transcripts: Sequence[Transcript],
    start_ns: int,
    end_ns: int,
    slo_ms: Sequence[tuple[str, float]] = (),
    window: tuple[int, int] | None = None,
) -> dict[str, float]:
    """Every metric that this run has.

    Args:
        transcripts: of all requests, failed ones included.
        start_ns: when the first arrival could have been due; the duration counts from
            here.
        end_ns: when the last answer was complete.
        slo_ms: limits for goodput; without any there is no goodput.
        window: the steady window, if there is one.
    """
    import numpy as np

    good = completed(transcripts)
    if not good:
        return {}
    duration_s = (end_ns - start_ns) / NS_PER_S
    output = sum(t.output_tokens for t in good)
    values = {
        "output_throughput": output / duration_s,
        "total_token_throughput": (output + sum(t.input_tokens for t in good))
        / duration_s,
        "request_throughput": len(good) / duration_s,
    }
    if slo_ms:
        values["request_goodput"] = sum(meets(t, slo_ms) for t in good) / duration_s
    if window:
        values["steady_output_throughput"] = tokens_within(good, window) / (
            (window[1] - window[0]) / NS_PER_S
        )
    gaps = np.concatenate([itl_ns(t) for t in good])
    samples: dict[str, tuple[npt.ArrayLike, int]] = {
        "ttft": ([ttft_ns(t) for t in good], len(good)),
        "itl": (gaps, steps(good, len(gaps))),
        "tpot": ([tpot_ns(t) for t in good if t.output_tokens > 1], len(good)),
        "e2el": ([e2el_ns(t) for t in good], len(good)),
    }
    for word, (sample, independent) in samples.items():
        values |= _statistics(
            word, np.asarray(sample, dtype=float) / NS_PER_MS, independent
        )
    return values


def _statistics(
    word: str, sample_ms: npt.NDArray[np.float64], independent: int
) -> dict[str, float]:
    import numpy as np

    if not len(sample_ms):
        return {}
    values = {
        f"{word}_mean_ms": float(np.mean(sample_ms)),
        f"{word}_median_ms": float(np.median(sample_ms)),
    }
    for percentile in PERCENTILES:
        if min(independent, len(sample_ms)) >= samples_needed(percentile):
            values[f"{word}_p{percentile}_ms"] = float(
                np.percentile(sample_ms, percentile)
            )
    return values


def steps(good: Sequence[Transcript], gaps: int) -> int:
    """How many independent gaps there are: streams that decode together share each step.

    Gaps divided by the mean number of streams that decode at once: (sum of decoding
    times) / (their span).
    """
    spans = [(t.first_ns, t.last_ns) for t in good]
    decoding = sum(last - first for first, last in spans)
    covered = max(last for _, last in spans) - min(first for first, _ in spans)
    return gaps if decoding <= covered else math.ceil(gaps * covered / decoding)


def meets(t: Transcript, slo_ms: Sequence[tuple[str, float]]) -> bool:
    """Whether a completed request is within every limit; a single token has no TPOT and cannot miss one."""
    figures: dict[str, Callable[[], float]] = {
        "ttft": lambda: ttft_ns(t),
        "e2el": lambda: e2el_ns(t),
        "tpot": lambda: tpot_ns(t) if t.output_tokens > 1 else 0.0,
    }
    return all(figures[word]() <= limit * NS_PER_MS for word, limit in slo_ms)


def tokens_within(good: Sequence[Transcript], window: tuple[int, int]) -> float:
    """Output tokens that came in (start, end]; a chunk counts as its request's tokens / chunks."""
    import numpy as np

    total = 0.0
    for t in good:
        inside = np.searchsorted(t.chunk_ns, window, side="right")
        total += float(inside[1] - inside[0]) * t.output_tokens / len(t.chunk_ns)
    return total


def steady_window(
    transcripts: Sequence[Transcript], open_loop: bool
) -> tuple[int, int] | None:
    """The part of the run that is neither ramp-up nor tail, or None if nothing of it is.

    Open loop: from the moment a fifth of the requests was sent to the moment four
    fifths were. Otherwise: from the first to the last moment at which at least 90 % of
    the most streams ever decoding were decoding. A burst has one too: its pure decode
    phase. A window shorter than a tenth of the run is none.
    """
    import numpy as np

    good = sorted(completed(transcripts), key=_sent)
    if len(good) < 2:
        return None
    start, end = _sent(good[0]), max(t.last_ns for t in good)
    if open_loop:
        window = _sent(good[len(good) // 5]), _sent(good[(4 * len(good)) // 5])
    else:
        edges = sorted(
            [(t.first_ns, 1) for t in good] + [(t.last_ns, -1) for t in good]
        )
        times, decoding = (
            np.array([at for at, _ in edges]),
            np.cumsum([step for _, step in edges]),
        )
        full = np.flatnonzero(decoding >= 0.9 * decoding.max())
        window = int(times[full[0]]), int(times[min(full[-1] + 1, len(times) - 1)])
    return window if window[1] - window[0] > 0.1 * (end - start) else None
