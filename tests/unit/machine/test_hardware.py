"""Hardware of the machine: CPU, GPUs, and the slug of each."""

import types

import msgspec
import pytest

from perfgate.machine import hardware
from perfgate.machine.hardware import cpu_isa, detect, gpu_kind, processor_slug
from perfgate.machine.nvml import NvmlError
from tests.support import builders


class FakeNvml(types.SimpleNamespace):
    """NVML with `count` H200s; a stub for unit tests alone."""

    class NVMLError(Exception):
        """As pynvml's."""

    def __init__(
        self, count=2, name="NVIDIA H200", init_error=None, query_error=None
    ):
        super().__init__()
        self._count, self._name, self._init_error, self._query_error = (
            count,
            name,
            init_error,
            query_error,
        )

    def nvmlInit(self):
        if self._init_error:
            raise self._init_error

    def nvmlShutdown(self): ...

    def nvmlSystemGetDriverVersion(self):
        return "580.82"

    def nvmlSystemGetCudaDriverVersion(self):
        return 13000

    def nvmlDeviceGetCount(self):
        return self._count

    def nvmlDeviceGetHandleByIndex(self, index):
        return index

    def nvmlDeviceGetUUID(self, handle):
        return f"GPU-{handle}"

    def nvmlDeviceGetName(self, handle):
        if self._query_error:
            raise self._query_error
        return self._name

    def nvmlDeviceGetMemoryInfo(self, handle):
        return types.SimpleNamespace(total=150_754_820_096, used=0)

    def nvmlDeviceGetMigMode(self, handle):
        raise self.NVMLError("not supported")

    def nvmlDeviceGetPowerManagementLimit(self, handle):
        return 700_000


@pytest.fixture(autouse=True)
def _all_gpus_visible(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("NVIDIA H200", "h200"),
        ("NVIDIA H200 NVL", "h200"),
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA A100-PCIE-80GB", "a100"),
        ("NVIDIA A100-SXM4-40GB", "a100"),
        ("NVIDIA L4", "l4"),
        ("Tesla V100-SXM2-16GB", "v100"),
        ("NVIDIA L40S", "l40s"),
        ("NVIDIA A10G", "a10g"),
        ("NVIDIA B200", "b200"),
        ("NVIDIA GB200", "gb200"),
        ("NVIDIA GH200 480GB", "gh200"),
        ("NVIDIA RTX 6000 Ada Generation", "rtx-6000-ada"),
        ("NVIDIA GeForce RTX 4090", "geforce-rtx-4090"),
        ("NVIDIA Graphics Device", "gpu"),
    ],
)
def test_gpu_kind_from_product_name(name, kind):
    """NVML's product name gives a slug; form factor and memory size do not matter."""
    assert kind == gpu_kind(name)


def test_widest_instructions_win():
    """The label follows the widest vector instructions, since engines pick kernels by them."""
    assert "avx512" == cpu_isa(["sse2", "avx2", "avx512f"], "x86_64")
    assert "avx2" == cpu_isa(["sse2", "avx2"], "x86_64")
    assert "neon" == cpu_isa([], "aarch64")
    assert "base" == cpu_isa(["sse2"], "x86_64")


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("Intel(R) Xeon(R) Processor", "intel-xeon-processor"),
        ("Intel(R) Xeon(R) CPU @ 2.20GHz", "intel-xeon-cpu-2-20ghz"),
        ("AMD EPYC", "amd-epyc"),
        ("", "unknown"),
    ],
)
def test_processor_in_a_path(name, slug):
    """A processor's name becomes letters, digits and dashes."""
    assert slug == processor_slug(name)


def test_cpu_of_a_gpu_host_is_named_by_its_processor(tmp_path):
    """A CPU run on a GPU host is compared with the same processor's, not with the GPU's."""
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("model name\t: A CPU\nflags\t\t: sse2 avx2\n")
    machine = detect(FakeNvml(), cpuinfo)

    assert f"cpu-a-cpu-avx2-x{machine.cpu_count}" == machine.label(0)


def test_gpus_found_by_nvml():
    """Two H200s are found with what NVML answers; a refused query is left out, not fatal."""
    machine = detect(FakeNvml())

    assert ("h200", 2, "13.0", "580.82") == (
        machine.kind,
        machine.count,
        machine.cuda,
        machine.driver,
    )
    assert "h200x2" == machine.label(2)
    assert (False, 700.0) == (
        machine.gpus[1].mig,
        machine.gpus[1].power_limit_w,
    )


def test_no_nvml_means_cpu(tmp_path):
    """Without a usable NVML the machine is its CPU."""
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("model name\t: A CPU\nflags\t\t: sse2 avx2\n")

    machine = detect(
        FakeNvml(init_error=FakeNvml.NVMLError("no driver")), cpuinfo
    )

    assert ("cpu", "A CPU", "avx2") == (machine.kind, machine.name, machine.isa)
    assert f"cpu-a-cpu-avx2-x{machine.count}" == machine.label(0)


def test_cuda_visible_devices_is_obeyed(monkeypatch):
    """A GPU that this process may not use does not count."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")

    assert [1] == [gpu.index for gpu in detect(FakeNvml()).gpus]


@pytest.mark.parametrize(
    ("chosen", "visible"),
    [
        ("1,0", [1, 0]),
        ("GPU-second", [1]),
        ("GPU-f", [0]),
        ("GPU-", []),  # two of them
        ("1,7,0", [1]),  # what names no GPU ends the list
        ("-1", []),
        ("GPU-nosuch", []),
    ],
)
def test_gpus_are_chosen_by_index_or_uuid(monkeypatch, chosen, visible):
    """As CUDA reads the variable; schedulers of containers name UUIDs."""
    gpus = [
        msgspec.structs.replace(builders.hardware().gpus[0], index=n, uuid=uuid)
        for n, uuid in enumerate(("GPU-first", "GPU-second"))
    ]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)

    assert visible == [gpu.index for gpu in hardware._visible(gpus)]


def test_hidden_gpus_leave_the_cpu(monkeypatch):
    """An empty CUDA_VISIBLE_DEVICES hides all GPUs."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")

    assert "cpu" == detect(FakeNvml()).kind


def test_nvml_that_fails_midway_is_told():
    """A driver that initialises and then fails is an error with a remedy, not "no GPU"."""
    with pytest.raises(NvmlError, match="nvidia-smi"):
        detect(FakeNvml(query_error=FakeNvml.NVMLError("GPU is lost")))


def test_what_is_lacking_names_need_and_finding():
    """The reason of a skip says what is needed and what was found."""
    one = detect(FakeNvml(count=1))

    assert "needs 2x H200, found 1x NVIDIA H200" == one.lacks("h200", 2)
    assert one.lacks("h200", 1) is None
    assert one.lacks(None, 1) is None
    assert "needs 2x GPU, found 1x NVIDIA H200" == one.lacks(None, 2)
    assert one.lacks(None, 0) is None
    assert "needs 1x H100, found 1x NVIDIA H200" == one.lacks("h100", 1)
