"""Hardware of the machine: CPU, GPUs, and the slug of each."""

import msgspec
import pytest

from perfgate.machine.hardware import Hardware, cpu_isa, detect, processor_slug
from tests.support.fake_nvml import FakeGpu, FakeNvml, NvmlFailure, gpus_of


@pytest.fixture(autouse=True)
def _all_gpus_visible(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.fixture
def cpuinfo(tmp_path):
    """A processor with AVX2."""
    path = tmp_path / "cpuinfo"
    path.write_text("model name\t: A CPU\nflags\t\t: sse2 avx2\n")
    return path


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


def test_cpu_of_a_gpu_host_is_named_by_its_processor(cpuinfo):
    """A CPU run on a GPU host is compared with the same processor's, not with the GPU's."""
    machine = detect(FakeNvml(2), cpuinfo)

    assert f"cpu-a-cpu-avx2-x{machine.cpu_count}" == machine.label(0)


def test_gpus_found_by_nvml():
    """Two H200s are found with what NVML answers; a refused query is left out, not fatal."""
    machine = detect(FakeNvml(2, refused=("nvmlDeviceGetMigMode",)))

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
    assert () == machine.gpu_notes


def test_no_library_means_cpu(cpuinfo, tmp_path):
    """Without NVML and without a device the machine is its CPU, and nothing is wrong."""
    absent = FakeNvml(init_error=NvmlFailure("NVML Shared Library", 12))
    machine = detect(absent, cpuinfo, root=tmp_path)

    assert ("cpu", "A CPU", "avx2") == (machine.kind, machine.name, machine.isa)
    assert f"cpu-a-cpu-avx2-x{machine.count}" == machine.label(0)
    assert (None, ()) == (machine.gpu_fault, machine.gpu_notes)


def test_broken_driver_is_a_fault_of_a_machine_with_a_cpu(cpuinfo, tmp_path):
    """The CPU can still be used; a GPU case says why the GPUs cannot."""
    broken = FakeNvml(init_error=NvmlFailure("version mismatch", 18))
    machine = detect(broken, cpuinfo, root=tmp_path)

    assert "cpu" == machine.kind
    assert "version mismatch" in machine.gpu_fault.seen
    assert "restart the machine" in machine.lacks("h200", 1)
    assert machine.lacks(None, 0) is None


def test_cuda_visible_devices_is_obeyed(monkeypatch):
    """A GPU that this process may not use does not count."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")

    assert [1] == [gpu.index for gpu in detect(FakeNvml(2)).gpus]


@pytest.mark.parametrize(
    ("setting", "note"),
    [
        ("", "CUDA_VISIBLE_DEVICES= hides all 2 GPUs of this host"),
        ("-1", "CUDA_VISIBLE_DEVICES=-1 hides all 2 GPUs of this host"),
        ("MIG-1f2e", "CUDA_VISIBLE_DEVICES=MIG-1f2e is a MIG slice"),
    ],
)
def test_hidden_gpus_leave_the_cpu(monkeypatch, setting, note):
    """What hides them is in the reason of a skip."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", setting)
    machine = detect(FakeNvml(2))

    assert ("cpu", None) == (machine.kind, machine.driver)
    assert note in machine.lacks("h200", 1)


def test_what_is_lacking_names_need_and_finding():
    """The reason of a skip says what is needed and what was found."""
    one = detect(FakeNvml())

    assert "needs 2x H200, found 1x NVIDIA H200" == one.lacks("h200", 2)
    assert one.lacks("h200", 1) is None
    assert one.lacks(None, 1) is None
    assert "needs 2x GPU, found 1x NVIDIA H200" == one.lacks(None, 2)
    assert one.lacks(None, 0) is None
    assert "needs 1x H100, found 1x NVIDIA H200" == one.lacks("h100", 1)


def test_forms_of_a_product_are_of_it_and_have_labels_of_their_own():
    """`-m h100` runs on an H100 NVL, whose baselines are not those of the SXM module."""
    machine = detect(FakeNvml(gpus=gpus_of("h100-nvl", "h100-nvl")))

    assert machine.lacks("h100", 2) is None
    assert "h100-nvlx2" == machine.label(2)


def test_eight_gpus_are_one_machine():
    """Servers on two of eight have labels and machines of their own."""
    machine = detect(FakeNvml(gpus=gpus_of(*["b200"] * 8)))

    assert ("b200", 8) == (machine.kind, machine.count)
    assert ["b200x1", "b200x8"] == [machine.label(1), machine.label(8)]
    assert 4 == len({machine.machine_of((n, n + 1)) for n in (0, 2, 4, 6)})


def test_asked_product_of_a_mixed_machine_is_used():
    """Of two products the one that was asked for; the other is named."""
    mixed = FakeNvml(gpus=gpus_of("h200", "h100", "h200", "h100"))

    machine = detect(mixed, wanted=["h100"])
    assert ("h100", [1, 3]) == (machine.kind, [g.index for g in machine.gpus])
    machine = detect(mixed)
    assert ("h200", [0, 2]) == (machine.kind, [g.index for g in machine.gpus])
    assert (
        "left out: GPU 1 NVIDIA H100 80GB HBM3: another product than NVIDIA H200"
        == machine.gpu_notes[0]
    )


def test_refused_memory_is_unknown():
    """A GPU that shares the processor's memory is there; its memory is not a number."""
    machine = detect(FakeNvml(gpus=gpus_of("gb10")))

    assert ("gb10", 1, None) == (
        machine.kind,
        machine.count,
        machine.memory_bytes,
    )


def test_a_lost_gpu_leaves_the_others():
    """It is named, and the others are told to the engine by UUID."""
    gpus = (*gpus_of("h200"), FakeGpu(uuid="GPU-b", lost="GPU is lost"))
    machine = detect(FakeNvml(gpus=gpus))

    assert 1 == machine.count
    assert machine.is_renumbered
    assert "GPU 1: does not answer" in machine.gpu_notes[0]


@pytest.mark.parametrize("visible", [None, "GPU-b", "1"])
@pytest.mark.parametrize("first", [{"mig": True}, {"lost": "GPU is lost"}])
def test_hidden_gpus_renumber_the_others(monkeypatch, first, visible):
    """CUDA counts neither, whether or not the variable lets them through."""
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    gpus = (FakeGpu(uuid="GPU-a", **first), FakeGpu(uuid="GPU-b"))
    machine = detect(FakeNvml(gpus=gpus))

    assert [1] == [gpu.index for gpu in machine.gpus]
    assert machine.is_renumbered


def test_whole_gpus_keep_their_numbers():
    """Indices are what engines take best."""
    assert not detect(FakeNvml(2)).is_renumbered


def test_quota_of_a_container_is_in_the_label(cpuinfo, tmp_path):
    """Half a core is another machine than all of them; memory is the limit."""
    (tmp_path / "proc" / "self").mkdir(parents=True)
    (tmp_path / "proc" / "self" / "cgroup").write_text("0::/\n")
    group = tmp_path / "sys" / "fs" / "cgroup"
    group.mkdir(parents=True)
    (group / "cpu.max").write_text("50000 100000\n")
    (group / "memory.max").write_text("2000000000\n")
    absent = FakeNvml(init_error=NvmlFailure("absent", 12))

    machine = detect(absent, cpuinfo, root=tmp_path)

    cores = machine.cpu_count
    assert f"cpu-a-cpu-avx2-x{cores}-quota0.5" == machine.label(0)
    assert 2_000_000_000 == machine.host_memory_bytes
    assert f"{cores} cores with a quota of 0.5" in machine.description


def test_hardware_of_older_runs_can_be_read():
    """They name neither what was left out nor a quota."""
    stored = (
        b'{"kind":"h200","name":"NVIDIA H200","count":1,"memory_bytes":150754820096,'
        b'"isa":"avx512","host_memory_bytes":1,"driver":"580.82","cuda":"13.0","gpus":'
        b'[{"index":0,"uuid":"GPU-0","name":"NVIDIA H200","memory_total_bytes":1,'
        b'"mig":false,"power_limit_w":700.0}]}'
    )
    machine = msgspec.json.decode(stored, type=Hardware)

    assert ("h200x1", ()) == (machine.label(1), machine.gpu_notes)
    assert machine == msgspec.json.decode(
        msgspec.json.encode(machine), type=Hardware
    )
