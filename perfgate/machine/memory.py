"""Memory of a server: GPU memory from NVML, on the CPU that of its processes (PSS, VmHWM).

The parts (weights, KV cache, graphs) come from the engine: its log and its ranks.
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import psutil

from perfgate.errors import Failure
from perfgate.machine import nvml as nvml_queries

# Engines allocate when they start and keep what they add later (a workspace, a graph).
SAMPLE_EVERY_S = 0.5
# The peak of a process's resident memory, in /proc/PID/status.
_PEAK_LINE = re.compile(r"^VmHWM:\s+(\d+) kB", re.MULTILINE)


class MemoryUnknown(Failure):
    """The memory of a server's processes or ranks cannot be read."""


class Breakdown(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """Parts of a server's memory, in bytes: of one GPU, or on the CPU of all processes together.

    Attributes:
        rest: the peak less all other parts: activations, communication buffers, the
            runtime and its libraries. Negative where the engine has reserved memory (a
            KV cache on the CPU) that the system has not yet given.

    """

    weights: float
    kv_cache: float
    graphs: float
    rest: float
    peak: float


def breakdown(values: Mapping[str, float], pieces: int) -> Breakdown | None:
    """The parts of the peak; None where weights, KV cache or peak were not read.

    Args:
        values: of a launch, as in results.json.
        pieces: ranks whose weights and KV cache the peak holds: 1 for one GPU, all of
            them on the CPU.

    """
    for name in (
        "weights_bytes_per_rank",
        "kv_cache_bytes",
        "memory_peak_bytes",
    ):
        if name not in values:
            return None
    weights = pieces * values["weights_bytes_per_rank"]
    kv_cache = pieces * values["kv_cache_bytes"]
    graphs = values.get("graphs_bytes", 0.0)
    peak = values["memory_peak_bytes"]
    return Breakdown(
        weights=weights,
        kv_cache=kv_cache,
        graphs=graphs,
        rest=peak - weights - kv_cache - graphs,
        peak=peak,
    )


def process_bytes(pids: Iterable[int]) -> int:
    """Memory of the processes in bytes (PSS: a shared page is divided among them).

    A process that has ended counts nothing.

    Raises:
        MemoryUnknown: a process belongs to another user, the kernel does not tell, or
            all have ended.

    """
    total = 0
    for pid in pids:
        try:
            total += _pss_bytes(psutil.Process(pid))
        except psutil.NoSuchProcess:
            continue
        except psutil.AccessDenied as error:
            raise MemoryUnknown(
                tried=f"reading the memory of process {pid}",
                seen=str(error),
                remedy="run the suite as the user that owns the server",
            ) from error
    if total == 0:
        raise _processes_ended("the memory")
    return total


def _pss_bytes(process: psutil.Process) -> int:
    """Memory of one process, with its share of what it shares.

    Raises:
        MemoryUnknown: psutil has no such figure where the kernel has no smaps.
    """
    pss_bytes: int | None = getattr(process.memory_full_info(), "pss", None)
    if pss_bytes is None:
        raise MemoryUnknown(
            tried=f"reading the memory of process {process.pid}",
            seen="this kernel has no /proc/PID/smaps",
            remedy="do without figures of processes' memory here",
        )
    return pss_bytes


def forget_peaks(pids: Iterable[int], proc: Path = Path("/proc")) -> bool:
    """Reset each process's peak, so that it leaves out loading the weights.

    Returns:
        Whether all peaks were reset.

    """
    is_reset = True
    for pid in pids:
        try:
            (proc / str(pid) / "clear_refs").write_text("5")
        except OSError:
            is_reset = False
    return is_reset


def process_peak_bytes(pids: Iterable[int], proc: Path = Path("/proc")) -> int:
    """Sum of each process's peak memory in bytes (VmHWM, kept by the kernel).

    It is an upper bound: shared pages count for each process, and the peaks need not
    have been at one time.

    Raises:
        MemoryUnknown: all processes have ended.

    """
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            status = (proc / str(pid) / "status").read_text()
            match = _PEAK_LINE.search(status)
            if match:
                total += int(match.group(1)) * 1024
    if total == 0:
        raise _processes_ended("the peak memory")
    return total


def _processes_ended(quantity: str) -> MemoryUnknown:
    return MemoryUnknown(
        tried=f"reading {quantity} of the server's processes",
        seen="all of them have ended",
        remedy="look at the server's log for why it ended",
    )


class PeakSampler:
    """Samples a quantity in a thread and keeps the largest value.

    Args:
        read: the quantity, in bytes; `peak` raises what it raised.
        every_s: seconds between two samples.
    """

    def __init__(
        self, read: Callable[[], float], every_s: float = SAMPLE_EVERY_S
    ) -> None:
        self._read = read
        self._every_s = every_s
        self._peak = 0.0
        self._failure: Failure | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def start(self) -> PeakSampler:
        """Start sampling."""
        self._thread.start()
        return self

    def stop(self) -> None:
        """Stop sampling."""
        self._stop.set()
        self._thread.join()

    def peak(self) -> float:
        """Stop, take a last sample, and return the largest value.

        Raises:
            Failure: as a sample raised it.

        """
        self.stop()
        if self._failure is not None:
            raise self._failure
        return max(self._peak, self._read())

    def _sample(self) -> None:
        while not self._stop.wait(self._every_s):
            try:
                self._peak = max(self._peak, self._read())
            except Failure as failure:
                self._failure = failure
                return


def gpu_processes(
    indices: Iterable[int],
    command_of: Callable[[int, str], str],
    nvml: Any = None,
) -> list[tuple[int, str, int]]:
    """(pid, command, bytes) of every process that computes on one of the GPUs.

    Bytes are 0 where NVML hides them.

    Args:
        indices: NVML indices.
        command_of: the command line of a pid, or the given text where it is hidden.
        nvml: a module with pynvml's functions; None imports it.

    Raises:
        NvmlError: NVML does not answer.

    """
    nvml = nvml or nvml_queries.load()
    used_bytes: dict[int, int] = {}
    with nvml_queries.session(nvml, "asking NVML which processes use the GPUs"):
        for index in indices:
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            for process in _compute_processes(nvml, handle):
                used_bytes.setdefault(process.pid, 0)
                used_bytes[process.pid] += int(process.usedGpuMemory or 0)
    processes = []
    for pid, process_bytes in sorted(used_bytes.items()):
        command = command_of(pid, "of another container or user")
        processes.append((pid, command, process_bytes))
    return processes


def _compute_processes(nvml: Any, handle: Any) -> Sequence[Any]:
    """NVML's processes; none where the product does not list them (a virtual GPU)."""
    try:
        processes: Sequence[Any] = nvml.nvmlDeviceGetComputeRunningProcesses(
            handle
        )
    except nvml.NVMLError as error:
        if nvml_queries.is_unsupported(error):
            return ()
        raise
    return processes


def gpu_bytes(indices: Iterable[int], nvml: Any = None) -> dict[int, int]:
    """Memory used on each GPU in bytes, by NVML index, whichever process uses it.

    Raises:
        NvmlError: NVML does not answer.
        MemoryUnknown: a GPU does not report its memory.

    """
    nvml = nvml or nvml_queries.load()
    used_bytes = {}
    with nvml_queries.session(nvml, "asking NVML how much GPU memory is used"):
        for index in indices:
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            used_bytes[index] = _used_bytes(nvml, index, handle)
    return used_bytes


def _used_bytes(nvml: Any, index: int, handle: Any) -> int:
    try:
        return int(nvml.nvmlDeviceGetMemoryInfo(handle).used)
    except nvml.NVMLError as error:
        if not nvml_queries.is_unsupported(error):
            raise
        raise MemoryUnknown(
            tried=f"reading the memory of GPU {index}",
            seen="this product does not report it",
            remedy="do without figures of memory on this GPU",
        ) from error
