"""Hardware: detect the GPUs (NVML) or the CPU, and name the machine's baselines.

GPUs come from NVML (nvidia-ml-py) or amdsmi, never from a flag. Without a GPU the machine is its
CPU. The label ("h200x2", "cpu-amd-epyc-avx512-x2") names the baselines that
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
from pathlib import Path
from typing import Any

import msgspec
import psutil

from perfgate.errors import FailureRow
from perfgate.machine import container
from perfgate.machine import nvml as nvml_queries
from perfgate.machine.discovery import discover
from perfgate.machine.gpu import Gpu, OmittedGpu
from perfgate.machine.products import is_of

_WORD = re.compile(r"[a-z0-9]+")
# Flag of /proc/cpuinfo -> instruction set, the widest first.
_ISA_OF_FLAG = {"avx512f": "avx512", "avx2": "avx2", "asimd": "neon"}


class Hardware(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """The machine that a run was measured on.

    Attributes:
        kind: the GPU's product as a slug ("h200", "l40s", "geforce-rtx-4090"), or
            "cpu".
        name: product name of the GPU or the CPU.
        count: GPUs, or CPU cores that this process may use.
        memory_bytes: of one GPU, or of the machine; None where the GPU does not report
            it.
        isa: widest vector instruction set of the CPU: "avx512", "avx2", "neon" or
            "base". (AMX does not matter: the models of the CPU run are in float32.)
        host_memory_bytes: of the machine, or the limit of the container if that is less.
        cpu_name, cpu_count: product name of the CPU and the cores that this process may
            use, on hosts with GPUs too; "" and 0 in data of older suites.
        cpu_quota_cores: by the CPU quota of the container, if that is less; may be a
            fraction.
        gpus: empty on the CPU.
        omitted: visible GPUs that a run does not use.
        is_renumbered: whether CUDA may number the GPUs otherwise than NVML does, because
            one of the host, hidden or not, does not answer or is in MIG mode.
        gpu_note: why there is no GPU; "" where there is nothing to say.
        gpu_fault: why the GPUs cannot be asked although there are some.

    """

    kind: str
    name: str
    count: int
    memory_bytes: int | None
    isa: str
    host_memory_bytes: int
    cpu_name: str = ""
    cpu_count: int = 0
    cpu_quota_cores: float | None = None
    driver: str | None = None
    cuda: str | None = None
    gpus: tuple[Gpu, ...] = ()
    omitted: tuple[OmittedGpu, ...] = ()
    is_renumbered: bool = False
    gpu_note: str = ""
    gpu_fault: FailureRow | None = None

    @property
    def description(self) -> str:
        """What was found: "2x NVIDIA H200" or "no GPU (name, 2 cores, avx2)"."""
        if self.gpus:
            return f"{self.count}x {self.name}"
        return f"no GPU ({self._processor})"

    @property
    def place(self) -> str:
        """Where it was measured: "2x NVIDIA H200" or "CPU (name, 2 cores, avx2)"."""
        if self.gpus:
            return self.description
        return f"CPU ({self._processor})"

    @property
    def _processor(self) -> str:
        cores = f"{self.count} cores"
        if self.cpu_quota_cores is not None:
            cores += f" with a quota of {self.cpu_quota_cores:g}"
        return f"{self.name}, {cores}, {self.isa}"

    @property
    def gpu_notes(self) -> tuple[str, ...]:
        """What a user must know of the GPUs that are not used; empty as a rule."""
        notes = [f"left out: {gpu}" for gpu in self.omitted]
        if self.gpu_note:
            notes.append(self.gpu_note)
        if self.gpu_fault is not None:
            fault = self.gpu_fault
            notes.append(
                f"the GPUs do not answer: {fault.seen}; {fault.remedy}"
            )
        return tuple(notes)

    @property
    def power_limits_w(self) -> tuple[float, ...]:
        """Those that its GPUs have, each one once: one as a rule, none on the CPU."""
        limits = {gpu.power_limit_w for gpu in self.gpus}
        return tuple(sorted(filter(None, limits)))

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
        label = f"cpu-{processor}-{self.isa}-x{cores}"
        if self.cpu_quota_cores is None:
            return label
        # The engines start a thread for each core and share the quota: neither as fast
        # as so many cores of their own nor as all of them.
        return f"{label}-quota{self.cpu_quota_cores:g}"

    def is_product(self, gpu: str | None) -> bool:
        """Whether its GPUs are of that product, in any of its forms; None is any GPU."""
        if not self.gpus:
            return False
        return gpu is None or is_of(self.kind, gpu)

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
        reason = f"needs {gpu_count}x {product}, found {self.description}"
        return "; ".join([reason, *self.gpu_notes])


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


def detect(
    nvml: Any = None,
    cpuinfo: Path = Path("/proc/cpuinfo"),
    *,
    wanted: Sequence[str] = (),
    root: Path = Path("/"),
) -> Hardware:
    """The hardware that this process may use: the visible GPUs if any, else the CPU.

    It never fails: a driver that does not answer is a `gpu_fault`, and a GPU that does
    not is omitted.

    Args:
        nvml: a module with pynvml's functions; None imports it.
        cpuinfo: file with the CPU's name and flags.
        wanted: products that were asked for ("h200"), the preferred first; of others
            those with the most memory are used.
        root: of the file system with the devices, for tests.

    """
    cpu = _detect_cpu(cpuinfo, root)
    found = discover(nvml or nvml_queries.load(), os.environ, wanted, root)
    machine = msgspec.structs.replace(
        cpu, omitted=found.omitted, gpu_note=found.note, gpu_fault=found.fault
    )
    if not found.gpus:
        return machine
    first = found.gpus[0]
    return msgspec.structs.replace(
        machine,
        kind=first.kind,
        name=first.name,
        count=len(found.gpus),
        memory_bytes=first.memory_total_bytes,
        driver=found.driver,
        cuda=found.cuda,
        gpus=found.gpus,
        is_renumbered=found.is_renumbered and not first.is_amd,
    )


def detect_product(product: str) -> Hardware:
    """The hardware of a run that asks for a product."""
    return detect(wanted=[product])


def _detect_cpu(cpuinfo: Path, root: Path) -> Hardware:
    info = ""
    if cpuinfo.exists():
        info = cpuinfo.read_text(encoding="utf-8", errors="replace")
    name = _cpu_field(info, "model name") or platform.machine()
    flags = _cpu_field(info, "flags", "Features")
    cores = len(os.sched_getaffinity(0))
    limits = container.limits(root)
    quota = limits.cpu_quota_cores
    if quota is not None:
        quota = round(quota, 2)
        if quota >= cores:
            quota = None
    memory_bytes = psutil.virtual_memory().total
    if limits.memory_bytes is not None:
        memory_bytes = min(memory_bytes, limits.memory_bytes)
    return Hardware(
        kind="cpu",
        name=name,
        count=cores,
        memory_bytes=memory_bytes,
        isa=cpu_isa(flags.split(), platform.machine()),
        host_memory_bytes=memory_bytes,
        cpu_name=name,
        cpu_count=cores,
        cpu_quota_cores=quota,
    )


def _cpu_field(info: str, *names: str) -> str:
    for name in names:
        match = re.search(rf"^{name}\s*:\s*(.*)$", info, re.MULTILINE)
        if match:
            return match.group(1).strip()
    return ""
