"""Memory of devices: readings, and errors instead of numbers."""

import functools
import os
import subprocess
import sys
import threading
import types

import psutil
import pytest

from perfgate.machine.memory import (
    Breakdown,
    MemoryUnknown,
    PeakSampler,
    breakdown,
    forget_peaks,
    gpu_bytes,
    gpu_processes,
    process_bytes,
    process_peak_bytes,
)
from perfgate.machine.nvml import NvmlError
from perfgate.servers.supervisor.processes import command_of
from tests.support.fake_nvml import FakeNvml as WholeNvml
from tests.support.fake_nvml import NvmlFailure, gpus_of


class FakeNvml(types.SimpleNamespace):
    """NVML with GPUs that hold `used` bytes; a query fails with `error`."""

    class NVMLError(Exception):
        """As pynvml's."""

    def __init__(self, used=(), processes=(), error=None, init_error=None):
        super().__init__(open=0)
        self._used, self._processes, self._error, self._init_error = (
            used,
            processes,
            error,
            init_error,
        )

    def nvmlInit(self):
        """Open it."""
        if self._init_error:
            raise self._init_error
        self.open += 1

    def nvmlShutdown(self):
        """Close it."""
        self.open -= 1

    def nvmlDeviceGetHandleByIndex(self, index):
        """The index is the handle."""
        return index

    def nvmlDeviceGetMemoryInfo(self, handle):
        """Memory of a GPU."""
        if self._error:
            raise self._error
        return types.SimpleNamespace(used=self._used[handle])

    def nvmlDeviceGetComputeRunningProcesses(self, handle):
        """Processes on a GPU."""
        if self._error:
            raise self._error
        return [
            types.SimpleNamespace(pid=pid, usedGpuMemory=used)
            for pid, used in self._processes[handle]
        ]


def test_memory_of_processes_adds_up():
    """Two processes together hold what each holds; one that has ended meanwhile holds nothing."""
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    with subprocess.Popen(["sleep", "60"]) as sleeper:
        try:
            both = process_bytes([os.getpid(), sleeper.pid, gone.pid])
            one = process_bytes([sleeper.pid])
        finally:
            sleeper.kill()

    assert 0 < one < both


def test_no_process_left_is_an_error():
    """When all have ended there is no memory to tell, and the remedy points to the server's log."""
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait()

    with pytest.raises(MemoryUnknown, match="all of them have ended") as error:
        process_bytes([gone.pid])
    assert "log" in error.value.remedy


def test_kernel_without_smaps_is_an_error(monkeypatch):
    """Psutil answers without the figure there."""
    monkeypatch.setattr(
        psutil.Process, "memory_full_info", psutil.Process.memory_info
    )

    with pytest.raises(MemoryUnknown, match="this kernel has no /proc/PID/"):
        process_bytes([os.getpid()])


def test_gpus_are_told_by_index():
    """Each GPU asked for has its number, the others none, and NVML is closed again."""
    nvml = FakeNvml(used=(10, 20, 30, 40))

    assert {1: 20, 3: 40} == gpu_bytes((1, 3), nvml)
    assert 0 == nvml.open


def test_processes_on_gpus():
    """A process on two GPUs counts once with both; memory that NVML hides is 0.

    An external process has no command.
    """
    nobody = 2**22 + 1  # above the largest pid
    nvml = FakeNvml(
        processes=[[(os.getpid(), 100), (nobody, None)], [(os.getpid(), 50)]]
    )

    first, second = gpu_processes((0, 1), command_of, nvml)

    # 100 + 50
    assert (os.getpid(), 150) == (first[0], first[2])
    assert "python" in first[1]
    assert (nobody, "of another container or user", 0) == second
    assert 0 == nvml.open


@pytest.mark.parametrize(
    "read",
    [gpu_bytes, functools.partial(gpu_processes, command_of=command_of)],
    ids=["gpu_bytes", "gpu_processes"],
)
@pytest.mark.parametrize("when", ["error", "init_error"])
def test_nvml_that_does_not_answer_is_told(read, when):
    """A driver that fails, at once or later, is an error with a remedy, and stays closed."""
    nvml = FakeNvml(
        used=(0,), processes=[[]], **{when: FakeNvml.NVMLError("GPU is lost")}
    )

    with pytest.raises(NvmlError, match="GPU is lost") as error:
        read((0,), nvml=nvml)
    assert "nvidia-smi" in error.value.remedy
    assert 0 == nvml.open


def test_peak_of_processes_is_the_kernels_mark():
    """The most that a process has had stays when it gives memory back; marks of several add up."""
    code = (
        "import sys; x = bytearray(200 << 20); del x; print('done', "
        "flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        process.stdout.readline()
        peak, now = (
            process_peak_bytes([process.pid]),
            process_bytes([process.pid]),
        )
        both = process_peak_bytes([process.pid, os.getpid()])
        forgotten = forget_peaks([process.pid])
        after = process_peak_bytes([process.pid])
        process.stdin.close()

    assert now + (150 << 20) < peak < both
    if forgotten:
        assert after < peak - (150 << 20)


def test_peak_that_cannot_be_forgotten_is_told(tmp_path):
    """A kernel that does not allow it says so; the mark then holds the loading too."""
    assert forget_peaks([1], proc=tmp_path) is False


def test_peak_of_nobody_is_an_error(tmp_path):
    """Processes that are gone have no peak."""
    with pytest.raises(MemoryUnknown, match="all of them have ended"):
        process_peak_bytes([1], proc=tmp_path)


def test_sampler_keeps_the_most():
    """A bump between two other looks is kept, and a last look is taken at the end."""
    looks = iter([1.0, 9.0, 2.0])
    seen = threading.Event()

    def read():
        value = next(looks, None)
        if value is None:
            seen.set()
            return 3.0
        return value

    sampler = PeakSampler(read, every_s=0.001).start()
    assert seen.wait(60)

    assert 9.0 == sampler.peak()
    sampler.stop()


def test_sampler_tells_its_failure():
    """A look that fails is not lost in the thread."""

    def read():
        raise MemoryUnknown("looking", "GPU is lost", "look at the log")

    sampler = PeakSampler(read, every_s=0.001).start()
    sampler._thread.join(60)

    with pytest.raises(MemoryUnknown, match="GPU is lost"):
        sampler.peak()


def test_breakdown_of_a_gpu():
    """What is not named is the rest; graphs count nothing where there are none."""
    values = {
        "weights_bytes_per_rank": 47.0,
        "kv_cache_bytes": 60.0,
        "graphs_bytes": 1.0,
        "memory_peak_bytes": 120.0,
    }

    # 120 - 47 - 60 - 1
    assert Breakdown(
        weights=47, kv_cache=60, graphs=1, rest=12, peak=120
    ) == breakdown(values, 1)
    del values["graphs_bytes"]
    assert 13 == breakdown(values, 1).rest


def test_breakdown_of_processes():
    """On the CPU the peak is of all ranks, so their shares are taken together."""
    values = {
        "weights_bytes_per_rank": 10.0,
        "kv_cache_bytes": 20.0,
        "memory_peak_bytes": 100.0,
    }

    # 100 - 2 x 10 - 2 x 20
    assert 40 == breakdown(values, 2).rest


@pytest.mark.parametrize(
    "missing", ["weights_bytes_per_rank", "kv_cache_bytes", "memory_peak_bytes"]
)
def test_no_breakdown_of_half_of_it(missing):
    """What was not read is not taken for zero."""
    values = {
        "weights_bytes_per_rank": 10.0,
        "kv_cache_bytes": 20.0,
        "memory_peak_bytes": 100.0,
    }
    del values[missing]

    assert breakdown(values, 1) is None


def test_refused_memory_is_told_as_such():
    """It is no fault of the driver, and no number."""
    with pytest.raises(MemoryUnknown, match="does not report it"):
        gpu_bytes((0,), WholeNvml(gpus=gpus_of("gb10")))


def test_refused_processes_are_none():
    """A virtual GPU does not list them; a lost one is an error all the same."""
    nvml = FakeNvml(used=(0,), processes=[[]])
    nvml.NVMLError = NvmlFailure

    def refuse(code):
        def query(handle):
            raise NvmlFailure("its words", code)

        return query

    nvml.nvmlDeviceGetComputeRunningProcesses = refuse(3)
    assert [] == gpu_processes((0,), command_of, nvml)

    nvml.nvmlDeviceGetComputeRunningProcesses = refuse(15)
    with pytest.raises(NvmlError, match="its words"):
        gpu_processes((0,), command_of, nvml)
