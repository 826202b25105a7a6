"""Data sheets: how much a GPU holds, and how fast it can read that; the table is datasheets.toml.

Bandwidths are the makers' data sheets'; memory is what the CUDA runtime reports, which
is less than the number in the name of most. Real decode steps reach 60 to 90 % of the
bandwidth of a data sheet, so a step time from it is a floor.
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
    """A GPU that is not in the table."""


class Gpu(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One product.

    Attributes:
        words: all of them stand in NVML's name of the product.
        memory_bytes: as the CUDA runtime reports.
        bandwidth_bytes_per_s: of its memory, by the data sheet.
        source: of the bandwidth.

    """

    name: str
    words: tuple[str, ...]
    memory_bytes: int
    bandwidth_bytes_per_s: float
    source: str


class _Row(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One table of datasheets.toml."""

    name: str
    words: tuple[str, ...]
    memory_gib: float
    bandwidth_tb_s: float
    source: str


def _read() -> tuple[Gpu, ...]:
    data = tomllib.loads(TABLE.read_text(encoding="utf-8"))
    found = []
    for row in msgspec.convert(data["gpu"], list[_Row]):
        gpu = Gpu(
            name=row.name,
            words=row.words,
            memory_bytes=int(row.memory_gib * GIB),
            bandwidth_bytes_per_s=row.bandwidth_tb_s * 1e12,
            source=row.source,
        )
        found.append(gpu)
    return tuple(found)


GPUS: tuple[Gpu, ...] = _read()


def by_name(name: str) -> Gpu:
    """The product of that name in the table ("h200").

    Raises:
        UnknownGpu: there is none.

    """
    for gpu in GPUS:
        if gpu.name == name.lower():
            return gpu
    raise UnknownGpu(
        tried=f"looking up the GPU {name!r}",
        seen=f"the table has {', '.join(gpu.name for gpu in GPUS)}",
        remedy="use one of these, or add its data sheet to perfgate/machine/datasheets.toml",
    )


def of_product(product: str) -> Gpu | None:
    """The product that NVML calls so ("NVIDIA H100 80GB HBM3"); None if it is not in the table."""
    words = set(re.findall(r"[a-z0-9]+", product.lower()))
    return next((gpu for gpu in GPUS if set(gpu.words) <= words), None)
