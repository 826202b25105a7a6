"""Metrics: name, unit, direction, definition, family and formula of each, in one table.

The words are those of `vllm bench serve`; each metric carries its definition, and a
baseline stores it, because tools use the same words for different things. A metric that
a run does not have is not in the result: nothing here returns zero, NaN or None for
"not known".
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import msgspec

from perfgate import formatting
from perfgate.errors import Failure, describe_error
from perfgate.load import formulas
from perfgate.load.formulas import (
    CompletedRequests,
    DistributionGetter,
    Formula,
)
from perfgate.load.request_times import NS_PER_S, Window, completed
from perfgate.load.response import Transcript

PERCENTILES = (90, 95, 99)

# What kind of figure a metric is: by it `perfgate.judge.policy` chooses the loss that
# is caught.
Family = Literal[
    "throughput",  # tokens or requests for each second
    "ttft",
    "itl",
    "tpot",
    "e2el",
    "tail",  # a percentile of TTFT, ITL or TPOT
    "e2el_tail",  # a percentile of whole answers, which average over many tokens
    "start_up",
    "memory_growth",  # after the load over before it
    "memory",  # bytes or tokens that a launch allots by its configuration
    "memory_peak",
    "bandwidth",
    "energy",
    "routing",  # which experts the tokens choose
    "host_cpu",  # CPU time of a server's processes
    "batch",  # time of a batch in an engine that is held in one process
    "hit_rate",  # of a cache or of drafted tokens, which the load fixes
    "accuracy",  # of answers to questions
    "answers",  # what the model answers to fixed prompts
    "facts",  # named texts, each of which repeats exactly
    "work",  # counts of what an engine does for a batch
    "calls",  # the same of functions, which other releases of Python may change
    "constant",  # a share or count that hardly differs between launches
    "custom",
]
FAMILIES: tuple[str, ...] = get_args(Family)


class Metric(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """A figure's name, unit, direction, definition and family.

    Attributes:
        family: one of `FAMILIES`; "custom" is judged like a throughput on GPUs, and
            report-only on a CPU.
        portable: a server on the CPU has the same value on every processor, so that one
            baseline counts for all of them.
    """

    name: str
    unit: str
    better: Literal["higher", "lower"]
    definition: str
    family: Family = "custom"
    portable: bool = False


@dataclass(frozen=True)
class BuiltIn:
    """A built-in metric.

    Attributes:
        formula: works it out of a repetition's requests; None where something else does
            (an engine's module, `perfgate.machine`, `perfgate.results.bandwidth`).
    """

    metric: Metric
    formula: Formula | None = None


# Of the requests of a repetition.
THROUGHPUTS = (
    BuiltIn(
        Metric(
            name="output_throughput",
            unit="tok/s",
            better="higher",
            definition="output tokens of completed requests, by the server's usage / duration",
            family="throughput",
        ),
        formulas.output_throughput,
    ),
    BuiltIn(
        Metric(
            name="total_token_throughput",
            unit="tok/s",
            better="higher",
            definition="input and output tokens of completed requests, by usage / duration",
            family="throughput",
        ),
        formulas.total_token_throughput,
    ),
    BuiltIn(
        Metric(
            name="request_throughput",
            unit="req/s",
            better="higher",
            definition="completed requests / duration",
            family="throughput",
        ),
        formulas.request_throughput,
    ),
    BuiltIn(
        Metric(
            name="request_goodput",
            unit="req/s",
            better="higher",
            definition="completed requests that meet every SLO / duration",
            family="throughput",
        ),
        formulas.request_goodput,
    ),
    BuiltIn(
        Metric(
            name="steady_output_throughput",
            unit="tok/s",
            better="higher",
            definition="output tokens that came within the steady window / its length",
            family="throughput",
        ),
        formulas.steady_output_throughput,
    ),
)

# Of a launch, by `perfgate.machine.memory` and the engines' modules.
LAUNCH_METRICS = (
    Metric(
        name="ready_s",
        unit="s",
        better="lower",
        definition="launch to first healthy answer",
        family="start_up",
    ),
    Metric(
        name="start_imports_s",
        unit="s",
        better="lower",
        definition="launch to the first log line about the weights",
        family="start_up",
    ),
    Metric(
        name="start_weights_s",
        unit="s",
        better="lower",
        definition="from there until the weights are loaded, by the log",
        family="start_up",
    ),
    Metric(
        name="start_compile_s",
        unit="s",
        better="lower",
        definition="weights loaded to the KV cache sized, by the log: compilation",
        family="start_up",
    ),
    Metric(
        name="start_graphs_s",
        unit="s",
        better="lower",
        definition="capture of the graphs, by the log",
        family="start_up",
    ),
    Metric(
        name="warm_up_s",
        unit="s",
        better="lower",
        definition="warm-up of all workloads, on GPUs with the ladder of lengths",
        family="start_up",
    ),
    Metric(
        name="warm_up_compiled",
        unit="",
        better="lower",
        definition="lengths of the ladder that were over 0.5 s slower at first, plus 1",
        family="start_up",
    ),
    Metric(
        name="memory_growth",
        unit="",
        better="lower",
        definition=(
            "memory of the server's processes (PSS) after its load / after its warm-up"
        ),
        family="memory_growth",
    ),
    Metric(
        name="gpu_memory_growth",
        unit="",
        better="lower",
        definition="memory of all GPUs by NVML after its load / after its warm-up",
        family="memory_growth",
    ),
    Metric(
        name="weights_bytes_per_rank",
        unit="bytes",
        better="lower",
        definition="bytes of weights on the rank that holds most, as ranks count them",
        family="memory",
        portable=True,
    ),
    Metric(
        name="weights_over_arithmetic",
        unit="",
        better="lower",
        definition=(
            "weights_bytes_per_rank / (parameters x bytes per parameter / ranks)"
        ),
        family="constant",
        portable=True,
    ),
    Metric(
        name="kv_cache_tokens",
        unit="tokens",
        better="higher",
        definition="tokens that the KV cache holds, as the engine logs it",
        family="memory",
        portable=True,
    ),
    Metric(
        name="memory_bytes",
        unit="bytes",
        better="lower",
        definition=(
            "memory of all GPUs by NVML, or of the server's processes (PSS), after its "
            "load"
        ),
        family="memory",
    ),
    Metric(
        name="memory_peak_bytes",
        unit="bytes",
        better="lower",
        definition=(
            "most memory during the load: of the GPU that uses most, by NVML; on the "
            "CPU the sum of the processes' VmHWM"
        ),
        family="memory_peak",
        portable=True,
    ),
    Metric(
        name="kv_cache_bytes",
        unit="bytes",
        better="higher",
        definition="KV cache of each rank, as the engine logs it or from its tokens",
        family="memory",
        portable=True,
    ),
    Metric(
        name="memory_rest_bytes",
        unit="bytes",
        better="lower",
        definition="memory_peak_bytes less weights, KV cache and graphs",
        family="memory",
    ),
    Metric(
        name="output_throughput_per_gb",
        unit="tok/s/GB",
        better="higher",
        definition="output throughput / (memory_bytes / 1e9)",
        family="throughput",
    ),
)

# Of a repetition, by the server's counters (`perfgate.load.server_rates`), or of a
# whole ramp (`perfgate.load.saturation`).
RATE_METRICS = (
    Metric(
        name="prefix_hit_rate",
        unit="",
        better="higher",
        definition=(
            "(prompt tokens that the prefix cache answered + 1/2) / (prompt tokens + 1/2)"
        ),
        family="hit_rate",
    ),
    Metric(
        name="acceptance_length",
        unit="tok",
        better="higher",
        definition=(
            "tokens that a decoding step adds: output tokens / (output tokens - accepted "
            "draft tokens)"
        ),
        family="hit_rate",
    ),
    Metric(
        name="chunk_tokens",
        unit="tok",
        better="higher",
        definition="output tokens by usage / content chunks, with speculative decoding",
        family="hit_rate",
    ),
    Metric(
        name="step_itl_median_ms",
        unit="ms",
        better="lower",
        definition=(
            "median gap between consecutive content chunks: with speculative decoding "
            "the time of a step"
        ),
        family="itl",
    ),
    Metric(
        name="token_itl_mean_ms",
        unit="ms",
        better="lower",
        definition=(
            "time from first to last content chunk / (output tokens - 1), pooled over "
            "completed requests, with speculative decoding"
        ),
        family="itl",
    ),
    Metric(
        name="saturated_throughput",
        unit="tok/s",
        better="higher",
        definition="most output throughput of a ramp that doubles the streams",
        family="throughput",
    ),
    Metric(
        name="saturated_goodput",
        unit="req/s",
        better="higher",
        definition="most request goodput of a ramp that doubles the streams",
        family="throughput",
    ),
    Metric(
        name="knee_streams",
        unit="",
        better="lower",
        definition="fewest streams of a ramp with 90 % of its most output throughput",
        family="constant",
    ),
    Metric(
        name="preemptions_per_step",
        unit="",
        better="lower",
        definition="requests that the engine put back, a step of the ramp, plus 1",
        family="constant",
    ),
)

ANSWER_METRICS = (
    Metric(
        name="accuracy",
        unit="",
        better="higher",
        definition=(
            "(greedy answers that hold the expected text + 1/2) / (questions + 1/2)"
        ),
        family="accuracy",
    ),
    Metric(
        name="answers_perplexity",
        unit="",
        better="lower",
        definition=(
            "e to the mean of -log p of the tokens of greedy answers to fixed prompts; "
            "judged by the distance from the recorded answers"
        ),
        family="answers",
        portable=True,
    ),
)

# Of a repetition, from more than its requests: by `perfgate.run.probes.gpu` and
# `perfgate.results.bandwidth`.
SERVER_METRICS = (
    Metric(
        name="energy_per_output_token_j",
        unit="J/tok",
        better="lower",
        definition="energy of the server's GPUs by NVML's counter / output tokens",
        family="energy",
    ),
    Metric(
        name="decode_bandwidth_gb_s",
        unit="GB/s",
        better="higher",
        definition=(
            "bytes that a decode step reads by arithmetic, weights and KV cache over "
            "all ranks / ITL median"
        ),
        family="bandwidth",
    ),
    Metric(
        name="bandwidth_utilisation",
        unit="",
        better="higher",
        definition=(
            "decode_bandwidth_gb_s / (ranks x the GPU's bandwidth by its data sheet)"
        ),
        family="bandwidth",
    ),
)

# Of an engine that is held in one process, by `perfgate.load.turns`.
BATCH_METRICS = (
    Metric(
        name="batch_cpu_ms",
        unit="ms",
        better="lower",
        definition="CPU time of the engine's process for one batch of the workload",
        family="batch",
    ),
    Metric(
        name="batch_active_ms",
        unit="ms",
        better="lower",
        definition=(
            "elapsed time of one batch less the time in which its thread was ready to "
            "run and had no core"
        ),
        family="batch",
    ),
)

# Of a repetition, by `perfgate.run.probes.host`.
HOST_METRICS = (
    Metric(
        name="host_cpu_ms_per_output_token",
        unit="ms/tok",
        better="lower",
        definition=(
            "CPU time of all processes of the server during the load / output tokens"
        ),
        family="host_cpu",
    ),
    Metric(
        name="front_cpu_ms_per_output_token",
        unit="ms/tok",
        better="lower",
        definition=(
            "CPU time of the server's first process (HTTP, tokens to text) during the "
            "load / output tokens"
        ),
        family="host_cpu",
    ),
)

# Of an engine that is held in one process: what it did for one batch of the workload, by
# `perfgate.run.probes.work`. The same in every process, on every CPU.
WORK_METRICS = (
    Metric(
        name="work_python_calls",
        unit="",
        better="lower",
        definition="calls of Python functions for one batch of the workload",
        family="calls",
        portable=True,
    ),
    Metric(
        name="work_c_calls",
        unit="",
        better="lower",
        definition="calls of C functions by Python for one batch of the workload",
        family="calls",
        portable=True,
    ),
    Metric(
        name="work_operators",
        unit="",
        better="lower",
        definition="operators that torch dispatched for one batch of the workload",
        family="work",
        portable=True,
    ),
    Metric(
        name="work_new_bytes",
        unit="bytes",
        better="lower",
        definition="bytes of the tensors that those operators returned, without views",
        family="work",
        portable=True,
    ),
    Metric(
        name="work_instructions",
        unit="",
        better="lower",
        definition="instructions for one batch of the workload, as valgrind counts them; no time",
        family="calls",
        portable=True,
    ),
    Metric(
        name="work_steps",
        unit="",
        better="lower",
        definition="steps of the engine for one batch of the workload",
        family="work",
        portable=True,
    ),
    Metric(
        name="work_answers",
        unit="",
        better="higher",
        definition="answers to one batch of the workload; judged by their tokens",
        family="facts",
        portable=True,
    ),
)

# Of a launch, by `perfgate.results.facts`.
FACT_METRICS = (
    Metric(
        name="engine_settings",
        unit="",
        better="higher",
        definition="settings and choices that the engine reports; judged one by one",
        family="facts",
        portable=True,
    ),
)

# Of a server that is asked where the tokens went; `perfgate.models.routing_stats` has
# the formulas. Of a layer's choices, those of the worst layer where a layer has its
# own.
ROUTING_METRICS = (
    Metric(
        name="routing_shares",
        unit="",
        better="higher",
        definition=(
            "smallest overlap of a layer's expert shares with uniform; judged by the "
            "distance from the recorded shares"
        ),
        family="routing",
        portable=True,
    ),
    Metric(
        name="routing_top2_share",
        unit="",
        better="lower",
        definition="largest share of a layer's choices that two experts take together",
        family="routing",
        portable=True,
    ),
    Metric(
        name="routing_max_over_mean",
        unit="",
        better="lower",
        definition="largest share of an expert / (1 / experts)",
        family="routing",
        portable=True,
    ),
    Metric(
        name="routing_min_over_mean",
        unit="",
        better="higher",
        definition=(
            "(choices of the least chosen expert + 1/2) / (mean of its layer + 1/2)"
        ),
        family="routing",
        portable=True,
    ),
    Metric(
        name="routing_entropy",
        unit="",
        better="higher",
        definition="smallest entropy of a layer's shares / log(experts)",
        family="routing",
        portable=True,
    ),
    Metric(
        name="routing_balancedness",
        unit="",
        better="higher",
        definition=(
            "smallest mean / maximum of the ranks' loads, experts spread over --tp ranks"
        ),
        family="routing",
        portable=True,
    ),
    Metric(
        name="routing_live_experts",
        unit="",
        better="higher",
        definition="experts of all layers that any token chose / all experts",
        family="routing",
        portable=True,
    ),
    Metric(
        name="routing_repeats_first",
        unit="",
        better="lower",
        definition=(
            "consecutive tokens with the same first choice / consecutive tokens"
        ),
        family="routing",
        portable=True,
    ),
    Metric(
        name="routing_repeats_any",
        unit="",
        better="lower",
        definition=(
            "consecutive tokens that choose an expert again / consecutive tokens"
        ),
        family="routing",
        portable=True,
    ),
    Metric(
        name="routing_ep_cost",
        unit="",
        better="lower",
        definition=(
            "mean over layers of the busiest rank's load / the mean load, experts spread"
        ),
        family="routing",
        portable=True,
    ),
)


def _latency_metrics(word: Family, definition: str) -> Iterator[BuiltIn]:
    """Mean, median and percentiles of a distribution of times of `CompletedRequests`."""
    get_distribution: DistributionGetter = operator.attrgetter(word)
    tail: Family = "tail"
    if word == "e2el":
        tail = "e2el_tail"

    def declare(statistic: str, family: Family, formula: Formula) -> BuiltIn:
        metric = Metric(
            name=f"{word}_{statistic}_ms",
            unit="ms",
            better="lower",
            definition=f"{statistic} of {definition}",
            family=family,
        )
        return BuiltIn(metric, formula)

    mean = functools.partial(formulas.mean_ms, get_distribution)
    yield declare("mean", word, mean)
    median = functools.partial(formulas.median_ms, get_distribution)
    yield declare("median", word, median)
    for percentile in PERCENTILES:
        formula = functools.partial(
            formulas.percentile_ms, percentile, get_distribution
        )
        yield declare(f"p{percentile}", tail, formula)


LATENCIES = (
    *_latency_metrics(
        "ttft",
        "time to first token: first content chunk - request sent, per completed request",
    ),
    *_latency_metrics(
        "itl",
        "inter-token latency: gap between consecutive content chunks of a request, "
        "pooled over completed requests",
    ),
    *_latency_metrics(
        "tpot",
        "time per output token: (E2EL - TTFT) / (output tokens - 1), per completed "
        "request of two tokens or more",
    ),
    *_latency_metrics(
        "e2el",
        "end-to-end latency: last content chunk - request sent, per completed request",
    ),
)

BUILT_IN: tuple[BuiltIn, ...] = (
    *THROUGHPUTS,
    *(BuiltIn(metric) for metric in LAUNCH_METRICS),
    *(BuiltIn(metric) for metric in RATE_METRICS),
    *(BuiltIn(metric) for metric in ANSWER_METRICS),
    *(BuiltIn(metric) for metric in SERVER_METRICS),
    *(BuiltIn(metric) for metric in ROUTING_METRICS),
    *(BuiltIn(metric) for metric in WORK_METRICS),
    *(BuiltIn(metric) for metric in FACT_METRICS),
    *LATENCIES,
    *(BuiltIn(metric) for metric in HOST_METRICS),
    *(BuiltIn(metric) for metric in BATCH_METRICS),
)
METRICS: dict[str, Metric] = {row.metric.name: row.metric for row in BUILT_IN}


# Of what every launch repeats exactly: more launches would not say more.
_REPEATED: frozenset[Family] = frozenset({"facts", "work", "calls"})


def is_exact(name: str) -> bool:
    """Whether every launch of one build has the same value."""
    return family_of(name) in _REPEATED


def is_portable(name: str) -> bool:
    """Whether every processor gives the same value; no metric that nobody declared does."""
    metric = METRICS.get(name)
    return metric is not None and metric.portable


def family_of(name: str) -> Family:
    """The family of a metric by its name; "custom" of one that nobody declared."""
    metric = METRICS.get(name)
    if metric is None:
        return "custom"
    return metric.family


def compute(
    transcripts: Sequence[Transcript],
    start_ns: int,
    end_ns: int,
    slo_ms: Sequence[tuple[str, float]] = (),
    window: Window | None = None,
) -> dict[str, float]:
    """Every built-in metric that the requests of a run have.

    Args:
        transcripts: of all requests, failed ones included.
        start_ns: when the first arrival could have been due; the duration counts from
            here.
        end_ns: when the last answer was complete.
        slo_ms: limits for goodput; without any there is no goodput.
        window: the steady window, if there is one.

    Raises:
        ValueError: a request that completed has impossible times.
    """
    good = completed(transcripts)
    if not good:
        return {}
    duration_s = (end_ns - start_ns) / NS_PER_S
    requests = CompletedRequests(good, duration_s, slo_ms, window)
    values = {}
    for row in BUILT_IN:
        if row.formula is None:
            continue
        value = row.formula(requests)
        if value is not None:
            values[row.metric.name] = value
    return values


@dataclass(frozen=True)
class CustomMetric:
    """A metric that a plugin or a test declares.

    Attributes:
        compute: works it out of a repetition's requests
            (`perfgate.load.repetition.RequestRow`) and its duration in seconds, and
            returns None where the repetition has none; None for a number that a test
            measures itself.
    """

    metric: Metric
    compute: Callable[[Sequence[Any], float], float | None] | None = None


CUSTOM: dict[str, CustomMetric] = {}


class BadMetric(Failure):
    """A metric that cannot be declared."""


def register(metrics: Iterable[CustomMetric | Metric]) -> None:
    """Declare further metrics.

    Raises:
        BadMetric: the name is that of a built-in metric, or of another custom one with
            another definition; the family does not exist; or it is no metric, or a
            field of it has the wrong type or value.
    """
    for declared in metrics:
        custom = declared
        if isinstance(custom, Metric):
            custom = CustomMetric(custom)
        metric = _validate(_typed(custom))
        METRICS[metric.name] = metric
        if custom.compute is not None or metric.name not in CUSTOM:
            CUSTOM[metric.name] = CustomMetric(metric, custom.compute)


def _typed(custom: Any) -> Metric:
    """The metric of a declaration, whose fields are as a run can be read with."""
    metric = getattr(custom, "metric", custom)
    if not isinstance(custom, CustomMetric) or not isinstance(metric, Metric):
        raise BadMetric(
            tried="declaring a metric",
            seen=f"it is a {type(metric).__name__}: {metric!r}",
            remedy="give a Metric or a CustomMetric of perfgate.load.metrics",
        )
    if metric.family not in FAMILIES:
        return metric  # it is refused with the families that there are
    try:
        return msgspec.convert(msgspec.to_builtins(metric), Metric)
    except (msgspec.ValidationError, TypeError) as error:
        raise BadMetric(
            tried=f"declaring the metric {metric.name}",
            seen=str(error).replace("$.", ""),
            remedy='correct this field; better is "higher" or "lower"',
        ) from None


def _validate(metric: Metric) -> Metric:
    """The metric, with the family that an equal declaration has given it."""
    tried = f"declaring the metric {metric.name}"
    if metric.family not in FAMILIES:
        suggestion = formatting.suggestion(metric.family, FAMILIES)
        raise BadMetric(
            tried=tried,
            seen=f"there is no family {metric.family!r}",
            remedy=f"{suggestion}use one of: {', '.join(FAMILIES)}",
        )
    declared = METRICS.get(metric.name)
    if declared is None:
        return metric
    if metric.family == "custom":
        metric = msgspec.structs.replace(metric, family=declared.family)
    # A run that was stored before metrics had families has none: a declared one counts.
    agrees = declared.family in ("custom", metric.family)
    expected = msgspec.structs.replace(declared, family=metric.family)
    if not agrees or expected != metric:
        raise BadMetric(
            tried=tried,
            seen=(
                f"it is declared already: {declared.unit or 'no unit'}, better "
                f"{declared.better}, family {declared.family}: {declared.definition}"
            ),
            remedy="choose another name, or declare it in the same way everywhere",
        )
    return metric


def computed(rows: Sequence[Any], duration_s: float) -> dict[str, float]:
    """Values of the custom metrics that this repetition has; one that is no number is none."""
    values = {}
    for name, custom in CUSTOM.items():
        if custom.compute is None:
            continue
        value = _value(name, custom.compute, rows, duration_s)
        if value is not None and math.isfinite(value):
            values[name] = value
    return values


def _value(
    name: str,
    compute: Callable[[Sequence[Any], float], float | None],
    rows: Sequence[Any],
    duration_s: float,
) -> float | None:
    """What a function of a plugin returns.

    Raises:
        BadMetric: it raised an exception, or returned what is no number.
    """
    try:
        value = compute(rows, duration_s)
        if isinstance(value, str):
            raise TypeError(f"it returned the text {value!r}")
        return None if value is None else float(value)
    except Exception as error:  # whatever a plugin does
        raise BadMetric(
            tried=f"computing the metric {name} by {_place(compute)}",
            seen=describe_error(error),
            remedy="return a number, or None where the repetition has no such value",
        ) from error


def _place(function: Any) -> str:
    """File, line and name of a plugin's function, as far as it has them."""
    name = getattr(function, "__qualname__", repr(function))
    code = getattr(function, "__code__", None)
    if code is None:
        return str(name)
    return f"{name} ({code.co_filename}:{code.co_firstlineno})"
