"""AMD GPUs: the functions of NVML that the suite calls, answered by amdsmi.

The only module that imports amdsmi, which comes with ROCm (/opt/rocm/share/amd_smi).
Its answers are in other units: watts, microjoules by a resolution, microwatts for the
limit. It has no mask of throttle reasons, so none are told. This was tested with a
stand-in for amdsmi alone, never on an AMD GPU.
"""

from __future__ import annotations

import threading
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from perfgate.machine.visible import ROCM

# What amdsmi says in place of a figure that the product does not have.
_NOT_AVAILABLE = "N/A"
_WHOLE = ("SPX", _NOT_AVAILABLE, "")
_NOT_SUPPORTED = 2  # of amdsmi_status_t; NVML has another number
INSTALL = (
    "install AMD's Python package, which comes with ROCm: "
    "pip install /opt/rocm/share/amd_smi"
)

# Module -> how often it was opened and not closed. Its own first close would end it for
# all of this process.
_openings: WeakKeyDictionary[Any, int] = WeakKeyDictionary()
_openings_lock = threading.Lock()


class Memory(NamedTuple):
    """Bytes of a GPU, under the names of NVML's answer."""

    total: int
    used: int


class Utilization(NamedTuple):
    """How busy a GPU is in percent, under the name of NVML's answer."""

    gpu: int


class Process(NamedTuple):
    """A process on a GPU, under the names of NVML's answer."""

    pid: int
    usedGpuMemory: int


class NotReported(Exception):
    """The GPU does not report this, or amdsmi does not offer it."""


class NoAmdSmi:
    """A library in place of amdsmi where that cannot be imported: it does not open."""

    NVMLError = NotReported
    REMEDY = INSTALL
    VISIBLE_FILTERS = ROCM

    def __init__(self, reason: str) -> None:
        self._reason = reason

    def nvmlInit(self) -> None:
        """Raise why amdsmi cannot be imported."""
        raise NotReported(
            f"AMD GPUs are here (/dev/kfd), and amdsmi is not: {self._reason}"
        )


class AmdSmi:
    """Some of NVML's functions on AMD GPUs; the index of a GPU is its number in HIP.

    Args:
        amdsmi: the module.
    """

    NVML_CLOCK_SM, NVML_CLOCK_MEM = "GFX", "MEM"
    NVML_TEMPERATURE_GPU = "HOTSPOT"
    REMEDY = (
        "check that `amd-smi list` works on this host and in this container "
        "(/dev/kfd and /dev/dri)"
    )
    VISIBLE_FILTERS = ROCM

    def __init__(self, amdsmi: Any) -> None:
        self._amdsmi = amdsmi
        self._handles: list[Any] = []
        self.NVMLError = (NotReported, amdsmi.AmdSmiException)

    def nvmlInit(self) -> None:
        """Open amdsmi, and order the GPUs as HIP numbers them."""
        with _openings_lock:
            opened = _openings.get(self._amdsmi, 0)
            if not opened:
                self._amdsmi.amdsmi_init()
            _openings[self._amdsmi] = opened + 1
        try:
            self._handles = self._ordered_handles()
        except self.NVMLError:
            self.nvmlShutdown()
            raise

    def nvmlShutdown(self) -> None:
        """Close amdsmi where nothing else of this process uses it."""
        with _openings_lock:
            opened = _openings.pop(self._amdsmi, 0)
            if opened > 1:
                _openings[self._amdsmi] = opened - 1
            else:
                self._amdsmi.amdsmi_shut_down()

    def _ordered_handles(self) -> list[Any]:
        handles = list(self._amdsmi.amdsmi_get_processor_handles())
        numbers = [self._enumeration(handle, "hip_id") for handle in handles]
        if not all(isinstance(number, int) for number in numbers):
            return handles
        order = sorted(range(len(handles)), key=lambda i: int(numbers[i]))
        return [handles[position] for position in order]

    def nvmlSystemGetDriverVersion(self) -> str:
        """Of the kernel's driver, as the first GPU tells it."""
        if not self._handles:
            raise NotReported("no GPU")
        info = self._amdsmi.amdsmi_get_gpu_driver_info(self._handles[0])
        return str(_reported(info["driver_version"]))

    def nvmlDeviceGetCount(self) -> int:
        """GPUs."""
        return len(self._handles)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Any:
        """By the number in HIP."""
        if index >= len(self._handles):
            raise NotReported(f"there is no GPU {index}")
        return self._handles[index]

    def nvmlDeviceGetUUID(self, handle: Any) -> str:
        """HIP's, which the variables name; else amdsmi's own."""
        uuid = self._enumeration(handle, "hip_uuid")
        # Without an identifier of the chip HIP has "GPU-XX" for each.
        if isinstance(uuid, str) and len(uuid) > len("GPU-XX"):
            return uuid
        return str(_reported(self._amdsmi.amdsmi_get_gpu_device_uuid(handle)))

    def nvmlDeviceGetName(self, handle: Any) -> str:
        """The product's market name, else the board's."""
        name = self._amdsmi.amdsmi_get_gpu_asic_info(handle)["market_name"]
        if name == _NOT_AVAILABLE:
            board = self._amdsmi.amdsmi_get_gpu_board_info(handle)
            name = board["product_name"]
        return str(_reported(name))

    def nvmlDeviceGetMemoryInfo(self, handle: Any) -> Memory:
        """Bytes of its own memory, in all and used."""
        kind = self._amdsmi.AmdSmiMemoryType.VRAM
        return Memory(
            total=self._amdsmi.amdsmi_get_gpu_memory_total(handle, kind),
            used=self._amdsmi.amdsmi_get_gpu_memory_usage(handle, kind),
        )

    def nvmlDeviceGetMigMode(self, handle: Any) -> tuple[int, int]:
        """Whether the GPU is partitioned into several (any mode but SPX)."""
        mode = self._amdsmi.amdsmi_get_gpu_compute_partition(handle)
        is_divided = int(mode not in _WHOLE)
        return is_divided, is_divided

    def nvmlDeviceGetPowerManagementLimit(self, handle: Any) -> float:
        """Milliwatts."""
        info = self._amdsmi.amdsmi_get_power_cap_info(handle)
        return float(_reported(info["power_cap"])) / 1e3  # microwatts

    def nvmlDeviceGetPowerUsage(self, handle: Any) -> float:
        """Milliwatts: at this moment, else the driver's mean."""
        info = self._amdsmi.amdsmi_get_power_info(handle)
        power_w = info["current_socket_power"]
        if power_w == _NOT_AVAILABLE:
            power_w = info["average_socket_power"]
        return float(_reported(power_w)) * 1e3

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: Any) -> float:
        """Millijoules since the driver was loaded."""
        info = self._amdsmi.amdsmi_get_energy_count(handle)
        count = float(_reported(info["energy_accumulator"]))
        microjoules = count * float(_reported(info["counter_resolution"]))
        return microjoules / 1e3

    def nvmlDeviceGetClockInfo(self, handle: Any, clock: str) -> int:
        """MHz."""
        kind = self._amdsmi.AmdSmiClkType[clock]
        info = self._amdsmi.amdsmi_get_clock_info(handle, kind)
        return int(_reported(info["clk"]))

    def nvmlDeviceGetTemperature(self, handle: Any, sensor: str) -> int:
        """Degrees Celsius, of the hottest place."""
        temperature_c = self._amdsmi.amdsmi_get_temp_metric(
            handle,
            self._amdsmi.AmdSmiTemperatureType[sensor],
            self._amdsmi.AmdSmiTemperatureMetric.CURRENT,
        )
        return int(_reported(temperature_c))

    def nvmlDeviceGetUtilizationRates(self, handle: Any) -> Utilization:
        """Percent."""
        info = self._amdsmi.amdsmi_get_gpu_activity(handle)
        return Utilization(gpu=_reported(info["gfx_activity"]))

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle: Any) -> int:
        """Not offered: amdsmi's violation status takes too long for each look."""
        raise NotReported("amdsmi has no mask of reasons")

    def nvmlDeviceGetComputeRunningProcesses(
        self, handle: Any
    ) -> list[Process]:
        """Pid, and bytes of the GPU's memory."""
        processes = []
        for process in self._amdsmi.amdsmi_get_gpu_process_list(handle):
            used_bytes = process["memory_usage"]["vram_mem"]
            if used_bytes == _NOT_AVAILABLE:
                used_bytes = 0
            row = Process(pid=process["pid"], usedGpuMemory=used_bytes)
            processes.append(row)
        return processes

    def _enumeration(self, handle: Any, field: str) -> Any:
        """How HIP names the GPU; None where this amdsmi does not know."""
        query = getattr(self._amdsmi, "amdsmi_get_gpu_enumeration_info", None)
        if query is None:
            return None
        try:
            return query(handle).get(field)
        except self.NVMLError:
            return None


def is_unsupported(error: Exception) -> bool:
    """Whether the product, or amdsmi, does not answer this query at all."""
    if isinstance(error, NotReported):
        return True
    return getattr(error, "err_code", None) == _NOT_SUPPORTED


def _reported(value: Any) -> Any:
    """A figure.

    Raises:
        NotReported: amdsmi says that there is none.
    """
    if value is None or value == _NOT_AVAILABLE:
        raise NotReported("not available on this product")
    return value


def load() -> AmdSmi | NoAmdSmi:
    """The library of AMD's GPUs."""
    try:
        import amdsmi
    except (ImportError, OSError, KeyError, AttributeError) as error:
        # Without libamd_smi.so the import fails in one of these ways.
        return NoAmdSmi(f"{type(error).__name__}: {error}")
    return AmdSmi(amdsmi)
