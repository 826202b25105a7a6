"""AMD GPUs through the functions of NVML that the suite calls, with a stand-in for amdsmi."""

import sys

import pytest

from perfgate.machine import amd, memory
from perfgate.machine.amd import AmdSmi, NoAmdSmi, NotReported
from perfgate.machine.hardware import detect
from perfgate.machine.memory import MemoryUnknown
from perfgate.machine.nvml import Gpus
from tests.support.fake_amdsmi import FakeAmdGpu, FakeAmdSmi


@pytest.fixture(autouse=True)
def _all_gpus_visible(monkeypatch):
    for name in ("CUDA", "HIP", "ROCR"):
        monkeypatch.delenv(f"{name}_VISIBLE_DEVICES", raising=False)


def library(*gpus, **more):
    """AMD's library with these GPUs, or one MI300X."""
    return AmdSmi(FakeAmdSmi(gpus or [FakeAmdGpu(0)], **more))


def test_eight_gpus_are_a_machine():
    """Named by their product, in the order of HIP and not of amdsmi's list."""
    order = (3, 0, 7, 2, 1, 6, 5, 4)
    machine = detect(library(*(FakeAmdGpu(hip_id) for hip_id in order)))

    assert ("mi300x", 8, "6.16.6", None) == (
        machine.kind,
        machine.count,
        machine.driver,
        machine.cuda,
    )
    assert "mi300xx8" == machine.label(8)
    assert [f"GPU-{n:016x}" for n in range(8)] == [
        gpu.uuid for gpu in machine.gpus
    ]
    first = machine.gpus[0]
    assert (206_141_652_992, 750.0, False) == (
        first.memory_total_bytes,
        first.power_limit_w,
        first.mig,
    )


def test_look_is_in_common_units():
    """Watts, joules, MHz, degrees of the hottest place; reasons are not told."""
    nvml = library()
    gpus = Gpus((0,), nvml)
    (look,) = gpus.look()
    gpus.close()

    assert (612.0, 2100, 1300, 61, 0.97, None) == (
        look.power_w,
        look.sm_mhz,
        look.memory_mhz,
        look.temperature_c,
        look.utilisation,
        look.reasons,
    )
    assert 15_300.0 == pytest.approx(look.energy_j)
    assert 0 == nvml._amdsmi.open


def test_library_stays_open_for_others():
    """Memory is asked for while the telemetry of the same GPUs goes on."""
    module = FakeAmdSmi([FakeAmdGpu(0)])
    gpus = Gpus((0,), AmdSmi(module))
    assert {0: 297_771_008} == memory.gpu_bytes((0,), AmdSmi(module))

    assert 612.0 == gpus.look()[0].power_w
    gpus.close()
    assert 0 == module.open


def test_library_that_lists_no_gpus_is_closed():
    """It opens, and refuses its first question."""
    module = FakeAmdSmi([FakeAmdGpu(0)])

    def refused():
        raise module.AmdSmiException("AMDSMI_STATUS_DRIVER_NOT_LOADED")

    module.amdsmi_get_processor_handles = refused
    with pytest.raises(module.AmdSmiException):
        AmdSmi(module).nvmlInit()
    assert 0 == module.open


def test_gpu_that_lists_no_processes_is_not_refused():
    """Amdsmi's code of what a product does not answer is another than NVML's."""
    nvml = library(FakeAmdGpu(0, refused=("process_list",)))

    assert [] == memory.gpu_processes((0,), lambda pid, unseen: unseen, nvml)


def test_gpu_without_memory_is_told_as_such():
    """Not as a library that fails."""
    nvml = library(FakeAmdGpu(0, refused=("memory_usage",)))

    with pytest.raises(MemoryUnknown, match="does not report it"):
        memory.gpu_bytes((0,), nvml)


def test_power_is_the_mean_where_the_moment_is_not_known():
    """As on an MI250."""
    power = {"current_socket_power": "N/A", "average_socket_power": 300}
    gpus = Gpus((0,), library(FakeAmdGpu(0, changed={"power_info": power})))

    assert 300.0 == gpus.look()[0].power_w


@pytest.mark.parametrize(
    ("function", "key", "field"),
    [
        ("energy_count", "energy_accumulator", "energy_j"),
        ("clock_info", "clk", "sm_mhz"),
        ("gpu_activity", "gfx_activity", "utilisation"),
    ],
)
def test_what_is_not_available_is_none(function, key, field):
    """Neither the word nor a zero."""
    gpu = FakeAmdGpu(0, changed={function: {key: "N/A"}})
    (look,) = Gpus((0,), library(gpu)).look()

    assert getattr(look, field) is None
    assert look.temperature_c == 61


def test_refused_queries_are_optional():
    """A guest of a virtual machine may not read the limit or the partition."""
    refused = ("power_cap_info", "compute_partition", "enumeration_info")
    machine = detect(library(FakeAmdGpu(0, refused=refused)))

    (gpu,) = machine.gpus
    assert (None, False) == (gpu.power_limit_w, gpu.mig)
    assert gpu.uuid.startswith("0fff74a1-")


def test_refused_memory_is_unknown():
    """The GPU is there all the same."""
    machine = detect(library(FakeAmdGpu(0, refused=("memory_total",))))

    assert machine.memory_bytes is None


def test_a_chip_without_identifier_has_amds_uuid():
    """HIP names every such GPU GPU-XX, which two sessions must not share."""
    changed = {"enumeration_info": {"hip_uuid": "GPU-XX"}}
    machine = detect(
        library(FakeAmdGpu(0, changed=changed), FakeAmdGpu(1, changed=changed))
    )

    assert 2 == len({gpu.uuid for gpu in machine.gpus})


def test_name_of_the_board_where_the_chip_has_none():
    """Older firmware."""
    gpu = FakeAmdGpu(0, changed={"asic_info": {"market_name": "N/A"}})

    assert "mi300x" == detect(library(gpu)).kind


def test_a_partitioned_gpu_is_left_out():
    """It is several to HIP."""
    machine = detect(library(FakeAmdGpu(0, partition="CPX"), FakeAmdGpu(1)))

    assert [1] == [gpu.index for gpu in machine.gpus]
    assert "partitioned" == machine.omitted[0].reason
    assert "amd-smi set" in machine.omitted[0].remedy


def test_hips_variables_hide_gpus(monkeypatch):
    """The outer one and the inner one."""
    monkeypatch.setenv("ROCR_VISIBLE_DEVICES", "2,3")
    monkeypatch.setenv("HIP_VISIBLE_DEVICES", "1")
    machine = detect(library(*(FakeAmdGpu(n) for n in range(4))))

    assert [3] == [gpu.index for gpu in machine.gpus]


def test_processes_and_memory():
    """As the pool asks for them before and after a launch."""
    nvml = library()

    assert {0: 297_771_008} == memory.gpu_bytes((0,), nvml)
    assert [(40, "a", 10**11), (41, "a", 0)] == memory.gpu_processes(
        (0,), lambda pid, text: "a", nvml
    )


def test_a_driver_that_fails_is_a_fault():
    """With AMD's own tool in the remedy."""
    machine = detect(library(init_error="AMDSMI_STATUS_DRIVER_NOT_LOADED"))

    assert "DRIVER_NOT_LOADED" in machine.gpu_fault.seen
    assert "amd-smi list" in machine.gpu_fault.remedy


def test_gpus_without_the_package_are_a_fault():
    """The kernel's driver is here; the remedy installs what ROCm brings."""
    machine = detect(NoAmdSmi("ModuleNotFoundError: No module named 'amdsmi'"))

    assert "/dev/kfd" in machine.gpu_fault.seen
    assert "pip install /opt/rocm/share/amd_smi" in machine.gpu_fault.remedy


def test_package_that_cannot_be_loaded(monkeypatch):
    """Its own library is missing, or all of it."""
    monkeypatch.setitem(sys.modules, "amdsmi", None)

    with pytest.raises(NotReported, match="amdsmi is not"):
        amd.load().nvmlInit()


def test_package_that_is_there(monkeypatch):
    """It is taken."""
    monkeypatch.setitem(sys.modules, "amdsmi", FakeAmdSmi([FakeAmdGpu(0)]))
    found = amd.load()
    found.nvmlInit()

    assert 1 == found.nvmlDeviceGetCount()
