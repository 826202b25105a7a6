"""What GPUs are here: no driver, one that fails, and a GPU that does not answer."""

import pytest

from perfgate.machine.discovery import discover
from tests.support.fake_nvml import FakeGpu, FakeNvml, NvmlFailure, gpus_of


def failing(code, text="Unknown Error"):
    """NVML that does not open."""
    return FakeNvml(init_error=NvmlFailure(text, code))


def with_files(root, *paths):
    """A file system with these files."""
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    return root


@pytest.mark.parametrize("code", [9, 12])
def test_no_driver_and_no_device_is_no_gpu(tmp_path, code):
    """Neither the missing library nor the missing driver is a fault then."""
    found = discover(failing(code), {}, root=tmp_path)

    assert ((), None, "") == (found.gpus, found.fault, found.note)


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        (4, "permissions"),
        (15, "restart the machine"),
        (18, "restart the machine"),
        (999, "nvidia-smi"),
        (27, "nvidia-smi"),
    ],
)
def test_a_driver_that_fails_is_a_fault(tmp_path, code, remedy):
    """With NVML's words and a remedy of its own; it is never "no GPU"."""
    found = discover(failing(code, "its words"), {}, root=tmp_path)

    assert "its words" in found.fault.seen
    assert remedy in found.fault.remedy


@pytest.mark.parametrize(
    "path", ["proc/driver/nvidia/version", "dev/nvidiactl", "dev/nvidia0"]
)
@pytest.mark.parametrize(
    ("code", "remedy"), [(9, "modprobe"), (12, "NVIDIA_DRIVER_CAPABILITIES")]
)
def test_devices_without_driver_or_library_are_a_fault(
    tmp_path, path, code, remedy
):
    """The devices of the driver are here."""
    found = discover(failing(code), {}, root=with_files(tmp_path, path))

    assert remedy in found.fault.remedy


@pytest.mark.parametrize(
    ("vendor", "pci_class", "is_fault"),
    [
        ("0x10de", "0x030200", True),
        ("0x10de", "0x040300", False),  # its audio device
        ("0x8086", "0x030000", False),
    ],
)
def test_a_card_whose_driver_is_not_loaded_is_a_fault(
    tmp_path, vendor, pci_class, is_fault
):
    """A graphics card of NVIDIA on the bus, with its library installed."""
    device = tmp_path / "sys" / "bus" / "pci" / "devices" / "0000:01:00.0"
    device.mkdir(parents=True)
    (device / "vendor").write_text(f"{vendor}\n")
    (device / "class").write_text(f"{pci_class}\n")
    found = discover(failing(9), {}, root=tmp_path)

    assert is_fault is (found.fault is not None)


def test_a_count_that_fails_is_a_fault():
    """NVML opens and fails with the next question."""
    nvml = FakeNvml(refused=("nvmlDeviceGetCount",))
    found = discover(nvml, {})

    assert "Not Supported" in found.fault.seen
    assert 0 == nvml.open


@pytest.mark.parametrize("position", [0, 1, 7])
def test_one_lost_gpu_of_eight_is_named(position):
    """The other seven are used, under their own indices."""
    gpus = list(gpus_of(*["h200"] * 8))
    gpus[position] = FakeGpu(uuid="GPU-x", lost="GPU is lost")
    found = discover(FakeNvml(gpus=gpus), {})

    assert 7 == len(found.gpus)
    assert position not in [gpu.index for gpu in found.gpus]
    (omitted,) = found.omitted
    assert (position, "") == (omitted.index, omitted.name)
    assert "GPU is lost" in omitted.reason
    assert f"nvidia-smi -i {position}" in omitted.remedy


def test_a_lost_gpu_that_is_hidden_does_not_matter():
    """CUDA_VISIBLE_DEVICES names the other one."""
    gpus = (*gpus_of("h200"), FakeGpu(uuid="GPU-x", lost="GPU is lost"))
    found = discover(FakeNvml(gpus=gpus), {"CUDA_VISIBLE_DEVICES": "0"})

    assert (1, ()) == (len(found.gpus), found.omitted)


def test_a_gpu_without_a_name_is_named_by_its_index():
    """Its name is needed, for the baselines."""
    found = discover(FakeNvml(refused=("nvmlDeviceGetName",)), {})

    assert ((), 1) == (found.gpus, len(found.omitted))


def test_all_else_is_optional():
    """A product that refuses it is used all the same."""
    refused = (
        "nvmlDeviceGetMemoryInfo",
        "nvmlDeviceGetMigMode",
        "nvmlDeviceGetDisplayActive",
        "nvmlDeviceGetPowerManagementLimit",
        "nvmlSystemGetDriverVersion",
        "nvmlSystemGetCudaDriverVersion",
    )
    found = discover(FakeNvml(refused=refused), {})

    (gpu,) = found.gpus
    assert (None, None, False) == (
        gpu.memory_total_bytes,
        gpu.power_limit_w,
        gpu.mig,
    )
    assert (None, None) == (found.driver, found.cuda)


def test_a_container_without_gpus_says_why(tmp_path):
    """It was started with none."""
    environ = {"NVIDIA_VISIBLE_DEVICES": "void"}
    found = discover(failing(12), environ, root=tmp_path)

    assert "NVIDIA_VISIBLE_DEVICES=void" in found.note
