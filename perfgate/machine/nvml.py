"""NVML: power, energy, clocks, temperature and throttle reasons of each GPU.

The only module that imports pynvml, and the place of its errors: all of them become an
`NvmlError`. `Gpus` keeps NVML open, because one look at a GPU is a dozen calls.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from importlib import metadata
from typing import Any

import msgspec

from perfgate.errors import Failure
from perfgate.machine import amd, devices
from perfgate.machine.visible import CUDA

# Bits of nvmlDeviceGetCurrentClocksEventReasons, under the names that
# `nvidia-smi -q -d PERFORMANCE` shows.
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
# Too hot, or too little external power: the run then measures the machine's cooling.
SLOWED = frozenset(
    {
        "hw_slowdown",
        "sw_thermal_slowdown",
        "hw_thermal_slowdown",
        "hw_power_brake_slowdown",
    }
)
# The query for throttle reasons: its name since driver 535, then its older name.
_REASON_QUERIES = (
    "nvmlDeviceGetCurrentClocksEventReasons",
    "nvmlDeviceGetCurrentClocksThrottleReasons",
)
_NOT_SUPPORTED = 3
# No code of NVML: its binding is missing.
NO_BINDING = -1
REMEDY = "check that `nvidia-smi` works on this host and in this container"


class NvmlError(Failure):
    """NVML does not answer, or has no such GPU."""


class Look(msgspec.Struct, frozen=True, array_like=True):
    """One GPU at one moment; None where it does not answer the query."""

    power_w: float | None
    energy_j: float | None
    sm_mhz: int | None
    memory_mhz: int | None
    temperature_c: int | None
    utilisation: float | None
    reasons: int | None


class NoBinding(Exception):
    """Pynvml is not there, or is another package of that name."""

    value = NO_BINDING


class NoPynvml:
    """A library in place of pynvml where that cannot be imported: it does not open."""

    NVMLError = NoBinding
    REMEDY = "pip install --force-reinstall nvidia-ml-py"

    def __init__(self, reason: str) -> None:
        self._reason = reason

    def nvmlInit(self) -> None:
        """Raise why pynvml cannot be imported."""
        raise NoBinding(f"pynvml cannot be used: {self._reason}")


def load() -> Any:
    """The module pynvml, or AMD's library where its GPUs are.

    It is imported at the first call: a host without GPUs need not load it.

    The deprecated distribution pynvml warns where it is installed beside nvidia-ml-py.
    `deprecated_binding` names it.
    """
    if devices.has_amd():
        return amd.load()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            import pynvml
        except Exception as error:  # noqa: BLE001 - whatever a package does
            return NoPynvml(f"{type(error).__name__}: {error}")
    if not hasattr(pynvml, "NVMLError"):
        return NoPynvml("it is another package of that name")
    return pynvml


def deprecated_binding(
    version_of: Callable[[str], str] = metadata.version,
) -> str | None:
    """Version of the deprecated distribution pynvml, if it is installed.

    It has a module of the same name as nvidia-ml-py's, or redirects to that.
    """
    try:
        return version_of("pynvml")
    except metadata.PackageNotFoundError:
        return None


def remedy(nvml: Any) -> str:
    """What to do where the library fails."""
    return str(getattr(nvml, "REMEDY", REMEDY))


def filters(nvml: Any) -> Sequence[Sequence[str]]:
    """The variables that restrict what the GPUs' runtime shows."""
    return getattr(nvml, "VISIBLE_FILTERS", CUDA)


@contextlib.contextmanager
def errors(nvml: Any, tried: str) -> Iterator[None]:
    """Turn an error of NVML into an `NvmlError`.

    Args:
        nvml: a module with pynvml's functions.
        tried: what NVML is asked for, for the message.

    """
    try:
        yield
    except nvml.NVMLError as error:
        raise NvmlError(
            tried=tried,
            seen=f"{type(error).__name__}: {error}",
            remedy=remedy(nvml),
        ) from error


@contextlib.contextmanager
def session(nvml: Any, tried: str) -> Iterator[None]:
    """NVML, open for the block.

    Raises:
        NvmlError: NVML cannot be opened, or a query fails.

    """
    with errors(nvml, tried):
        nvml.nvmlInit()
        try:
            yield
        finally:
            nvml.nvmlShutdown()


def answer(nvml: Any, query: Callable[..., Any], *args: Any) -> Any:
    """What NVML answers; None for a query that this product does not support."""
    try:
        return query(*args)
    except nvml.NVMLError:
        return None


def is_unsupported(error: Exception) -> bool:
    """Whether the product does not answer this query at all (NVML_ERROR_NOT_SUPPORTED)."""
    is_refused = getattr(error, "value", None) == _NOT_SUPPORTED
    return is_refused or amd.is_unsupported(error)


def ask(nvml: Any, name: str, *args: Any) -> Any:
    """What a function of NVML answers; None where product or library lack it."""
    query = getattr(nvml, name, None)
    if query is None:
        return None
    return answer(nvml, query, *args)


def reasons(mask: int) -> tuple[str, ...]:
    """Names of the set bits; an unknown bit is named by its number."""
    names = []
    for position in range(mask.bit_length()):
        bit = 1 << position
        if mask & bit:
            names.append(REASONS.get(bit, f"unknown_{bit:#x}"))
    return tuple(names)


class Gpus:
    """Some GPUs, with NVML open for them until `close`.

    Args:
        indices: NVML indices.
        nvml: a module with pynvml's functions; None imports it.

    Raises:
        NvmlError: NVML cannot be opened, or has no such GPU.
    """

    def __init__(self, indices: Sequence[int], nvml: Any = None) -> None:
        self.indices = tuple(indices)
        self._nvml = nvml or load()
        self._handles: list[Any] = []
        names = ", ".join(map(str, self.indices))
        with errors(self._nvml, f"opening NVML for GPUs {names}"):
            self._nvml.nvmlInit()
            self._find_handles()
        self._reasons_query = self._find_reasons_query()

    def look(self) -> tuple[Look, ...]:
        """Each GPU at this moment.

        Raises:
            NvmlError: a GPU answers none of the queries.
        """
        looks = []
        for index, handle in zip(self.indices, self._handles, strict=True):
            look = self._look(handle)
            answers = set(msgspec.structs.astuple(look))
            if answers == {None}:
                raise NvmlError(
                    tried=f"looking at GPU {index}",
                    seen="it answers none of NVML's queries",
                    remedy="check `nvidia-smi` and `dmesg`: it may have fallen off the bus",
                )
            looks.append(look)
        return tuple(looks)

    def joules(self) -> tuple[float | None, ...]:
        """Energy of each GPU since the driver was loaded; None before Volta, without a counter."""
        return tuple(self._joules(handle) for handle in self._handles)

    def close(self) -> None:
        """Close NVML."""
        with contextlib.suppress(self._nvml.NVMLError):
            self._nvml.nvmlShutdown()

    def _find_handles(self) -> None:
        try:
            for index in self.indices:
                handle = self._nvml.nvmlDeviceGetHandleByIndex(index)
                self._handles.append(handle)
        except self._nvml.NVMLError:
            self.close()
            raise

    def _look(self, handle: Any) -> Look:
        nvml = self._nvml
        milliwatts = self._answer(nvml.nvmlDeviceGetPowerUsage, handle)
        rates = self._answer(nvml.nvmlDeviceGetUtilizationRates, handle)
        utilisation = None
        if rates is not None:
            utilisation = rates.gpu / 100
        temperature_c = self._answer(
            nvml.nvmlDeviceGetTemperature, handle, nvml.NVML_TEMPERATURE_GPU
        )
        return Look(
            power_w=_thousandth(milliwatts),
            energy_j=self._joules(handle),
            sm_mhz=self._clock(handle, nvml.NVML_CLOCK_SM),
            memory_mhz=self._clock(handle, nvml.NVML_CLOCK_MEM),
            temperature_c=temperature_c,
            utilisation=utilisation,
            reasons=self._answer(self._reasons_query, handle),
        )

    def _clock(self, handle: Any, clock: int) -> Any:
        return self._answer(self._nvml.nvmlDeviceGetClockInfo, handle, clock)

    def _joules(self, handle: Any) -> float | None:
        query = self._nvml.nvmlDeviceGetTotalEnergyConsumption
        return _thousandth(self._answer(query, handle))

    def _find_reasons_query(self) -> Callable[..., Any]:
        """The query that one of the GPUs answers; the first that exists if none does."""
        queries: list[Callable[..., Any]] = []
        for name in _REASON_QUERIES:
            if hasattr(self._nvml, name):
                queries.append(getattr(self._nvml, name))
        for query in queries:
            for handle in self._handles:
                if self._answer(query, handle) is not None:
                    return query
        return queries[0]

    def _answer(self, query: Callable[..., Any], *args: Any) -> Any:
        return answer(self._nvml, query, *args)


def _thousandth(value: int | None) -> float | None:
    """Milliwatts as watts, millijoules as joules."""
    if value is None:
        return None
    return value / 1e3
