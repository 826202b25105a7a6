"""NVML: the power, clocks, temperature and throttling of each GPU now.

The only module that imports pynvml. It is opened once: a look costs a dozen calls.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from perfgate.errors import Failure

# Bits of nvmlDeviceGetCurrentClocksEventReasons, in the words of `nvidia-smi -q -d
# PERFORMANCE`.
REASONS = {
    0x1: "gpu_idle",
    0x2: "applications_clocks_setting",
    0x4: "sw_power_cap",
    0x8: "hw_slowdown",
    0x10: "sync_boost",
    0x20: "sw_thermal_slowdown",
    0x40: "hw_thermal_slowdown",
    0x80: "hw_power_brake_slowdown",
    0x100: "display_clock_setting",
}
HARMLESS = frozenset({"gpu_idle", "applications_clocks_setting"})
# Too hot, or too little power from outside: what is measured then is the machine's
# cooling.
SLOWED = frozenset(
    {
        "hw_slowdown",
        "sw_thermal_slowdown",
        "hw_thermal_slowdown",
        "hw_power_brake_slowdown",
    }
)


class TelemetryFailed(Failure):
    """GPUs that do not say what they do."""


class Look(msgspec.Struct, frozen=True, array_like=True):
    """One GPU at one moment; None for what it does not tell."""

    power_w: float | None
    energy_j: float | None
    sm_mhz: int | None
    memory_mhz: int | None
    temperature_c: int | None
    utilisation: float | None
    reasons: int | None


def reasons(mask: int) -> tuple[str, ...]:
    """Names of the set bits; one that has none is named by its number."""
    bits = (1 << place for place in range(mask.bit_length()) if mask >> place & 1)
    return tuple(REASONS.get(bit, f"unknown_{bit:#x}") for bit in bits)


def load() -> Any:
    """The module pynvml, imported at the first call: a host without GPUs need not load it."""
    import pynvml

    return pynvml


class Gpus:
    """Some GPUs, and NVML opened for them. Close it.

    Args:
        indices: by NVML.
        nvml: a module with pynvml's functions; None imports it.

    Raises:
        TelemetryFailed: NVML cannot be opened, or has no such GPU.
    """

    def __init__(self, indices: Sequence[int], nvml: Any = None) -> None:
        self.indices = tuple(indices)
        self._nvml = nvml or load()
        try:
            self._nvml.nvmlInit()
            self._handles = [
                self._nvml.nvmlDeviceGetHandleByIndex(index) for index in self.indices
            ]
        except self._nvml.NVMLError as error:
            raise TelemetryFailed(
                tried=f"opening NVML for GPUs {', '.join(map(str, self.indices))}",
                seen=f"{type(error).__name__}: {error}",
                remedy="check that `nvidia-smi` works on this host and in this container",
            ) from error
        # Its name since driver 535; older ones know the other one alone.
        names = (
            "nvmlDeviceGetCurrentClocksEventReasons",
            "nvmlDeviceGetCurrentClocksThrottleReasons",
        )
        queries = [
            getattr(self._nvml, name) for name in names if hasattr(self._nvml, name)
        ]
        answering = [
            query
            for query in queries
            if any(self._ask(query, handle) is not None for handle in self._handles)
        ]
        self._reasons = (answering or queries)[0]

    def look(self) -> tuple[Look, ...]:
        """Each GPU as it is now.

        Raises:
            TelemetryFailed: one of them tells nothing at all.
        """
        looks = tuple(self._look(handle) for handle in self._handles)
        for index, seen in zip(self.indices, looks, strict=True):
            if all(value is None for value in msgspec.structs.astuple(seen)):
                raise TelemetryFailed(
                    tried=f"looking at GPU {index}",
                    seen="it answers none of NVML's queries",
                    remedy="look at `nvidia-smi` and `dmesg`: it may have fallen off the bus",
                )
        return looks

    def joules(self) -> tuple[float | None, ...]:
        """What each GPU has used since the driver was loaded; None where it does not count (before Volta)."""
        return tuple(self._joules(handle) for handle in self._handles)

    def close(self) -> None:
        """Give NVML back."""
        with contextlib.suppress(self._nvml.NVMLError):
            self._nvml.nvmlShutdown()

    def _look(self, handle: Any) -> Look:
        nvml, ask = self._nvml, self._ask
        milliwatts = ask(nvml.nvmlDeviceGetPowerUsage, handle)
        rates = ask(nvml.nvmlDeviceGetUtilizationRates, handle)
        return Look(
            power_w=None if milliwatts is None else milliwatts / 1e3,
            energy_j=self._joules(handle),
            sm_mhz=ask(nvml.nvmlDeviceGetClockInfo, handle, nvml.NVML_CLOCK_SM),
            memory_mhz=ask(nvml.nvmlDeviceGetClockInfo, handle, nvml.NVML_CLOCK_MEM),
            temperature_c=ask(
                nvml.nvmlDeviceGetTemperature, handle, nvml.NVML_TEMPERATURE_GPU
            ),
            utilisation=None if rates is None else rates.gpu / 100,
            reasons=ask(self._reasons, handle),
        )

    def _joules(self, handle: Any) -> float | None:
        millijoules = self._ask(self._nvml.nvmlDeviceGetTotalEnergyConsumption, handle)
        return None if millijoules is None else millijoules / 1e3

    def _ask(self, query: Callable[..., Any], *args: Any) -> Any:
        try:
            return query(*args)
        except self._nvml.NVMLError:  # not every product answers every query
            return None
