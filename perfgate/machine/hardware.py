"""What machine is this, and is it quiet?

GPUs are found by NVML (nvidia-ml-py), never by a flag; without a usable GPU the machine
is its CPU. The label ("h200x2", "cpu-amd-epyc-avx512-x2") names the baselines that
apply. The CPU's holds the processor and the number of its cores: caches and memory
bandwidth make the ratio of a sparse to a dense model (2.67 on one server processor,
2.20 on another with the same vector instructions). It holds the vector instructions
because the engines pick their kernels by them.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import psutil

from perfgate.errors import Failure
from perfgate.machine.nvml import load as load_nvml

# Words of NVML's product names that do not tell one product from another.
_VENDOR_WORDS = {"nvidia", "tesla", "graphics", "device", "generation"}
# A product's own word, such as h200, l40s, gb200 or a10g.
_PRODUCT_WORD = re.compile(r"[a-z]{1,3}\d{1,4}[a-z]?")


class NvmlError(Failure):
    """NVML is there but does not answer."""


class Gpu(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One GPU as NVML describes it."""

    index: int
    uuid: str
    name: str
    memory_total_bytes: int
    mig: bool
    power_limit_w: float | None


class Hardware(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The machine that a run was measured on.

    Attributes:
        kind: the GPU's product as a slug ("h200", "l40s", "geforce-rtx-4090"), or
            "cpu".
        name: product name of the GPU or the CPU.
        count: GPUs, or CPU cores that this process may use.
        memory_bytes: of one GPU, or of the machine.
        isa: widest vector instruction set of the CPU: "avx512", "avx2", "neon" or
            "base". (AMX plays no part: the models of the CPU run are in float32.)
        cpu_name, cpu_count: product name of the CPU and the cores that this process may
            use, beside GPUs too; "" and 0 in data of older suites.
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
    def describe(self) -> str:
        """For messages: "2x NVIDIA H200" or "no GPU (name, 2 cores, avx2)"."""
        if self.gpus:
            return f"{self.count}x {self.name}"
        return f"no GPU ({self.name}, {self.count} cores, {self.isa})"

    @property
    def machine_id(self) -> str | None:
        """Which one of its kind it is, by its GPUs: "gpu-1f2e3d4c"; None on the CPU, where nothing tells."""
        return self.machine_of(gpu.index for gpu in self.gpus)

    def machine_of(self, indices: Iterable[int]) -> str | None:
        """The same of some of its GPUs: a host of eight is four machines to servers on two."""
        chosen = set(indices)
        uuids = sorted(gpu.uuid for gpu in self.gpus if gpu.index in chosen)
        return (
            f"gpu-{hashlib.sha256(' '.join(uuids).encode()).hexdigest()[:8]}"
            if uuids
            else None
        )

    def label(self, gpu_count: int) -> str:
        """Folder of the baselines for a server on `gpu_count` GPUs (0: on the CPU).

        "h200x2", "cpu-amd-epyc-avx512-x2".
        """
        if gpu_count:
            return f"{self.kind}x{gpu_count}"
        if self.kind.startswith("attached"):
            return self.kind
        return f"cpu-{processor_slug(self.cpu_name or self.name)}-{self.isa}-x{self.cpu_count or self.count}"

    def is_product(self, gpu: str | None) -> bool:
        """Whether its GPUs are of that product; None stands for any GPU."""
        return bool(self.gpus) and gpu in (None, self.kind)

    def lacks(self, gpu: str | None, gpu_count: int) -> str | None:
        """Why a test on `gpu_count` GPUs of a product cannot run here, or None if it can.

        Args:
            gpu: the product ("h200"); None for any. With `gpu_count` 0 every machine
                will do: a host with GPUs has a CPU too.
        """
        if gpu_count == 0 or (self.is_product(gpu) and self.count >= gpu_count):
            return None
        return f"needs {gpu_count}x {(gpu or 'GPU').upper()}, found {self.describe}"


def attached(platform: str) -> Hardware:
    """The machine of a server that somebody else runs: what it is was said, not seen, and its label says so."""
    return Hardware(
        kind=f"attached-{platform}",
        name="unknown: somebody else runs the server",
        count=0,
        memory_bytes=0,
        isa="unknown",
        host_memory_bytes=0,
    )


def gpu_kind(name: str) -> str:
    """A slug for an NVML product name.

    "NVIDIA H100 80GB HBM3" is "h100", "NVIDIA RTX 6000 Ada Generation" is
    "rtx-6000-ada": the first word of letters and digits names a product by itself;
    where there is none, all words do.
    """
    words: list[str] = [
        word
        for word in re.findall(r"[a-z0-9]+", name.lower())
        if word not in _VENDOR_WORDS
    ]
    for word in words:
        if _PRODUCT_WORD.fullmatch(word):
            return word
    return "-".join(words) or "gpu"


def processor_slug(name: str) -> str:
    """A processor's product name for a path: "Intel(R) Xeon(R) CPU @ 2.20GHz" is "intel-xeon-cpu-2-20ghz"."""
    return (
        "-".join(re.findall(r"[a-z0-9]+", re.sub(r"\((r|tm)\)", " ", name.lower())))
        or "unknown"
    )


def cpu_isa(flags: Iterable[str], machine: str) -> str:
    """The widest vector instructions among the CPU's flags (/proc/cpuinfo), which decide the engines' kernels."""
    present = set(flags)
    for flag, isa in (("avx512f", "avx512"), ("avx2", "avx2"), ("asimd", "neon")):
        if flag in present:
            return isa
    return "neon" if machine in ("aarch64", "arm64") else "base"


def detect(nvml: Any = None, cpuinfo: Path = Path("/proc/cpuinfo")) -> Hardware:
    """What this process may use: the visible GPUs if there are any, else the CPU.

    Args:
        nvml: a module with pynvml's functions; None imports it. A host without NVML has
            no GPU.
        cpuinfo: where the CPU's name and flags are read.

    Raises:
        NvmlError: NVML initialises but a query fails.

    """
    gpus, driver, cuda = _query_gpus(nvml)
    info = (
        cpuinfo.read_text(encoding="utf-8", errors="replace")
        if cpuinfo.exists()
        else ""
    )
    isa = cpu_isa(_cpu_field(info, "flags", "Features").split(), platform.machine())
    host_memory = psutil.virtual_memory().total
    cpu_name, cpu_count = (
        _cpu_field(info, "model name") or platform.machine(),
        len(os.sched_getaffinity(0)),
    )
    if gpus:
        return Hardware(
            kind=gpu_kind(gpus[0].name),
            name=gpus[0].name,
            count=len(gpus),
            memory_bytes=gpus[0].memory_total_bytes,
            isa=isa,
            host_memory_bytes=host_memory,
            cpu_name=cpu_name,
            cpu_count=cpu_count,
            driver=driver,
            cuda=cuda,
            gpus=gpus,
        )
    return Hardware(
        kind="cpu",
        name=cpu_name,
        count=cpu_count,
        memory_bytes=host_memory,
        isa=isa,
        host_memory_bytes=host_memory,
        cpu_name=cpu_name,
        cpu_count=cpu_count,
    )


def _cpu_field(info: str, *names: str) -> str:
    for name in names:
        found = re.search(rf"^{name}\s*:\s*(.*)$", info, re.MULTILINE)
        if found:
            return found.group(1).strip()
    return ""


def _query_gpus(nvml: Any) -> tuple[tuple[Gpu, ...], str | None, str | None]:
    if nvml is None:
        nvml = load_nvml()
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:
        return (), None, None
    try:
        version = nvml.nvmlSystemGetCudaDriverVersion()
        gpus = _visible(
            [_describe_gpu(nvml, index) for index in range(nvml.nvmlDeviceGetCount())]
        )
        return (
            gpus,
            str(nvml.nvmlSystemGetDriverVersion()),
            f"{version // 1000}.{version % 1000 // 10}",
        )
    except nvml.NVMLError as error:
        raise NvmlError(
            tried="asking NVML what GPUs are here",
            seen=f"{type(error).__name__}: {error}",
            remedy="check that `nvidia-smi` works on this host and in this container",
        ) from error
    finally:
        nvml.nvmlShutdown()


def _visible(gpus: Sequence[Gpu]) -> tuple[Gpu, ...]:
    """Those that CUDA_VISIBLE_DEVICES leaves, by index or by (the beginning of) their UUID, in its order.

    What names no GPU here ends the list, as in CUDA itself.
    """
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is None:
        return tuple(gpus)
    found: list[Gpu] = []
    for part in (word.strip() for word in chosen.split(",")):
        named = [
            gpu
            for gpu in gpus
            if part in (str(gpu.index), gpu.uuid) or _begins(gpu.uuid, part)
        ]
        if len(named) != 1 or named[0] in found:
            break
        found += named
    return tuple(found)


def _begins(uuid: str, part: str) -> bool:
    return part.startswith(("GPU-", "MIG-")) and uuid.startswith(part)


def _describe_gpu(nvml: Any, index: int) -> Gpu:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)

    def optional(query: Any, *args: Any) -> Any:
        try:
            return query(handle, *args)
        except nvml.NVMLError:  # not every product answers every query
            return None

    mig = optional(nvml.nvmlDeviceGetMigMode)
    power_mw = optional(nvml.nvmlDeviceGetPowerManagementLimit)
    return Gpu(
        index=index,
        uuid=str(nvml.nvmlDeviceGetUUID(handle)),
        name=str(nvml.nvmlDeviceGetName(handle)),
        memory_total_bytes=int(nvml.nvmlDeviceGetMemoryInfo(handle).total),
        mig=bool(mig and mig[0]),
        power_limit_w=None if power_mw is None else power_mw / 1000,
    )
