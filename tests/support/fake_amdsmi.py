"""Fake amdsmi: AMD's Python package, as far as the suite calls it.

A stub for unit tests. Names, units and the keys of the answers are those of
amdsmi 6.2 to 7; a figure that a product does not have is "N/A". As in amdsmi, openings
are not counted: the first close ends it for all who use it.
"""

from __future__ import annotations

import enum
import types
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


class AmdSmiException(Exception):
    """As amdsmi's."""


class AmdSmiLibraryException(AmdSmiException):
    """As amdsmi's: with the code of a refusal."""

    def __init__(self, text: str, err_code: int) -> None:
        super().__init__(text)
        self.err_code = err_code


class AmdSmiMemoryType(enum.IntEnum):
    """As amdsmi's."""

    VRAM = 0
    GTT = 2


class AmdSmiClkType(enum.IntEnum):
    """As amdsmi's."""

    GFX = 1
    MEM = 5


class AmdSmiTemperatureType(enum.IntEnum):
    """As amdsmi's."""

    EDGE = 0
    HOTSPOT = 1


class AmdSmiTemperatureMetric(enum.IntEnum):
    """As amdsmi's."""

    CURRENT = 0


@dataclass(frozen=True)
class FakeAmdGpu:
    """One GPU of a `FakeAmdSmi`.

    Attributes:
        refused: names of functions that raise on it.
        changed: function -> keys with other values.
    """

    hip_id: int
    name: str = "AMD Instinct MI300X"
    partition: str = "SPX"
    refused: tuple[str, ...] = ()
    changed: dict[str, dict[str, Any]] = field(default_factory=dict)


class FakeAmdSmi(types.SimpleNamespace):
    """The module, in whose list the GPUs stand as given."""

    __hash__ = object.__hash__  # as a module has
    AmdSmiException = AmdSmiException
    AmdSmiMemoryType = AmdSmiMemoryType
    AmdSmiClkType = AmdSmiClkType
    AmdSmiTemperatureType = AmdSmiTemperatureType
    AmdSmiTemperatureMetric = AmdSmiTemperatureMetric

    def __init__(
        self, gpus: Sequence[FakeAmdGpu], init_error: str = ""
    ) -> None:
        super().__init__()
        self.gpus, self.init_error, self.open = tuple(gpus), init_error, 0

    def _answer(
        self, handle: FakeAmdGpu, name: str, answer: dict[str, Any]
    ) -> dict[str, Any]:
        if not self.open:
            raise AmdSmiException(f"{name}: AMDSMI_STATUS_NOT_INIT")
        if name in handle.refused:
            text = f"{name}: AMDSMI_STATUS_NOT_SUPPORTED"
            raise AmdSmiLibraryException(text, err_code=2)
        return answer | handle.changed.get(name, {})

    def amdsmi_init(self) -> None:
        """Open."""
        if self.init_error:
            raise AmdSmiException(self.init_error)
        self.open = 1

    def amdsmi_shut_down(self) -> None:
        """Close."""
        self.open = 0

    def amdsmi_get_processor_handles(self) -> list[FakeAmdGpu]:
        """The GPU is its handle."""
        return list(self.gpus)

    def amdsmi_get_gpu_enumeration_info(
        self, handle: FakeAmdGpu
    ) -> dict[str, Any]:
        """How HIP names it."""
        uuid = f"GPU-{handle.hip_id:016x}"
        answer = {"hip_id": handle.hip_id, "hip_uuid": uuid}
        return self._answer(handle, "enumeration_info", answer)

    def amdsmi_get_gpu_device_uuid(self, handle: FakeAmdGpu) -> str:
        """AMD's own."""
        return f"0fff74a1-0000-1000-80{handle.hip_id:02x}-000000000000"

    def amdsmi_get_gpu_driver_info(self, handle: FakeAmdGpu) -> dict[str, Any]:
        """Of the kernel."""
        return {"driver_name": "amdgpu", "driver_version": "6.16.6"}

    def amdsmi_get_gpu_asic_info(self, handle: FakeAmdGpu) -> dict[str, Any]:
        """The chip."""
        return self._answer(handle, "asic_info", {"market_name": handle.name})

    def amdsmi_get_gpu_board_info(self, handle: FakeAmdGpu) -> dict[str, Any]:
        """The board."""
        return {"product_name": "AMD Instinct MI300X OAM"}

    def amdsmi_get_gpu_memory_total(
        self, handle: FakeAmdGpu, kind: AmdSmiMemoryType
    ) -> int:
        """Bytes."""
        self._answer(handle, "memory_total", {})
        return {AmdSmiMemoryType.VRAM: 206_141_652_992}.get(kind, 0)

    def amdsmi_get_gpu_memory_usage(
        self, handle: FakeAmdGpu, kind: AmdSmiMemoryType
    ) -> int:
        """Bytes."""
        self._answer(handle, "memory_usage", {})
        return {AmdSmiMemoryType.VRAM: 297_771_008}.get(kind, 0)

    def amdsmi_get_gpu_compute_partition(self, handle: FakeAmdGpu) -> str:
        """SPX is the whole GPU."""
        self._answer(handle, "compute_partition", {})
        return handle.partition

    def amdsmi_get_power_cap_info(self, handle: FakeAmdGpu) -> dict[str, Any]:
        """Microwatts."""
        answer = {"power_cap": 750_000_000}
        return self._answer(handle, "power_cap_info", answer)

    def amdsmi_get_power_info(self, handle: FakeAmdGpu) -> dict[str, Any]:
        """Watts; an MI300X has no mean."""
        answer = {"current_socket_power": 612, "average_socket_power": "N/A"}
        return self._answer(handle, "power_info", answer)

    def amdsmi_get_energy_count(self, handle: FakeAmdGpu) -> dict[str, Any]:
        """Steps of 15.3 microjoules."""
        answer = {
            "energy_accumulator": 1_000_000_000,
            "counter_resolution": 15.3,
        }
        return self._answer(handle, "energy_count", answer)

    def amdsmi_get_clock_info(
        self, handle: FakeAmdGpu, kind: AmdSmiClkType
    ) -> dict[str, Any]:
        """MHz."""
        clocks = {AmdSmiClkType.GFX: 2100, AmdSmiClkType.MEM: 1300}
        return self._answer(handle, "clock_info", {"clk": clocks[kind]})

    def amdsmi_get_temp_metric(
        self,
        handle: FakeAmdGpu,
        kind: AmdSmiTemperatureType,
        metric: AmdSmiTemperatureMetric,
    ) -> int:
        """Degrees Celsius; an MI300X has no sensor at its edge."""
        if kind is AmdSmiTemperatureType.EDGE:
            raise AmdSmiException("AMDSMI_STATUS_NOT_SUPPORTED")
        return 61

    def amdsmi_get_gpu_activity(self, handle: FakeAmdGpu) -> dict[str, Any]:
        """Percent."""
        answer = {"gfx_activity": 97, "umc_activity": 40}
        return self._answer(handle, "gpu_activity", answer)

    def amdsmi_get_gpu_process_list(
        self, handle: FakeAmdGpu
    ) -> list[dict[str, Any]]:
        """One engine, and a process whose memory is hidden."""
        self._answer(handle, "process_list", {})
        memories = ({"vram_mem": 10**11}, {"vram_mem": "N/A"})
        return [
            {"name": "N/A", "pid": 40 + n, "mem": 0, "memory_usage": memory}
            for n, memory in enumerate(memories)
        ]
