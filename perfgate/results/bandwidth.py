"""Memory bandwidth of decoding: bytes that a step reads over the time between two tokens.

A decode step reads the weights that its tokens need, and their KV cache
(`perfgate.models`). Those bytes over the inter-token latency are the bandwidth that the
model got. Over the bandwidth of the GPU's data sheet they are its utilisation. A CPU
has no such figure: its bandwidth is compared between models and batches only.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from perfgate.engines.base import ServerConfig
from perfgate.engines.served import step_bytes_per_rank
from perfgate.load.lengths import Drawn
from perfgate.load.prompts import Synthetic
from perfgate.load.workload import Workload
from perfgate.machine.datasheets import of_product
from perfgate.machine.hardware import Hardware
from perfgate.models import catalogue as models
from perfgate.results.samples import RunIndex, mean_of, values_of

ITL = "itl_median_ms"


class Point(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """One server under one workload: measured latency and calculated bytes, over all ranks.

    Attributes:
        batch: sequences that decode at once.
        itl_ms: mean of the launches, each with the median of its gaps.
        step_bytes: that a step reads, with uniform routing or as it is stated.
        bandwidth_gb_s: step_bytes over itl_ms.
        utilisation: of the GPUs' peak; None where no data sheet is known.

    """

    server: str
    model: str
    workload: str
    batch: int
    itl_ms: float
    step_bytes: float
    bandwidth_gb_s: float
    utilisation: float | None


class RatioPoint(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """A model over its reference at one batch.

    Attributes:
        measured: ratio of the inter-token latencies.
        line: ratio of the bytes that a step reads, by arithmetic.
    """

    workload: str
    batch: int
    measured: float
    line: float


def context_of(workload: Workload) -> float:
    """Mean tokens in a sequence's KV cache while it decodes; 0 for prompts of a file."""
    prompts = workload.prompts
    if not isinstance(prompts, Synthetic | Drawn):
        return 0.0
    return prompts.input_len_tokens + prompts.output_len_tokens / 2


def step_bytes(server: ServerConfig, workload: Workload) -> float | None:
    """Bytes that a decode step of the workload reads on each rank; None in an open loop.

    Routing is uniform, or as it is stated.
    """
    if workload.batch is None:
        return None
    return step_bytes_per_rank(server, workload.batch, context_of(workload))


def step_ratio(
    numerator: ServerConfig,
    denominator: ServerConfig,
    batch: int,
    context_tokens: float,
) -> float:
    """Ratio of the bytes that a rank of each server reads in a decode step."""
    above = step_bytes_per_rank(numerator, batch, context_tokens)
    return above / step_bytes_per_rank(denominator, batch, context_tokens)


def values(
    server: ServerConfig,
    workload: Workload,
    repetition_values: Mapping[str, float],
    hardware: Hardware,
) -> dict[str, float]:
    """Bandwidth metrics of one repetition; empty where batch or time per token is unknown."""
    bytes_per_rank = step_bytes(server, workload)
    itl_ms = repetition_values.get(ITL)
    if bytes_per_rank is None or not itl_ms:
        return {}
    bytes_per_s = bytes_per_rank / (itl_ms / 1e3)
    total_gb_s = bytes_per_s * server.ranks / 1e9
    metrics = {"decode_bandwidth_gb_s": total_gb_s}
    gpu = None
    if server.device == "cuda":
        gpu = of_product(hardware.name, hardware.memory_bytes)
    if gpu is not None:
        metrics["bandwidth_utilisation"] = (
            bytes_per_s / gpu.bandwidth_bytes_per_s
        )
    return metrics


def no_peak(server: ServerConfig, hardware: Hardware) -> str | None:
    """Why the utilisation is unknown; None if it is known."""
    if server.device == "cpu":
        return (
            "bandwidth utilisation: the peak of a CPU is unknown; compare its bandwidth "
            "within the run only"
        )
    if of_product(hardware.name, hardware.memory_bytes) is not None:
        return None
    memory = ""
    if hardware.memory_bytes is not None:
        memory = f" with {hardware.memory_bytes / 2**30:.0f} GiB"
    return (
        f"bandwidth utilisation: {hardware.name}{memory} is not in "
        "perfgate/machine/datasheets.toml"
    )


def points(index: RunIndex) -> list[Point]:
    """Every server of a catalogue model under each workload with a fixed batch.

    Ordered by server and batch. Launches that do not count take no part.
    """
    rows = []
    for server, workload in index.loads:
        point = _point(index, server, workload)
        if point is not None:
            rows.append(point)
    return sorted(rows, key=lambda row: (row.server, row.batch, row.workload))


def _point(
    index: RunIndex, server_key: str, workload_name: str
) -> Point | None:
    results = index.results
    server = results.servers[server_key].config
    workload = results.workloads[workload_name]
    if server.model not in models.CATALOGUE:
        return None
    batch = workload.batch
    bytes_per_rank = step_bytes(server, workload)
    launches_itl_ms = values_of(
        index.samples_of(server_key, workload_name, ITL)
    )
    if batch is None or bytes_per_rank is None or not launches_itl_ms:
        return None
    itl_ms = mean_of(launches_itl_ms)
    metrics = values(server, workload, {ITL: itl_ms}, results.hardware)
    return Point(
        server=server.key,
        model=server.model,
        workload=workload.name,
        batch=batch,
        itl_ms=itl_ms,
        step_bytes=bytes_per_rank * server.ranks,
        bandwidth_gb_s=metrics["decode_bandwidth_gb_s"],
        utilisation=metrics.get("bandwidth_utilisation"),
    )


def ratio_points(
    index: RunIndex, numerator: ServerConfig, denominator: ServerConfig
) -> list[RatioPoint]:
    """The measured ratio of two servers at each workload that both had, and the calculated one."""
    above: dict[str, Point] = {}
    below: dict[str, Point] = {}
    for point in points(index):
        if point.server == numerator.key:
            above[point.workload] = point
        elif point.server == denominator.key:
            below[point.workload] = point
    ratios = []
    for name in above.keys() & below.keys():
        batch = above[name].batch
        context = context_of(index.results.workloads[name])
        line = step_ratio(numerator, denominator, batch, context)
        ratio = RatioPoint(
            workload=name,
            batch=batch,
            measured=above[name].itl_ms / below[name].itl_ms,
            line=line,
        )
        ratios.append(ratio)
    return sorted(ratios, key=lambda ratio: (ratio.batch, ratio.workload))
