"""Slugs of GPU products, from the names that NVML and amdsmi give."""

import pytest

from perfgate.machine.products import gpu_kind, is_gpu_name, is_of


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("NVIDIA H200", "h200"),
        ("NVIDIA H200 NVL", "h200-nvl"),
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA H100 NVL", "h100-nvl"),
        ("NVIDIA H100 PCIe", "h100-pcie"),
        ("NVIDIA H100 64GB HBM2", "h100-64gb-hbm2"),
        ("NVIDIA H800", "h800"),
        ("NVIDIA H20", "h20"),
        ("NVIDIA H20-3e", "h20-3e"),
        ("NVIDIA A100-SXM4-80GB", "a100"),
        ("NVIDIA A100-SXM4-40GB", "a100-40gb"),
        ("NVIDIA A100-SXM-64GB", "a100-64gb"),
        ("NVIDIA A100-PCIE-40GB", "a100-pcie-40gb"),
        ("NVIDIA A100-PCIE-80GB", "a100-pcie"),
        ("NVIDIA A100 80GB PCIe", "a100-pcie"),
        ("NVIDIA A800-SXM4-80GB", "a800"),
        ("NVIDIA A800 80GB PCIe", "a800-pcie"),
        ("NVIDIA A30", "a30"),
        ("NVIDIA A10G", "a10g"),
        ("NVIDIA A10", "a10"),
        ("NVIDIA L4", "l4"),
        ("NVIDIA L40", "l40"),
        ("NVIDIA L40S", "l40s"),
        ("Tesla T4", "t4"),
        ("Tesla V100-SXM2-16GB", "v100"),
        ("Tesla V100-SXM2-32GB", "v100-32gb"),
        ("NVIDIA B200", "b200"),
        ("NVIDIA B300 SXM6 AC", "b300"),
        ("NVIDIA GB200", "gb200"),
        ("NVIDIA GB300", "gb300"),
        ("NVIDIA GH200 120GB", "gh200"),
        ("NVIDIA GH200 480GB", "gh200"),
        ("NVIDIA GH200 144G HBM3e", "gh200-144g-hbm3e"),
        ("NVIDIA GB10", "gb10"),
        ("NVIDIA Thor", "thor"),
        ("NVIDIA RTX 6000 Ada Generation", "rtx-6000-ada"),
        ("NVIDIA RTX A6000", "a6000"),
        ("Quadro RTX 6000", "quadro-rtx-6000"),
        (
            "NVIDIA RTX PRO 6000 Blackwell Server Edition",
            "rtx-pro-6000-blackwell-server",
        ),
        (
            "NVIDIA RTX PRO 6000 Blackwell Workstation Edition",
            "rtx-pro-6000-blackwell-workstation",
        ),
        (
            "NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition",
            "rtx-pro-6000-blackwell-max-q-workstation",
        ),
        ("NVIDIA GeForce RTX 4090", "geforce-rtx-4090"),
        ("NVIDIA GeForce RTX 4090 D", "geforce-rtx-4090-d"),
        ("NVIDIA GeForce RTX 5090", "geforce-rtx-5090"),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", "a100-40gb-mig-1g-5gb"),
        ("AMD Instinct MI300X", "mi300x"),
        ("AMD Instinct MI300X OAM", "mi300x"),
        ("AMD Instinct MI300X VF", "mi300x-vf"),
        ("AMD Instinct MI325X", "mi325x"),
        ("AMD Instinct MI355X", "mi355x"),
        ("AMD Radeon RX 7900 XTX", "radeon-rx-7900-xtx"),
        ("NVIDIA Graphics Device", "gpu"),
    ],
)
def test_kind_from_product_name(name, kind):
    """Forms with another memory or bandwidth have slugs of their own."""
    assert kind == gpu_kind(name)


@pytest.mark.parametrize(
    ("kind", "product", "expected"),
    [
        ("h100", "h100", True),
        ("h100-nvl", "h100", True),
        ("h100-nvl", "h100-nvl", True),
        ("h100", "h100-nvl", False),
        ("gh200", "h200", False),
        ("h200", "h20", False),
        ("h20-3e", "h20", True),
    ],
)
def test_form_is_of_its_product(kind, product, expected):
    """A marker that asserts the product takes its forms, and no other product."""
    assert expected is is_of(kind, product)


@pytest.mark.parametrize("word", ["b200", "l40s", "GB300", "mi300x", "rtx4090"])
def test_names_of_gpus(word):
    """Such a marker is meant to be a GPU."""
    assert is_gpu_name(word)


@pytest.mark.parametrize("word", ["slow", "cpu", "perf", "unit", "nightly2026"])
def test_other_words(word):
    """Such a marker is not."""
    assert not is_gpu_name(word)
