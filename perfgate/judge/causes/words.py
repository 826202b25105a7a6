"""Words of causes: what was seen, as sentences for a diagnosis."""

from __future__ import annotations

from collections.abc import Sequence

from perfgate import formatting
from perfgate.judge.causes.symptoms import Choice, Moved, ServerSymptoms
from perfgate.load.metrics import METRICS

MOST_LINES = 4

CAPPED = (
    "At most {limit} streams decode at once in {loads}, and no step is longer"
)
UNMOVED = "One stream and the steps of a batch have not moved"
STEPS_UNMOVED = "No step has moved, nor the first token of a prompt that fits"
CHUNKED_BATCHES = "No batch that is slower fits into a chunk; what decodes least lost most: {load}"
SINGLE_RANK = "{servers}, of one rank, has not moved"
NO_SINGLE_RANK = "No server of one rank was measured to confirm it"
LATE_RANK = (
    "In the profile rank {rank} is late: the wait for it is {share} of the loss"
)
COMMUNICATION = (
    "In the profile communication between the ranks takes {added} ms longer: "
    "{share} of the loss"
)
ONE_KERNEL = (
    "In the profile {kernel} takes {added} ms longer: {share} of the loss"
)
LAUNCHES = (
    "In the profile the GPU waits {added} ms longer between kernels: "
    "{share} of the loss"
)
CONTROL = "The dense control has not moved: {servers}"
NO_CONTROL = "No dense model was measured to confirm it"
PER_TOKEN = "{load} has not lost it; each sequence of the batch adds {us} us"
ALL_ALIKE = (
    "All servers decode slower by a like share, {low} to {high}: {servers}"
)
CONSTANT = (
    "{server}: a step is longer by {low} to {high} ms at every batch size"
)
NAMES = {
    "itl_median_ms": "ITL",
    "itl_mean_ms": "mean ITL",
    "ttft_median_ms": "TTFT",
    "output_throughput": "throughput",
    "saturated_throughput": "saturated throughput",
    "e2el_p95_ms": "p95 latency",
    "kv_cache_tokens": "KV cache",
    "memory_peak_bytes": "peak memory",
}


def choice(changed: Choice) -> str:
    """A changed choice: "moe_backend TRITON -> FLASHINFER_CUTLASS"."""
    return f"{changed.name} {changed.before} -> {changed.now}"


def change(row: Moved) -> str:
    """A change: "ITL of batch-32 +299.8 % (5.04 -> 20.13 ms)"."""
    name = NAMES.get(row.metric, row.metric)
    if row.load:
        name = f"{name} of {row.load}"
    unit = METRICS[row.metric].unit
    moved = formatting.signed_percent(row.now / row.before - 1)
    before = formatting.number(row.before, unit)
    now = formatting.number(row.now, unit)
    return f"{name} {moved} ({before} -> {now})"


def lines(rows: Sequence[Moved]) -> tuple[str, ...]:
    """The changes, the first of them in one sentence."""
    if not rows:
        return ()
    return ("; ".join(change(row) for row in rows[:MOST_LINES]),)


def constant(server: ServerSymptoms) -> str:
    """That each step of a server is longer by the same time."""
    added = [step.added for step in server.steps]
    return CONSTANT.format(
        server=server.key, low=f"{min(added):.2g}", high=f"{max(added):.2g}"
    )
