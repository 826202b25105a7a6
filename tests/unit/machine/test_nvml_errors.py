"""Every reader of NVML fails with one class and one remedy, and leaves NVML closed."""

import functools
import sys

import pytest

from perfgate.machine import memory, nvml
from perfgate.machine.discovery import discover
from perfgate.machine.nvml import Gpus, NvmlError


class LostGpus:
    """NVML that opens, and whose GPUs do not answer."""

    class NVMLError(Exception):
        """As pynvml's."""

    def __init__(self):
        self.open_count = 0

    def nvmlInit(self):
        """Open it."""
        self.open_count += 1

    def nvmlShutdown(self):
        """Close it."""
        self.open_count -= 1

    def _fail(self, *arguments):
        raise self.NVMLError("GPU is lost")

    nvmlDeviceGetCount = _fail
    nvmlDeviceGetHandleByIndex = _fail


def processes(nvml):
    """The processes on GPU 0."""
    return memory.gpu_processes((0,), lambda pid, text: text, nvml)


READERS = {
    "bytes": functools.partial(memory.gpu_bytes, (0,)),
    "processes": processes,
    "look": functools.partial(Gpus, (0,)),
}


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
def test_a_lost_gpu_is_one_error(reader):
    """The message has NVML's error, and the remedy is to check nvidia-smi."""
    with pytest.raises(NvmlError) as caught:
        reader(LostGpus())

    assert "NVMLError: GPU is lost" == caught.value.seen
    assert (
        "check that `nvidia-smi` works on this host and in this container"
        == caught.value.remedy
    )


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
def test_nvml_is_closed_after_an_error(reader):
    """Nothing keeps the driver open."""
    nvml = LostGpus()

    with pytest.raises(NvmlError):
        reader(nvml)

    assert 0 == nvml.open_count


@pytest.mark.parametrize(
    ("module", "said"),
    [
        ('raise ImportError("no lib")', "ImportError: no lib"),
        ("raise OSError('libnvidia')", "OSError: libnvidia"),
        ("x = 1", "another package of that name"),
    ],
)
def test_a_binding_that_does_not_import_is_a_fault(
    tmp_path, monkeypatch, module, said
):
    """Where a driver is; on a host without one it is no GPU. The remedy is a command."""
    (tmp_path / "pynvml.py").write_text(module)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "pynvml", raising=False)
    monkeypatch.setattr(nvml.devices, "has_amd", lambda: False)
    binding = nvml.load()
    monkeypatch.delitem(sys.modules, "pynvml", raising=False)

    assert discover(binding, {}, root=tmp_path).fault is None
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "nvidiactl").touch()
    fault = discover(binding, {}, root=tmp_path).fault
    assert said in fault.seen
    assert "pip install --force-reinstall nvidia-ml-py" == fault.remedy
    with pytest.raises(NvmlError, match="pynvml cannot be used"):
        processes(binding)
