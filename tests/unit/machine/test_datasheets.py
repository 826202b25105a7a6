"""Data sheets: a GPU is found by its name and by NVML's name."""

import pytest

from perfgate.machine import datasheets
from perfgate.machine.datasheets import (
    GIB,
    UnknownGpu,
    by_name,
    kind_of,
    of_product,
)


@pytest.mark.parametrize(
    ("product", "name"),
    [
        ("NVIDIA H200", "h200"),
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA H100 PCIe", "h100-pcie"),
        ("NVIDIA H100 NVL", "h100-nvl"),
        ("NVIDIA A100-SXM4-80GB", "a100"),
        ("NVIDIA A100 80GB PCIe", "a100-pcie"),
        ("NVIDIA A100-SXM4-40GB", "a100-40gb"),
        ("NVIDIA A100-PCIE-40GB", "a100-40gb"),
        ("NVIDIA H200 NVL", "h200-nvl"),
        ("NVIDIA H20", "h20"),
        ("NVIDIA H20-3e", "h20-3e"),
        ("NVIDIA B200", "b200"),
        ("NVIDIA B300 SXM6 AC", "b300"),
        ("NVIDIA GB200", "gb200"),
        ("NVIDIA GB300", "gb300"),
        ("NVIDIA GH200 480GB", "gh200"),
        ("NVIDIA GH200 144G HBM3e", "gh200-144gb"),
        ("NVIDIA L40S", "l40s"),
        ("NVIDIA L4", "l4"),
        ("NVIDIA A10G", "a10g"),
        ("NVIDIA RTX 6000 Ada Generation", "rtx-6000-ada"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "rtx-pro-6000-server"),
        (
            "NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition",
            "rtx-pro-6000",
        ),
        ("NVIDIA GeForce RTX 4090", "rtx-4090"),
        ("NVIDIA GeForce RTX 5090", "rtx-5090"),
        ("AMD Instinct MI300X", "mi300x"),
        ("AMD Instinct MI325X", "mi325x"),
        ("AMD Instinct MI355X", "mi355x"),
        ("NVIDIA H800", None),
        ("NVIDIA A10", None),
        ("Quadro RTX 6000", None),
        ("NVIDIA Thor", None),
    ],
)
def test_product_names(product, name):
    """Each form of a GPU has its own bandwidth; an unknown product has none."""
    found = of_product(product)

    assert name == (found.name if found else None)


@pytest.mark.parametrize(
    ("product", "memory_mib", "name", "kind"),
    [
        # As `nvidia-smi` shows them.
        ("NVIDIA H200", 143_771, "h200", "h200"),
        ("NVIDIA H100 80GB HBM3", 81_559, "h100", "h100"),
        ("NVIDIA B200", 183_359, "b200", "b200"),
        ("NVIDIA B300 SXM6 AC", 275_040, "b300", "b300"),
        ("NVIDIA GB300", 284_208, "gb300", "gb300"),
        ("NVIDIA GB300", 256_703, "gb300-station", "gb300-251gib"),
        ("NVIDIA L4", 23_034, "l4", "l4"),
        ("NVIDIA L40S", 46_068, "l40s", "l40s"),
        # More memory than any card of that name is sold with.
        ("NVIDIA GeForce RTX 4090", 49_140, None, "geforce-rtx-4090-48gib"),
        ("NVIDIA A10", 23_028, None, "a10"),
    ],
)
def test_memory_tells_forms_of_one_name_apart(product, memory_mib, name, kind):
    """Neither bandwidth nor baselines are those of the other form."""
    memory_bytes = memory_mib * 2**20
    found = of_product(product, memory_bytes)

    assert name == (found.name if found else None)
    assert kind == kind_of(product, memory_bytes)


def test_bandwidths_and_memories_are_possible():
    """A row with a slip of a decimal point would make a utilisation of 10 or 1,000 %."""
    for gpu in datasheets.GPUS:
        assert 20 <= gpu.memory_bytes / GIB <= 300, gpu.name
        assert 0.2e12 <= gpu.bandwidth_bytes_per_s <= 10e12, gpu.name
        assert gpu.source
    names = [gpu.name for gpu in datasheets.GPUS]
    assert len(names) == len(set(names))


def test_unknown_gpu_lists_the_table():
    """A misspelt GPU is answered with those that exist."""
    with pytest.raises(
        UnknownGpu, match=", ".join(gpu.name for gpu in datasheets.GPUS)
    ):
        by_name("h2000")
