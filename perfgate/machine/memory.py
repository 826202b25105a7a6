"""Memory of a server: per GPU from NVML, on the CPU from its processes (PSS, VmHWM).

What it is made of (weights, KV cache, graphs) comes from the engine: its log and its
ranks.
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import psutil

from perfgate.errors import Failure
from perfgate.machine.nvml import load as load_nvml

# Engines take their memory when they start; what comes later (a workspace, a graph)
# stays.
SAMPLE_EVERY_S = 0.5


class MemoryUnknown(Failure):
    """Memory that could not be read."""


class Breakdown(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a server's memory is made of, in bytes: of one GPU, or on the CPU of all processes together.

    Attributes:
        rest: the peak less all that is named: activations, buffers for communication,
            the runtime and its libraries. Negative where the system has not yet given
            what the engine has set aside (a KV cache on the CPU).

    """

    weights: float
    kv_cache: float
    graphs: float
    rest: float
    peak: float


def breakdown(values: Mapping[str, float], pieces: int) -> Breakdown | None:
    """What the peak is made of; None where weights, KV cache or peak were not read.

    Args:
        values: of a launch, as in results.json.
        pieces: ranks whose weights and KV cache the peak holds: 1 for one GPU, all of
            them on the CPU.

    """
    if (
        not {"weights_bytes_per_rank", "kv_cache_bytes", "memory_peak_bytes"}
        <= values.keys()
    ):
        return None
    weights, kv_cache = (
        pieces * values["weights_bytes_per_rank"],
        pieces * values["kv_cache_bytes"],
    )
    graphs, peak = values.get("graphs_bytes", 0.0), values["memory_peak_bytes"]
    return Breakdown(
        weights=weights,
        kv_cache=kv_cache,
        graphs=graphs,
        rest=peak - weights - kv_cache - graphs,
        peak=peak,
    )


def process_bytes(pids: Iterable[int]) -> int:
    """Memory of the processes; pages that several share are divided among them (PSS). Ended processes count nothing.

    Raises:
        MemoryUnknown: none of them could be read.

    """
    total = 0
    for pid in pids:
        try:
            total += psutil.Process(pid).memory_full_info().pss
        except psutil.NoSuchProcess:
            continue
        except psutil.AccessDenied as error:
            raise MemoryUnknown(
                tried=f"reading the memory of process {pid}",
                seen=str(error),
                remedy="run the suite as the user that owns the server",
            ) from error
    if total == 0:
        raise MemoryUnknown(
            tried="reading the memory of the server's processes",
            seen="none of them is there any more",
            remedy="look at the server's log for why it ended",
        )
    return total


def forget_peaks(pids: Iterable[int], proc: Path = Path("/proc")) -> bool:
    """Let each process's peak begin anew, so that the loading of the weights is not in it; whether all of them did."""
    done = True
    for pid in pids:
        try:
            (proc / str(pid) / "clear_refs").write_text("5")
        except OSError:
            done = False
    return done


def process_peak_bytes(pids: Iterable[int], proc: Path = Path("/proc")) -> int:
    """Sum of the most memory that each process has had (VmHWM); the kernel keeps it, so nothing is sampled.

    Pages that several share count for each, and the peaks need not have been at one
    time: it is an upper bound.

    Raises:
        MemoryUnknown: none of them could be read.

    """
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            found = re.search(
                r"^VmHWM:\s+(\d+) kB",
                (proc / str(pid) / "status").read_text(),
                re.MULTILINE,
            )
            total += int(found.group(1)) * 1024 if found else 0
    if total == 0:
        raise MemoryUnknown(
            tried="reading the peak memory of the server's processes",
            seen="none of them is there any more",
            remedy="look at the server's log for why it ended",
        )
    return total


class PeakSampler:
    """Watches something from a thread of its own and keeps the most that it saw.

    Args:
        read: what is watched, in bytes; its failures are kept for `peak`.
    """

    def __init__(
        self, read: Callable[[], float], every_s: float = SAMPLE_EVERY_S
    ) -> None:
        self._read = read
        self._every_s = every_s
        self._peak = 0.0
        self._failure: Failure | None = None
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def start(self) -> PeakSampler:
        """Begin to watch."""
        self._thread.start()
        return self

    def stop(self) -> None:
        """Look no more."""
        self._enough.set()
        self._thread.join()

    def peak(self) -> float:
        """Stop, and the most that was seen; a last look is taken at the end.

        Raises:
            Failure: whatever a look failed with.

        """
        self.stop()
        if self._failure is not None:
            raise self._failure
        return max(self._peak, self._read())

    def _watch(self) -> None:
        while not self._enough.wait(self._every_s):
            try:
                self._peak = max(self._peak, self._read())
            except Failure as failure:
                self._failure = failure
                return


def gpu_processes(
    indices: Iterable[int], command_of: Callable[[int, str], str], nvml: Any = None
) -> list[tuple[int, str, int]]:
    """(pid, command, bytes) of every process that computes on one of the GPUs.

    Bytes are 0 where NVML hides them.

    Args:
        command_of: pid and what to say where it cannot be seen -> the command line.
        nvml: a module with pynvml's functions; None imports it.

    """
    nvml = nvml or load_nvml()
    found: dict[int, int] = {}
    with asking(nvml, "which processes use the GPUs"):
        for index in indices:
            for process in nvml.nvmlDeviceGetComputeRunningProcesses(
                nvml.nvmlDeviceGetHandleByIndex(index)
            ):
                found[process.pid] = found.get(process.pid, 0) + int(
                    process.usedGpuMemory or 0
                )
    foreign = "of another container or user"
    return [
        (pid, command_of(pid, foreign), used) for pid, used in sorted(found.items())
    ]


@contextlib.contextmanager
def asking(nvml: Any, what: str) -> Iterator[None]:
    """NVML, open; its errors as `MemoryUnknown`."""
    try:
        nvml.nvmlInit()
        try:
            yield
        finally:
            nvml.nvmlShutdown()
    except nvml.NVMLError as error:
        raise MemoryUnknown(
            tried=f"asking NVML {what}",
            seen=f"{type(error).__name__}: {error}",
            remedy="check that `nvidia-smi` works on this host and in this container",
        ) from error


def gpu_bytes(indices: Iterable[int], nvml: Any = None) -> dict[int, int]:
    """Memory used on each GPU, by NVML index, whoever uses it.

    Raises:
        MemoryUnknown: NVML does not answer.

    """
    nvml = nvml or load_nvml()
    with asking(nvml, "how much GPU memory is used"):
        handles = {index: nvml.nvmlDeviceGetHandleByIndex(index) for index in indices}
        return {
            index: int(nvml.nvmlDeviceGetMemoryInfo(handle).used)
            for index, handle in handles.items()
        }
