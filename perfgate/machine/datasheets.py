"""Data sheets: memory and memory bandwidth of each GPU product, from datasheets.toml.

Bandwidths are those of the makers' data sheets. Memory is what the CUDA runtime
reports, mostly less than the number in the product's name. Decode steps reach
60 to 90 % of a data sheet's bandwidth, so a step time computed from it is a
lower bound.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import msgspec

from perfgate.errors import Failure
from perfgate.machine.products import gpu_kind

GIB = 2**30
# A runtime reports up to 4 % less than NVML or a driver of another year; forms of a
# product differ by 9 % at least.
MEMORY_TOLERANCE = 0.08
TABLE = Path(__file__).resolve().parent / "datasheets.toml"


class UnknownGpu(Failure):
    """The GPU is not in datasheets.toml."""


class Gpu(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """One product.

    Attributes:
        name_words: NVML's name of the product has all of them.
        memory_bytes: as the CUDA runtime reports.
        bandwidth_bytes_per_s: of its memory, by the data sheet.
        source: of the bandwidth.

    """

    name: str
    name_words: tuple[str, ...]
    memory_bytes: int
    bandwidth_bytes_per_s: float
    source: str


class _Row(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """One table of datasheets.toml."""

    name: str
    words: tuple[str, ...]
    memory_gib: float
    bandwidth_tb_s: float
    source: str


def _read() -> tuple[Gpu, ...]:
    table = tomllib.loads(TABLE.read_text(encoding="utf-8"))
    gpus = []
    for row in msgspec.convert(table["gpu"], list[_Row]):
        gpu = Gpu(
            name=row.name,
            name_words=row.words,
            memory_bytes=int(row.memory_gib * GIB),
            bandwidth_bytes_per_s=row.bandwidth_tb_s * 1e12,
            source=row.source,
        )
        gpus.append(gpu)
    return tuple(gpus)


GPUS: tuple[Gpu, ...] = _read()


def by_name(name: str) -> Gpu:
    """The product of that name in the table ("h200").

    Raises:
        UnknownGpu: there is none.

    """
    for gpu in GPUS:
        if gpu.name == name.lower():
            return gpu
    names = ", ".join(gpu.name for gpu in GPUS)
    raise UnknownGpu(
        tried=f"looking up the GPU {name!r}",
        seen=f"the table has {names}",
        remedy=(
            "use one of these, or add its data sheet to "
            "perfgate/machine/datasheets.toml"
        ),
    )


def of_product(product: str, memory_bytes: int | None = None) -> Gpu | None:
    """The GPU with that name ("NVIDIA H100 80GB HBM3"); None if it is not in the table.

    Args:
        memory_bytes: of the GPU; None where it is unknown. Some products have one name
            and two sizes, whose bandwidths differ.
    """
    for gpu in _named(product):
        if memory_bytes is None or _has_memory(gpu, memory_bytes):
            return gpu
    return None


def kind_of(product: str, memory_bytes: int | None) -> str:
    """The slug of a product, with its memory where that is not the usual one of the name.

    "NVIDIA GB300" is "gb300" with 276 GiB, and "gb300-251gib" in a workstation.
    """
    kind = gpu_kind(product)
    named = _named(product)
    if memory_bytes is None or not named or _has_memory(named[0], memory_bytes):
        return kind
    return f"{kind}-{memory_bytes / GIB:.0f}gib"


def _named(product: str) -> list[Gpu]:
    """The rows whose words are all in a product's name, special forms first."""
    product_words = set(re.findall(r"[a-z0-9]+", product.lower()))
    return [gpu for gpu in GPUS if product_words.issuperset(gpu.name_words)]


def _has_memory(gpu: Gpu, memory_bytes: int) -> bool:
    return (
        abs(memory_bytes - gpu.memory_bytes)
        <= MEMORY_TOLERANCE * gpu.memory_bytes
    )
