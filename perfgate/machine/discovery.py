"""GPU discovery: what GPUs are here and which are used; faults are part of the answer.

A driver that is there and fails is not a machine without GPUs, and a GPU that does not
answer does not take the others along.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perfgate.errors import FailureRow
from perfgate.machine import devices
from perfgate.machine import nvml as nvml_queries
from perfgate.machine.gpu import Gpu, OmittedGpu, choose
from perfgate.machine.visible import Device, hidden_by_container, visible

# NVML's codes of errors (nvmlReturn_t).
_NO_PERMISSION, _DRIVER_NOT_LOADED, _NO_LIBRARY = 4, 9, 12
_GPU_IS_LOST, _VERSION_MISMATCH, _UNKNOWN = 15, 18, 999
_REMEDIES: Mapping[int, str] = {
    _NO_PERMISSION: (
        "this user may not use the GPUs: check the permissions of /dev/nvidia*, or the "
        "device rules of the container"
    ),
    _DRIVER_NOT_LOADED: (
        "load the driver (`sudo modprobe nvidia`); `dmesg | grep -i nvrm` says why it "
        "was not"
    ),
    _NO_LIBRARY: (
        "the devices are here without libnvidia-ml.so.1: start the container with "
        "NVIDIA_DRIVER_CAPABILITIES=compute,utility, or install the driver's libraries"
    ),
    _GPU_IS_LOST: (
        "a GPU has fallen off the bus: `dmesg | grep -i xid`, then restart the machine"
    ),
    _VERSION_MISMATCH: (
        "the driver was updated while its old module is loaded: restart the machine, "
        "and its containers"
    ),
    _UNKNOWN: (
        "run `nvidia-smi`; a container loses its GPUs when the host reloads systemd: "
        "restart it"
    ),
}
_LOST_REMEDY = (
    "`nvidia-smi -i {index}` and `dmesg | grep -i xid` say more; reset it or restart "
    "the machine"
)


@dataclass(frozen=True)
class Discovery:
    """The GPUs of a machine.

    Attributes:
        gpus: those that a run uses, of one product; empty where there is none.
        omitted: visible ones that it does not use.
        is_renumbered: whether CUDA may number the GPUs otherwise than NVML does.
        note: why there are none; "" where there is nothing to say.
        fault: why the GPUs cannot be asked although there are some.
    """

    gpus: tuple[Gpu, ...] = ()
    omitted: tuple[OmittedGpu, ...] = ()
    is_renumbered: bool = False
    driver: str | None = None
    cuda: str | None = None
    note: str = ""
    fault: FailureRow | None = None


def discover(
    nvml: Any,
    environ: Mapping[str, str],
    wanted: Sequence[str] = (),
    root: Path = Path("/"),
) -> Discovery:
    """Ask NVML, or the library of another vendor behind the same functions.

    Args:
        nvml: a module with pynvml's functions.
        environ: with the variables that hide GPUs.
        wanted: products that were asked for, the preferred first.
        root: of the file system with the devices, for tests.
    """
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        return _without_library(nvml, error, environ, root)
    try:
        return _query(nvml, environ, wanted)
    except nvml.NVMLError as error:
        return Discovery(fault=_fault(nvml, error))
    finally:
        nvml.nvmlShutdown()


def _without_library(
    nvml: Any, error: Exception, environ: Mapping[str, str], root: Path
) -> Discovery:
    """No GPU, where no driver is to be seen; else a fault."""
    code = getattr(error, "value", None)
    is_absent = code in (
        _NO_LIBRARY,
        nvml_queries.NO_BINDING,
    ) and not devices.has_nvidia(root)
    if code == _DRIVER_NOT_LOADED:
        is_absent = not devices.has_nvidia(
            root
        ) and not devices.has_nvidia_card(root)
    if is_absent:
        return Discovery(note=hidden_by_container(environ))
    return Discovery(fault=_fault(nvml, error))


def _fault(nvml: Any, error: Exception) -> FailureRow:
    remedy = nvml_queries.remedy(nvml)
    code = getattr(error, "value", None)
    if code is not None:
        remedy = _REMEDIES.get(code, remedy)
    return FailureRow(
        tried="asking the driver what GPUs are here",
        seen=f"{type(error).__name__}: {error}",
        remedy=remedy,
    )


def _query(
    nvml: Any, environ: Mapping[str, str], wanted: Sequence[str]
) -> Discovery:
    handles: dict[int, Any] = {}
    lost: dict[int, str] = {}
    listed = []
    for index in range(nvml.nvmlDeviceGetCount()):
        uuid = ""
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            uuid = str(nvml.nvmlDeviceGetUUID(handle))
            handles[index] = handle
        except nvml.NVMLError as error:
            lost[index] = _lost(error)
        listed.append(Device(index, uuid))
    seen = visible(listed, environ, nvml_queries.filters(nvml))
    gpus = []
    for device in seen.devices:
        if device.index in lost:
            continue
        try:
            gpus.append(_describe(nvml, handles[device.index], device))
        except nvml.NVMLError as error:
            lost[device.index] = _lost(error)
    selection = choose(gpus, wanted, seen.is_named)
    omitted = list(selection.omitted)
    for device in seen.devices:
        if device.index in lost:
            omitted.append(_omitted_lost(device.index, lost[device.index]))
    omitted.sort(key=lambda gpu: gpu.index)
    return Discovery(
        gpus=selection.gpus,
        omitted=tuple(omitted),
        is_renumbered=bool(lost) or _has_mig(nvml, handles.values()),
        driver=_text(nvml, "nvmlSystemGetDriverVersion"),
        cuda=_cuda(nvml),
        note=seen.note or _note(listed, environ),
    )


def _has_mig(nvml: Any, handles: Iterable[Any]) -> bool:
    """Whether a GPU is in MIG mode, hidden ones included.

    CUDA leaves it out, and puts one of its slices behind all whole GPUs.
    """
    return any(_is_mig(nvml, handle) for handle in handles)


def _is_mig(nvml: Any, handle: Any) -> bool:
    mode = nvml_queries.ask(nvml, "nvmlDeviceGetMigMode", handle)
    return bool(mode and mode[0])


def _lost(error: Exception) -> str:
    return f"does not answer ({type(error).__name__}: {error})"


def _omitted_lost(index: int, reason: str) -> OmittedGpu:
    return OmittedGpu(
        index=index,
        name="",
        reason=reason,
        remedy=_LOST_REMEDY.format(index=index),
    )


def _note(listed: Sequence[Device], environ: Mapping[str, str]) -> str:
    if listed:
        return ""
    return hidden_by_container(environ)


def _describe(nvml: Any, handle: Any, device: Device) -> Gpu:
    """Name and UUID are needed; what a product does not report besides is left out."""
    name = str(nvml.nvmlDeviceGetName(handle))
    memory = nvml_queries.ask(nvml, "nvmlDeviceGetMemoryInfo", handle)
    memory_bytes = None
    if memory is not None:
        memory_bytes = int(memory.total)
    limit_mw = nvml_queries.ask(
        nvml, "nvmlDeviceGetPowerManagementLimit", handle
    )
    limit_w = None
    if limit_mw is not None:
        limit_w = limit_mw / 1000
    display = nvml_queries.ask(nvml, "nvmlDeviceGetDisplayActive", handle)
    return Gpu(
        index=device.index,
        uuid=device.uuid,
        name=name,
        memory_total_bytes=memory_bytes,
        mig=_is_mig(nvml, handle),
        power_limit_w=limit_w,
        display=bool(display),
    )


def _text(nvml: Any, query: str) -> str | None:
    value = nvml_queries.ask(nvml, query)
    if value is None:
        return None
    return str(value)


def _cuda(nvml: Any) -> str | None:
    """The CUDA version that the driver supports: 13000 is "13.0"."""
    version = nvml_queries.ask(nvml, "nvmlSystemGetCudaDriverVersion")
    if version is None:
        return None
    return f"{version // 1000}.{version % 1000 // 10}"
