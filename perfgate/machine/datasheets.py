"""How much does this GPU hold, and how fast can it read that?

Bandwidths are the makers' data sheets'; memory is what the CUDA runtime reports, which is less than the number in the
name of most. Real decode steps reach 60 to 90 % of the bandwidth of a data sheet, so a step time from it is a floor.
"""

from __future__ import annotations

import re

import msgspec

from perfgate.errors import Failure

GIB = 2**30


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


def _gpu(name: str, words: str, memory_gib: float, bandwidth_tb_s: float, source: str) -> Gpu:
    return Gpu(
        name=name,
        words=tuple(words.split()),
        memory_bytes=int(memory_gib * GIB),
        bandwidth_bytes_per_s=bandwidth_tb_s * 1e12,
        source=source,
    )


# The first whose words all match is meant, so special ones stand before the usual form of their kind.
GPUS: tuple[Gpu, ...] = (
    _gpu("h200", "h200", 139.8, 4.8, "NVIDIA H200 data sheet: 141 GB HBM3e, 4.8 TB/s"),
    _gpu("h100-nvl", "h100 nvl", 93.1, 3.9, "NVIDIA H100 data sheet: H100 NVL, 94 GB, 3.9 TB/s"),
    _gpu("h100-pcie", "h100 pcie", 79.1, 2.0, "NVIDIA H100 PCIe product brief: 80 GB HBM2e, 2.0 TB/s"),
    _gpu("h100", "h100", 79.1, 3.35, "NVIDIA H100 data sheet: H100 SXM, 80 GB, 3.35 TB/s"),
    _gpu("a100-40gb", "a100 40gb", 39.4, 1.555, "NVIDIA A100 data sheet: 40 GB, 1,555 GB/s"),
    _gpu("a100-pcie", "a100 80gb pcie", 79.1, 1.935, "NVIDIA A100 data sheet: A100 80GB PCIe, 1,935 GB/s"),
    _gpu("a100", "a100", 79.1, 2.039, "NVIDIA A100 data sheet: A100 80GB SXM, 2,039 GB/s"),
)


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
        remedy="use one of these, or add its data sheet to perfgate/datasheets.py",
    )


def of_product(product: str) -> Gpu | None:
    """The product that NVML calls so ("NVIDIA H100 80GB HBM3"); None if it is not in the table."""
    words = set(re.findall(r"[a-z0-9]+", product.lower()))
    return next((gpu for gpu in GPUS if set(gpu.words) <= words), None)
