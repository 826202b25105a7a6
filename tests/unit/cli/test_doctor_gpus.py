"""Doctor's findings about GPUs: used, left out, without memory, and without a driver."""

import pytest

from perfgate.cli.doctor_gpus import examine
from perfgate.machine.hardware import detect
from tests.support.fake_nvml import FakeGpu, FakeNvml, NvmlFailure, gpus_of


@pytest.fixture(autouse=True)
def _all_gpus_visible(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def findings(machine, version=None):
    """By subject."""
    return {
        finding.subject: finding
        for finding in examine(machine, lambda: version)
    }


def test_the_display_card_is_named_and_is_no_fault():
    """There is nothing to do about another product."""
    machine = detect(FakeNvml(gpus=gpus_of("t400", "h200")))
    found = findings(machine)["GPU 0"]

    assert (
        "NVIDIA T400 4GB, left out: another product than NVIDIA H200"
        == found.seen
    )
    assert found.remedy is None


def test_mig_and_lost_gpus_are_todos():
    """With the GPU's index in the remedy."""
    gpus = (
        FakeGpu(uuid="GPU-0"),
        FakeGpu(uuid="GPU-1", mig=True),
        FakeGpu(uuid="GPU-2", lost="GPU is lost"),
    )
    found = findings(detect(FakeNvml(gpus=gpus)))

    assert found["GPU 0"].remedy is None
    assert "in MIG mode" in found["GPU 1"].seen
    assert "-i 1 -mig 0" in found["GPU 1"].remedy
    assert "GPU is lost" in found["GPU 2"].seen
    assert "nvidia-smi -i 2" in found["GPU 2"].remedy


def test_refused_memory_is_told():
    """The GPU is shown without it."""
    found = findings(detect(FakeNvml(gpus=gpus_of("gb10"))))["GPU 0"]

    assert found.seen.startswith("NVIDIA GB10, memory not reported")


def test_a_broken_driver_is_a_todo(tmp_path):
    """With NVML's own words."""
    nvml = FakeNvml(init_error=NvmlFailure("mismatch", 18))
    found = findings(detect(nvml, root=tmp_path))["GPU driver"]

    assert "mismatch" in found.seen
    assert "restart the machine" in found.remedy


def test_hidden_gpus_are_told(monkeypatch):
    """By the variable that hides them."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")

    found = findings(detect(FakeNvml(8)))["GPUs"]

    assert "CUDA_VISIBLE_DEVICES=-1 hides all 8 GPUs of this host" == found.seen


def test_the_deprecated_binding_is_a_todo():
    """It has the module's name, and may lack its functions."""
    found = findings(detect(FakeNvml()), "11.5.3")["NVML binding"]

    assert "pynvml 11.5.3" in found.seen
    assert "pip uninstall pynvml" in found.remedy
