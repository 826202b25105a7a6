"""Selections that doctor blocks: an engine, memory or disk is missing."""

import os

import msgspec
import pytest

from perfgate.cli.doctor import platforms
from perfgate.cli.finding import Finding
from perfgate.errors import FailureRow
from perfgate.machine.hardware import Hardware, detect
from tests.support.fake_nvml import FakeNvml, gpus_of
from tests.support.studies import SHIPPED

CPU = Hardware(
    kind="cpu",
    name="A CPU",
    count=len(os.sched_getaffinity(0)),
    memory_bytes=24 * 10**9,
    isa="avx2",
    host_memory_bytes=24 * 10**9,
)


def engine(name, blocks):
    """The finding about an engine on the CPU."""
    remedy = f"`perfgate engines install {name}`" if blocks else None
    return Finding(
        "engine", f"engine {name}", "seen", remedy, blocks, device="cpu"
    )


def cpu_selection(*findings):
    """What is said about -m cpu."""
    for finding in platforms(CPU, SHIPPED, 1, findings):
        if finding.subject == "pytest -m cpu":
            return finding
    raise LookupError


def gpu_selection(machine, platform, detect=None):
    """What is said about a GPU platform."""
    for finding in platforms(machine, SHIPPED, 1, (), detect):
        if finding.subject == f"pytest -m {platform}":
            return finding
    raise LookupError


def test_a_driver_that_fails_blocks_with_its_remedy():
    """It is not told as a machine without GPUs."""
    fault = FailureRow(tried="asking", seen="mismatch", remedy="restart it")
    finding = gpu_selection(
        msgspec.structs.replace(CPU, gpu_fault=fault), "h200"
    )

    assert ("mismatch", "restart it") == (finding.seen, finding.remedy)
    assert finding.blocks


@pytest.mark.parametrize(
    ("platform", "seen"),
    [
        ("h200", "runs here"),
        ("h100", "runs here"),
        ("a100", "needs 1x A100, found 2x NVIDIA H200"),
    ],
)
def test_each_product_of_a_mixed_machine_can_be_selected(
    monkeypatch, platform, seen
):
    """A session that asks for the smaller GPUs gets them."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    nvml = FakeNvml(gpus=gpus_of("h200", "h200", "h100"))
    finding = gpu_selection(
        detect(nvml), platform, lambda product: detect(nvml, wanted=[product])
    )

    assert finding.seen.startswith(seen)


def test_no_engine_is_installed():
    """Without an engine there is no CPU run: engines and an install command are named."""
    finding = cpu_selection(
        engine("sglang-cpu", True), engine("vllm-cpu", True)
    )

    assert (
        "no usable engine (engine sglang-cpu, engine vllm-cpu)" == finding.seen
    )
    assert "`perfgate engines install sglang-cpu`" == finding.remedy
    assert finding.blocks


def test_one_engine_is_enough():
    """One of two engines makes the run possible."""
    finding = cpu_selection(
        engine("sglang-cpu", True), engine("vllm-cpu", False)
    )

    assert ("runs here", None) == (finding.seen, finding.remedy)


@pytest.mark.parametrize("kind", ["memory", "disk"])
def test_other_needs_block_too(kind):
    """Too little memory or disk is repeated where it blocks a run."""
    lacking = Finding(kind, kind, "2 GB", "needs 8 GB", blocks=True)
    finding = cpu_selection(engine("vllm-cpu", False), lacking)

    assert (f"{kind}: 2 GB", "needs 8 GB") == (finding.seen, finding.remedy)
