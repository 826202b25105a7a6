"""Data sheets: a GPU is found by its name and by NVML's name."""

import pytest

from perfgate.machine import datasheets
from perfgate.machine.datasheets import UnknownGpu, by_name, of_product


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
        ("NVIDIA L4", None),
    ],
)
def test_product_names_of_nvml(product, name):
    """Each form of a GPU has its own bandwidth; an unknown product has none."""
    found = of_product(product)

    assert name == (found.name if found else None)


def test_unknown_gpu_lists_the_table():
    """A misspelt GPU is answered with those that exist."""
    with pytest.raises(
        UnknownGpu, match=", ".join(gpu.name for gpu in datasheets.GPUS)
    ):
        by_name("h2000")
