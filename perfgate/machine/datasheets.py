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

GIB = 2**30
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


def of_product(product: str) -> Gpu | None:
    """The GPU with that NVML name ("NVIDIA H100 80GB HBM3"); None if it is not in the table."""
    product_words = set(re.findall(r"[a-z0-9]+", product.lower()))
    for gpu in GPUS:
        if product_words.issuperset(gpu.name_words):
            return gpu
    return None
