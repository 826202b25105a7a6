"""Doctor's findings about GPUs: those that are used, those left out, and their driver."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from perfgate.cli.finding import Finding
from perfgate.machine import nvml
from perfgate.machine.gpu import Gpu
from perfgate.machine.hardware import Hardware


def examine(
    hardware: Hardware,
    binding: Callable[[], str | None] = nvml.deprecated_binding,
) -> Iterator[Finding]:
    """Everything that can be said of the GPUs.

    Args:
        binding: version of the deprecated distribution pynvml, if it is installed.
    """
    version = binding()
    if version is not None:
        yield Finding(
            "gpu",
            "NVML binding",
            f"the deprecated distribution pynvml {version} is installed beside "
            "nvidia-ml-py, which has the module of that name",
            "pip uninstall pynvml && pip install --force-reinstall nvidia-ml-py",
        )
    fault = hardware.gpu_fault
    if fault is not None:
        yield Finding("gpu", "GPU driver", fault.seen, fault.remedy)
    if hardware.gpu_note:
        yield Finding("gpu", "GPUs", hardware.gpu_note)
    for gpu in hardware.gpus:
        yield Finding("gpu", f"GPU {gpu.index}", _describe(gpu))
    for omitted in hardware.omitted:
        name = omitted.name or "unknown product"
        yield Finding(
            "gpu",
            f"GPU {omitted.index}",
            f"{name}, left out: {omitted.reason}",
            omitted.remedy or None,
        )


def _describe(gpu: Gpu) -> str:
    parts = [gpu.name]
    if gpu.memory_total_bytes is None:
        parts.append("memory not reported (checks that need it are left out)")
    else:
        parts.append(f"{gpu.memory_total_bytes / 2**30:.0f} GiB")
    if gpu.power_limit_w is not None:
        parts.append(f"power limit {gpu.power_limit_w:g} W")
    parts.append("MIG off")
    if gpu.display:
        parts.append("drives a display")
    return ", ".join(parts)
