"""Fake NVML: GPUs whose readings are known.

A stub for unit tests: a module's worth of functions on an object. Power, clocks
and reasons are as set; energy follows from power and time. `FakeNvml()` has one
GPU that works at 400 W and 1,980 MHz.
"""

from __future__ import annotations

import time
import types
from pathlib import Path
from typing import Any

import msgspec

from perfgate.machine.telemetry import Header, Moment


class FakeNvml(types.SimpleNamespace):
    """NVML with `count` GPUs that all do the same.

    Attributes:
        refused: names of functions that this product does not answer.
        open: how often it was opened and not closed.
    """

    NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = 1, 2, 0

    class NVMLError(Exception):
        """As pynvml's."""

    def __init__(self, count: int = 1, **said: Any) -> None:
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
        self.count, self.began = count, time.monotonic()

    def _answer(self, name: str, value: Any) -> Any:
        if name in self.refused:
            raise self.NVMLError("Not Supported")
        return value

    def nvmlInit(self) -> None:
        """Open."""
        self._answer("nvmlInit", None)
        self.open += 1

    def nvmlShutdown(self) -> None:
        """Close."""
        self.open -= 1

    def nvmlDeviceGetCount(self) -> int:
        """GPUs."""
        return self.count

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        """The index is the handle."""
        if index >= self.count:
            raise self.NVMLError("Invalid Argument")
        return index

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
