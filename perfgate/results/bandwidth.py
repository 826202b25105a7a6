"""How much of the memory's bandwidth does decoding use?

A decode step reads the weights that its tokens need, and their KV cache. Those bytes
(`perfgate.models`), over the time between two tokens, are the bandwidth that the model
got; over the bandwidth of the GPU's data sheet, its utilisation. A CPU has no such
figure here: its bandwidth is compared between models and batches only.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping

import msgspec

from perfgate.cases import Load
from perfgate.engines.base import ServerConfig
from perfgate.load.prompts import Synthetic
from perfgate.load.workload import Workload
from perfgate.machine.datasheets import of_product
from perfgate.machine.hardware import Hardware
from perfgate.models import catalogue as models
from perfgate.models import estimate
from perfgate.results.samples import launch_values
from perfgate.results.schema import RunResults


class Point(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One server under one workload, measured beside what the arithmetic says. Over all ranks.

    Attributes:
        batch: sequences that decode at once.
        itl_ms: median of the launches' medians.
        step_bytes: that a step reads, with uniform routing.
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


class RatioPoint(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The sparse model over the dense one at one batch: time per token as measured, bytes per step as calculated."""

    workload: str
    batch: int
    measured: float
    line: float


def context_of(workload: Workload) -> float:
    """Mean tokens in a sequence's KV cache while it decodes; 0 where the lengths come from a file."""
    prompts = workload.prompts
    return (
        prompts.input_len_tokens + prompts.output_len_tokens / 2
        if isinstance(prompts, Synthetic)
        else 0.0
    )


def step_bytes(server: ServerConfig, workload: Workload) -> float | None:
    """Bytes that a decode step of the workload reads on each rank; None in an open loop."""
    if workload.batch is None:
        return None
    architecture = models.lookup(server.model).architecture
    ranks, context = server.tensor_parallel_size, context_of(workload)
    return architecture.step_bytes_per_rank(
        ranks, server.dtype, workload.batch, context
    )


def values(
    server: ServerConfig,
    workload: Workload,
    measured: Mapping[str, float],
    hardware: Hardware,
) -> dict[str, float]:
    """The metrics of this page for one repetition; empty where the batch or the time per token is not known."""
    read, itl_ms = step_bytes(server, workload), measured.get("itl_median_ms")
    if read is None or not itl_ms:
        return {}
    per_rank = read / (itl_ms / 1e3)
    found = {"decode_bandwidth_gb_s": per_rank * server.tensor_parallel_size / 1e9}
    gpu = of_product(hardware.name) if server.device == "cuda" else None
    return (
        found
        if gpu is None
        else found | {"bandwidth_utilisation": per_rank / gpu.bandwidth_bytes_per_s}
    )


def no_peak(server: ServerConfig, hardware: Hardware) -> str | None:
    """Why no utilisation can be told; None if it can."""
    if server.device == "cpu":
        return (
            "bandwidth utilisation: no peak is known of a CPU, so its bandwidth is "
            "compared within the run alone"
        )
    if of_product(hardware.name) is None:
        return f"bandwidth utilisation: perfgate/machine/datasheets.toml has no {hardware.name}"
    return None


def points(results: RunResults) -> list[Point]:
    """Every server of a model that the catalogue has, under each workload with a fixed batch, ordered by both."""
    found = []
    for measurement in {
        (m.server, m.workload): m for m in results.measurements
    }.values():
        server, workload = (
            results.servers[measurement.server].config,
            results.workloads[measurement.workload],
        )
        load = Load(server=server, workload=workload)
        if server.model not in models.CATALOGUE:
            continue
        itl_ms = _median(
            value.value for value in launch_values(results, load, "itl_median_ms")
        )
        batch, read = workload.batch, step_bytes(server, workload)
        if batch is None or read is None or itl_ms is None:
            continue
        now = values(server, workload, {"itl_median_ms": itl_ms}, results.hardware)
        found.append(
            Point(
                server=server.key,
                model=server.model,
                workload=workload.name,
                batch=batch,
                itl_ms=itl_ms,
                step_bytes=read * server.tensor_parallel_size,
                bandwidth_gb_s=now["decode_bandwidth_gb_s"],
                utilisation=now.get("bandwidth_utilisation"),
            )
        )
    return sorted(found, key=lambda point: (point.server, point.batch, point.workload))


def ratio_points(
    results: RunResults, of: ServerConfig, over: ServerConfig
) -> list[RatioPoint]:
    """The measured ratio of two servers at each workload that both had, and the line that it is held against."""
    measured = points(results)
    mine = {point.workload: point for point in measured if point.server == of.key}
    theirs = {point.workload: point for point in measured if point.server == over.key}
    architectures = [models.lookup(server.model).architecture for server in (of, over)]
    found = [
        RatioPoint(
            workload=name,
            batch=point.batch,
            measured=point.itl_ms / theirs[name].itl_ms,
            line=estimate.step_ratio(
                architectures[0],
                architectures[1],
                point.batch,
                of.tensor_parallel_size,
                of.dtype,
                context_of(results.workloads[name]),
            ),
        )
        for name, point in mine.items()
        if name in theirs
    ]
    return sorted(found, key=lambda point: (point.batch, point.workload))


def _median(found: Iterable[float | None]) -> float | None:
    known = [value for value in found if value is not None]
    return statistics.median(known) if known else None
