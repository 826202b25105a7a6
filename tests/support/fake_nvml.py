"""Fake NVML: GPUs whose readings are known.

A stub for unit tests: a module's worth of functions on an object. Power, clocks
and reasons are as set; energy follows from power and time. `FakeNvml()` has one
GPU that works at 400 W and 1,980 MHz. `FakeNvml(gpus=...)` has those, which may
differ, drive a display, be in MIG mode, or not answer.
"""

from __future__ import annotations

import time
import types
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from perfgate.machine.telemetry import Header, Moment

# Product -> NVML's name of it, and its memory in bytes.
PRODUCTS = {
    "l40s": ("NVIDIA L40S", 48_305_799_168),
    "h200": ("NVIDIA H200", 150_754_820_096),
    "h100": ("NVIDIA H100 80GB HBM3", 85_520_809_984),
    "b200": ("NVIDIA B200", 191_503_532_032),
    "h100-nvl": ("NVIDIA H100 NVL", 100_485_038_080),
    "t400": ("NVIDIA T400 4GB", 4_294_967_296),
    "gb10": ("NVIDIA GB10", None),
}


@dataclass(frozen=True)
class FakeGpu:
    """One GPU of a `FakeNvml`.

    Attributes:
        memory_bytes: None is refused.
        lost: name of NVML's error with which it answers each query.
    """

    uuid: str
    name: str = "NVIDIA H200"
    memory_bytes: int | None = 150_754_820_096
    mig: bool = False
    display: bool = False
    lost: str = ""


def gpus_of(*products: str) -> tuple[FakeGpu, ...]:
    """GPUs of these products, in this order."""
    gpus = []
    for index, product in enumerate(products):
        name, memory_bytes = PRODUCTS[product]
        gpus.append(
            FakeGpu(uuid=f"GPU-{index}", name=name, memory_bytes=memory_bytes)
        )
    return tuple(gpus)


class NvmlFailure(Exception):
    """As pynvml's NVMLError, with NVML's code."""

    def __init__(self, text: str, value: int = 999) -> None:
        super().__init__(text)
        self.value = value


class FakeNvml(types.SimpleNamespace):
    """NVML with `count` GPUs that all do the same, or with `gpus`.

    Attributes:
        refused: names of functions that this product does not answer.
        open: how often it was opened and not closed.
    """

    NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = 1, 2, 0
    NVMLError = NvmlFailure

    def __init__(
        self,
        count: int = 1,
        gpus: Sequence[FakeGpu] = (),
        init_error: NvmlFailure | None = None,
        **said: Any,
    ) -> None:
        defaults = {
            "power_w": 400.0,
            "sm_mhz": 1980,
            "memory_mhz": 3201,
            "temperature_c": 55,
            "busy": 97,
            "reasons": 0,
        }
        super().__init__(
            **defaults | {"refused": (), "open": 0, "looks": 0} | said
        )
        self.gpus = tuple(gpus) or gpus_of(*["h200"] * count)
        self.init_error, self.began = init_error, time.monotonic()

    @property
    def count(self) -> int:
        """GPUs."""
        return len(self.gpus)

    def _answer(self, name: str, value: Any) -> Any:
        if name in self.refused:
            raise self.NVMLError("Not Supported", 3)
        return value

    def nvmlInit(self) -> None:
        """Open."""
        if self.init_error is not None:
            raise self.init_error
        self._answer("nvmlInit", None)
        self.open += 1

    def nvmlShutdown(self) -> None:
        """Close."""
        self.open -= 1

    def nvmlSystemGetDriverVersion(self) -> str:
        """The version of the driver."""
        return self._answer("nvmlSystemGetDriverVersion", "580.82")

    def nvmlSystemGetCudaDriverVersion(self) -> int:
        """CUDA 13.0."""
        return self._answer("nvmlSystemGetCudaDriverVersion", 13000)

    def nvmlDeviceGetCount(self) -> int:
        """GPUs."""
        return self._answer("nvmlDeviceGetCount", self.count)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        """The index is the handle."""
        if index >= self.count:
            raise self.NVMLError("Invalid Argument", 2)
        if self.gpus[index].lost:
            raise self.NVMLError(self.gpus[index].lost, 15)
        return self._answer("nvmlDeviceGetHandleByIndex", index)

    def nvmlDeviceGetUUID(self, handle: int) -> str:
        """As it was made."""
        return self._answer("nvmlDeviceGetUUID", self.gpus[handle].uuid)

    def nvmlDeviceGetName(self, handle: int) -> str:
        """The product."""
        return self._answer("nvmlDeviceGetName", self.gpus[handle].name)

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> Any:
        """Bytes, of which 1 GB are used."""
        total = self.gpus[handle].memory_bytes
        if total is None:
            raise self.NVMLError("Not Supported", 3)
        memory = types.SimpleNamespace(total=total, used=10**9)
        return self._answer("nvmlDeviceGetMemoryInfo", memory)

    def nvmlDeviceGetMigMode(self, handle: int) -> list[int]:
        """The mode now, and after a restart."""
        mode = int(self.gpus[handle].mig)
        return self._answer("nvmlDeviceGetMigMode", [mode, mode])

    def nvmlDeviceGetDisplayActive(self, handle: int) -> int:
        """Whether a display is active."""
        is_active = int(self.gpus[handle].display)
        return self._answer("nvmlDeviceGetDisplayActive", is_active)

    def nvmlDeviceGetPowerManagementLimit(self, handle: int) -> int:
        """Milliwatts."""
        return self._answer("nvmlDeviceGetPowerManagementLimit", 700_000)

    def nvmlDeviceGetPowerUsage(self, handle: int) -> int:
        """Milliwatts."""
        self.looks += 1
        return self._answer("nvmlDeviceGetPowerUsage", int(1e3 * self.power_w))

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: int) -> int:
        """Millijoules since it was made, more on later GPUs."""
        joules = self.power_w * (time.monotonic() - self.began) + 1e6 * handle
        return self._answer(
            "nvmlDeviceGetTotalEnergyConsumption", int(1e3 * joules)
        )

    def nvmlDeviceGetClockInfo(self, handle: int, clock: int) -> int:
        """MHz."""
        return self._answer(
            "nvmlDeviceGetClockInfo",
            self.sm_mhz if clock == self.NVML_CLOCK_SM else self.memory_mhz,
        )

    def nvmlDeviceGetTemperature(self, handle: int, sensor: int) -> int:
        """Degrees Celsius."""
        return self._answer("nvmlDeviceGetTemperature", self.temperature_c)

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> Any:
        """Percent."""
        return self._answer(
            "nvmlDeviceGetUtilizationRates",
            types.SimpleNamespace(gpu=self.busy, memory=60),
        )

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle: int) -> int:
        """A mask of bits."""
        return self._answer(
            "nvmlDeviceGetCurrentClocksEventReasons", self.reasons
        )

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle: int) -> int:
        """The same by its name before driver 535."""
        return self._answer(
            "nvmlDeviceGetCurrentClocksThrottleReasons", self.reasons
        )


def read_series(path: Path) -> tuple[Header, list[Moment]]:
    """A series as it was written; a last line that was cut short is left out."""
    first, *lines = path.read_bytes().splitlines(keepends=True)
    whole = [line for line in lines if line.endswith(b"\n")]
    return msgspec.json.decode(first, type=Header), [
        msgspec.json.decode(line, type=Moment) for line in whole
    ]
