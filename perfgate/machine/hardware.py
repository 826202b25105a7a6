"""Hardware: detect the GPUs (NVML) or the CPU, and name the machine's baselines.

GPUs come from NVML (nvidia-ml-py), never from a flag. Without a usable GPU the machine
is its CPU. The label ("h200x2", "cpu-amd-epyc-avx512-x2") names the baselines that
apply. A CPU's label holds the processor and its number of cores: caches and memory
bandwidth decide the ratio of a sparse to a dense model (2.67 on one server processor,
2.20 on another with the same vector instructions). It also holds the vector
instructions, because the engines choose their kernels by them.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import psutil

from perfgate.machine import nvml as nvml_queries

_WORD = re.compile(r"[a-z0-9]+")
# Words of NVML's product names that many products share.
_VENDOR_WORDS = {"nvidia", "tesla", "graphics", "device", "generation"}
# A word that names a product by itself, such as h200, l40s, gb200 or a10g.
_PRODUCT_WORD = re.compile(r"[a-z]{1,3}\d{1,4}[a-z]?")
# Flag of /proc/cpuinfo -> instruction set, the widest first.
_ISA_OF_FLAG = {"avx512f": "avx512", "avx2": "avx2", "asimd": "neon"}


class Gpu(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """One GPU as NVML describes it."""

    index: int
    uuid: str
    name: str
    memory_total_bytes: int
    mig: bool
    power_limit_w: float | None


class Hardware(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """The machine that a run was measured on.

    Attributes:
        kind: the GPU's product as a slug ("h200", "l40s", "geforce-rtx-4090"), or
            "cpu".
        name: product name of the GPU or the CPU.
        count: GPUs, or CPU cores that this process may use.
        memory_bytes: of one GPU, or of the machine.
        isa: widest vector instruction set of the CPU: "avx512", "avx2", "neon" or
            "base". (AMX does not matter: the models of the CPU run are in float32.)
        cpu_name, cpu_count: product name of the CPU and the cores that this process may
            use, on hosts with GPUs too; "" and 0 in data of older suites.
        gpus: empty on the CPU.

    """

    kind: str
    name: str
    count: int
    memory_bytes: int
    isa: str
    host_memory_bytes: int
    cpu_name: str = ""
    cpu_count: int = 0
    driver: str | None = None
    cuda: str | None = None
    gpus: tuple[Gpu, ...] = ()

    @property
    def description(self) -> str:
        """For messages: "2x NVIDIA H200" or "no GPU (name, 2 cores, avx2)"."""
        if self.gpus:
            return f"{self.count}x {self.name}"
        return f"no GPU ({self.name}, {self.count} cores, {self.isa})"

    @property
    def machine_id(self) -> str | None:
        """An identifier made of the GPUs' UUIDs ("gpu-1f2e3d4c"); None on the CPU."""
        return self.machine_of(gpu.index for gpu in self.gpus)

    def machine_of(self, indices: Iterable[int]) -> str | None:
        """The identifier of some GPUs: a host of eight is four machines to servers on two."""
        chosen = set(indices)
        uuids = sorted(gpu.uuid for gpu in self.gpus if gpu.index in chosen)
        if not uuids:
            return None
        digest = hashlib.sha256(" ".join(uuids).encode()).hexdigest()
        return f"gpu-{digest[:8]}"

    def label(self, gpu_count: int) -> str:
        """Folder of the baselines for a server on `gpu_count` GPUs (0: on the CPU).

        "h200x2", "cpu-amd-epyc-avx512-x2".
        """
        if gpu_count:
            return f"{self.kind}x{gpu_count}"
        if self.kind.startswith("attached"):
            return self.kind
        processor = processor_slug(self.cpu_name or self.name)
        cores = self.cpu_count or self.count
        return f"cpu-{processor}-{self.isa}-x{cores}"

    def is_product(self, gpu: str | None) -> bool:
        """Whether its GPUs are of that product; None is any GPU."""
        return bool(self.gpus) and gpu in (None, self.kind)

    def lacks(self, gpu: str | None, gpu_count: int) -> str | None:
        """Why a test on `gpu_count` GPUs of a product cannot run here, or None if it can.

        Args:
            gpu: the product ("h200"); None for any. With `gpu_count` 0 every machine
                will do: a host with GPUs has a CPU too.
        """
        if gpu_count == 0:
            return None
        if self.is_product(gpu) and self.count >= gpu_count:
            return None
        product = (gpu or "GPU").upper()
        return f"needs {gpu_count}x {product}, found {self.description}"


def attached(platform: str) -> Hardware:
    """The machine of an external server, known only by the platform that the user named."""
    return Hardware(
        kind=f"attached-{platform}",
        name="unknown: external server",
        count=0,
        memory_bytes=0,
        isa="unknown",
        host_memory_bytes=0,
    )


def gpu_kind(name: str) -> str:
    """A slug for an NVML product name.

    "NVIDIA H100 80GB HBM3" is "h100", because a word such as h100 names a product by
    itself. "NVIDIA RTX 6000 Ada Generation" has no such word and is "rtx-6000-ada".
    """
    name_words: list[str] = _WORD.findall(name.lower())
    for word in name_words:
        if _PRODUCT_WORD.fullmatch(word):
            return word
    product_words = [word for word in name_words if word not in _VENDOR_WORDS]
    return "-".join(product_words) or "gpu"


def processor_slug(name: str) -> str:
    """A slug for a processor: "Intel(R) Xeon(R) CPU @ 2.20GHz" is "intel-xeon-cpu-2-20ghz"."""
    text = re.sub(r"\((r|tm)\)", " ", name.lower())
    name_words = _WORD.findall(text)
    return "-".join(name_words) or "unknown"


def cpu_isa(flags: Iterable[str], machine: str) -> str:
    """The widest vector instruction set among the CPU's flags (/proc/cpuinfo)."""
    present = set(flags)
    for flag, isa in _ISA_OF_FLAG.items():
        if flag in present:
            return isa
    if machine in ("aarch64", "arm64"):
        return "neon"
    return "base"


def detect(nvml: Any = None, cpuinfo: Path = Path("/proc/cpuinfo")) -> Hardware:
    """The hardware that this process may use: the visible GPUs if any, else the CPU.

    Args:
        nvml: a module with pynvml's functions; None imports it. A host without NVML has
            no GPU.
        cpuinfo: file with the CPU's name and flags.

    Raises:
        NvmlError: NVML initialises but a query fails.

    """
    cpu = _detect_cpu(cpuinfo)
    visible = _detect_gpus(nvml or nvml_queries.load())
    if not visible.gpus:
        return cpu
    first = visible.gpus[0]
    return msgspec.structs.replace(
        cpu,
        kind=gpu_kind(first.name),
        name=first.name,
        count=len(visible.gpus),
        memory_bytes=first.memory_total_bytes,
        driver=visible.driver,
        cuda=visible.cuda,
        gpus=visible.gpus,
    )


def _detect_cpu(cpuinfo: Path) -> Hardware:
    info = ""
    if cpuinfo.exists():
        info = cpuinfo.read_text(encoding="utf-8", errors="replace")
    name = _cpu_field(info, "model name") or platform.machine()
    flags = _cpu_field(info, "flags", "Features")
    cores = len(os.sched_getaffinity(0))
    memory_bytes = psutil.virtual_memory().total
    return Hardware(
        kind="cpu",
        name=name,
        count=cores,
        memory_bytes=memory_bytes,
        isa=cpu_isa(flags.split(), platform.machine()),
        host_memory_bytes=memory_bytes,
        cpu_name=name,
        cpu_count=cores,
    )


def _cpu_field(info: str, *names: str) -> str:
    for name in names:
        match = re.search(rf"^{name}\s*:\s*(.*)$", info, re.MULTILINE)
        if match:
            return match.group(1).strip()
    return ""


@dataclass(frozen=True)
class _Gpus:
    """The visible GPUs and their driver; empty where NVML cannot be opened."""

    gpus: tuple[Gpu, ...] = ()
    driver: str | None = None
    cuda: str | None = None


def _detect_gpus(nvml: Any) -> _Gpus:
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:
        return _Gpus()
    try:
        with nvml_queries.errors(nvml, "asking NVML what GPUs are here"):
            return _query_gpus(nvml)
    finally:
        nvml.nvmlShutdown()


def _query_gpus(nvml: Any) -> _Gpus:
    gpus = []
    for index in range(nvml.nvmlDeviceGetCount()):
        gpus.append(_describe_gpu(nvml, index))
    cuda_version = nvml.nvmlSystemGetCudaDriverVersion()
    major = cuda_version // 1000
    minor = cuda_version % 1000 // 10
    return _Gpus(
        gpus=_visible(gpus),
        driver=str(nvml.nvmlSystemGetDriverVersion()),
        cuda=f"{major}.{minor}",
    )


def _visible(gpus: Sequence[Gpu]) -> tuple[Gpu, ...]:
    """The GPUs in CUDA_VISIBLE_DEVICES, in its order; all where it is not set.

    An entry is an index, a UUID, or the beginning of one. The first entry that names no
    GPU of this host ends the list, as in CUDA itself.
    """
    setting = os.environ.get("CUDA_VISIBLE_DEVICES")
    if setting is None:
        return tuple(gpus)
    visible: list[Gpu] = []
    for entry in setting.split(","):
        matches = [gpu for gpu in gpus if _is_named(gpu, entry.strip())]
        if len(matches) != 1 or matches[0] in visible:
            break
        visible += matches
    return tuple(visible)


def _is_named(gpu: Gpu, entry: str) -> bool:
    if entry in (str(gpu.index), gpu.uuid):
        return True
    return entry.startswith(("GPU-", "MIG-")) and gpu.uuid.startswith(entry)


def _describe_gpu(nvml: Any, index: int) -> Gpu:
    answer = nvml_queries.answer
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    mig = answer(nvml, nvml.nvmlDeviceGetMigMode, handle)
    power_limit_mw = answer(
        nvml, nvml.nvmlDeviceGetPowerManagementLimit, handle
    )
    power_limit_w = None
    if power_limit_mw is not None:
        power_limit_w = power_limit_mw / 1000
    return Gpu(
        index=index,
        uuid=str(nvml.nvmlDeviceGetUUID(handle)),
        name=str(nvml.nvmlDeviceGetName(handle)),
        memory_total_bytes=int(nvml.nvmlDeviceGetMemoryInfo(handle).total),
        mig=bool(mig and mig[0]),
        power_limit_w=power_limit_w,
    )
