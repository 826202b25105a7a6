"""Selections that doctor blocks: an engine, memory or disk is missing."""

import os

import pytest

from perfgate.cli.doctor import Finding, platforms
from perfgate.machine.hardware import Hardware
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
