"""Doctor: what this machine can run, what is missing, and the remedies."""

from __future__ import annotations

import dataclasses
import shutil
import sys
import tempfile
from collections.abc import (
    Callable,
    Collection,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from itertools import product

from perfgate import formatting, locations
from perfgate.cli import doctor_container, doctor_gpus
from perfgate.cli.finding import Device, Finding, Kind
from perfgate.engines import environment
from perfgate.engines.base import ServerConfig
from perfgate.engines.registry import ENGINES
from perfgate.engines.served import served_architecture, split_of
from perfgate.errors import Failure
from perfgate.judge.baseline_store import Store
from perfgate.judge.portable import ANY_CPU
from perfgate.machine import container
from perfgate.machine.hardware import Hardware
from perfgate.models import catalogue as models
from perfgate.models import estimate, weights
from perfgate.study import ServerChoices, StudyFile, study_of, subjects_of

# Both engines' environments (3.5 and 2.6 GB) and the models made here.
CPU_DISK_GB = 8
CPU_MEMORY_GB = 8
LARGEST_SIZE = 8  # tensor parallel; heads of most models divide by no more
# What the CPU run needs besides an engine; GPU runs need Python alone.
_CPU_NEEDS: tuple[Kind, ...] = ("python", "memory", "disk")


def examine(
    hardware: Hardware,
    study: StudyFile,
    store: Store,
    pythons: Mapping[str, str],
    model_dirs: Mapping[str, str],
) -> Iterator[Finding]:
    """Everything that a run needs, in the order in which it needs it.

    Args:
        study: what would be served.
        store: the baselines that would be used.
        pythons: engine -> Python, as the user named them. model_dirs: model -> folder,
            likewise.

    """
    yield _python()
    yield Finding("machine", "machine", hardware.description)
    yield from doctor_gpus.examine(hardware)
    yield from _servers(hardware, study)
    yield _memory(hardware)
    yield from doctor_container.examine(container.limits())
    yield from doctor_container.examine_folders(
        locations.home(), tempfile.gettempdir
    )
    yield _disk()
    yield from _engines(hardware, pythons)
    yield from _weights(hardware, study, model_dirs)
    for gpu_count in _sizes(hardware) or (0,):
        yield _baselines(store, hardware.label(gpu_count))
    if not hardware.gpus:
        yield _baselines(store, ANY_CPU)


def unknown(
    option: str, kind: Kind, names: Iterable[str], known: Collection[str]
) -> Iterator[Finding]:
    """What an option names and nothing here reads: a hook of the project may add it.

    Args:
        names: of the option. known: those that are examined.
    """
    for name in names:
        if name not in known:
            suggestion = formatting.suggestion(name, known)
            yield Finding(
                kind,
                f"{option} {name}=",
                f"there is no {kind} {name}, so it is not looked at",
                f"{suggestion}use one of {', '.join(known)}",
            )


def platforms(
    hardware: Hardware,
    study: StudyFile,
    tensor_parallel_size: int,
    findings: Sequence[Finding] = (),
    detect: Callable[[str], Hardware] | None = None,
) -> Iterator[Finding]:
    """Which selections run here: "pytest -m cpu", "pytest -m h200", ...

    Args:
        findings: of `examine`: a run needs an engine, memory and disk as well.
        detect: the machine of a run that asks for a product, where it has several.
    """
    for name in study.platforms:
        if study.device_of(name) == "cpu":
            finding = _on_cpu(name, tensor_parallel_size)
        else:
            gpu = study.gpu_of(name)
            machine = hardware
            if gpu is not None and detect is not None and hardware.omitted:
                machine = detect(gpu)
            finding = _on_gpus(name, gpu, machine, tensor_parallel_size)
        yield _with_needs(finding, findings)


def _with_needs(platform: Finding, findings: Sequence[Finding]) -> Finding:
    """The platform, blocked by what else its device needs and lacks here."""
    if platform.blocks:
        return platform
    needs: tuple[Kind, ...] = ("python",)
    if platform.device == "cpu":
        needs = _CPU_NEEDS
    engines = []
    for finding in findings:
        if finding.kind == "engine" and finding.device == platform.device:
            engines.append(finding)
        elif finding.blocks and finding.kind in needs:
            return _blocked(
                platform, f"{finding.subject}: {finding.seen}", finding
            )
    if not engines or any(not engine.blocks for engine in engines):
        return platform
    names = ", ".join(engine.subject for engine in engines)
    return _blocked(platform, f"no usable engine ({names})", engines[0])


def _blocked(platform: Finding, seen: str, cause: Finding) -> Finding:
    return dataclasses.replace(
        platform, seen=seen, remedy=cause.remedy, blocks=True
    )


def can_run(findings: Sequence[Finding], selections: Sequence[Finding]) -> bool:
    """Whether anything of the suite runs here: on the CPU or on GPUs, with an engine."""
    blocked = {finding.kind for finding in findings if finding.blocks}
    ready = [f for f in (*findings, *selections) if not f.blocks]
    engines = {finding.device for finding in ready if finding.kind == "engine"}
    selected = {
        finding.device for finding in ready if finding.kind == "platform"
    }
    runs_on_cpu = "cpu" in engines & selected and blocked.isdisjoint(_CPU_NEEDS)
    runs_on_gpus = "cuda" in engines & selected and "python" not in blocked
    return runs_on_cpu or runs_on_gpus


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    is_new_enough = sys.version_info >= (3, 11)
    if is_new_enough:
        return Finding("python", "Python", version)
    return Finding(
        "python", "Python", version, "use Python 3.11 or newer", blocks=True
    )


def _on_cpu(name: str, tensor_parallel_size: int) -> Finding:
    subject = f"pytest -m {name}"
    cores = container.usable_cores()
    if cores >= tensor_parallel_size:
        return Finding("platform", subject, "runs here", device="cpu")
    needed = formatting.count(tensor_parallel_size, "core")
    remedy = f"give this process {needed}"
    if cores >= 1:
        remedy += f", or add --tp {int(cores)}"
    return Finding(
        "platform",
        subject,
        f"needs {needed}, found {cores:g}",
        remedy,
        blocks=True,
        device="cpu",
    )


def _on_gpus(
    name: str, gpu: str | None, hardware: Hardware, tensor_parallel_size: int
) -> Finding:
    subject = f"pytest -m {name}"
    lacking = hardware.lacks(gpu, tensor_parallel_size)
    if lacking is None:
        return Finding("platform", subject, "runs here", device="cuda")
    remedy = "run it on a machine with GPUs"
    if gpu is not None:
        remedy = f"run it on a machine with {gpu.upper()} GPUs"
    if hardware.lacks(gpu, 1) is None:
        remedy = "add --tp 1 to run the models that fit one GPU"
    if hardware.gpu_fault is not None:
        lacking = hardware.gpu_fault.seen
        remedy = hardware.gpu_fault.remedy
    return Finding(
        "platform", subject, lacking, remedy, blocks=True, device="cuda"
    )


def _gpu_servers(hardware: Hardware, study: StudyFile) -> list[ServerConfig]:
    """Both servers of each pair that a GPU platform serves, on one GPU, two, and so on."""
    sizes = _sizes(hardware)
    if not sizes:
        return []
    engine = next(iter(study.engines or ENGINES))
    names = [
        name for name in study.platforms if study.device_of(name) == "cuda"
    ]
    servers: dict[ServerConfig, None] = {}
    for size, name in product(sizes, names):
        choices = ServerChoices(tensor_parallel_size=size)
        for subject in subjects_of(study, name):
            servers |= dict.fromkeys(
                study_of(study, name, engine, subject, choices).models
            )
    return list(servers)


def _sizes(hardware: Hardware) -> tuple[int, ...]:
    """Numbers of GPUs that a server may have here: powers of 2 up to 8, and 2 in any case."""
    if not hardware.gpus:
        return ()
    sizes = [1, 2]
    while 2 * sizes[-1] <= min(hardware.count, LARGEST_SIZE):
        sizes.append(2 * sizes[-1])
    return tuple(sizes)


def _servers(hardware: Hardware, study: StudyFile) -> Iterator[Finding]:
    """Which of the study's servers the GPUs hold, on one and on two of them."""
    for server in _gpu_servers(hardware, study):
        yield _server(hardware, server)


def _server(hardware: Hardware, server: ServerConfig) -> Finding:
    gpus = server.gpu_count
    split = split_of(server)
    subject = f"server {server.model} TP={split.tensor_parallel}"
    if server.data_parallel_size > 1:
        subject += f" DP={server.data_parallel_size}"
    architecture = served_architecture(server)
    memory_bytes = hardware.memory_bytes
    if memory_bytes is None:
        seen = f"{hardware.name} does not report its memory: whether it fits is unknown"
        return Finding("server", subject, seen)
    small = estimate.too_small(architecture, split, server.dtype, memory_bytes)
    if small:
        remedy = "its tests are skipped here; use more GPUs, or larger ones"
        return Finding("server", subject, small, remedy)
    weights_gb = architecture.weights_bytes_per_rank(split, server.dtype) / 1e9
    seen = (
        f"{weights_gb:.1f} GB of weights on each GPU, which has "
        f"{memory_bytes / 1e9:.1f} GB"
    )
    if hardware.count >= gpus:
        return Finding("server", subject, seen)
    seen += f"; needs {gpus} GPUs, found {hardware.count}"
    return Finding("server", subject, seen, "its tests are skipped here")


def _memory(hardware: Hardware) -> Finding:
    memory_gb = hardware.host_memory_bytes / 1e9
    seen = f"{memory_gb:.0f} GB"
    if memory_gb >= CPU_MEMORY_GB:
        return Finding("memory", "memory", seen)
    remedy = f"the ranks of two CPU servers need {CPU_MEMORY_GB} GB"
    return Finding("memory", "memory", seen, remedy, blocks=True)


def _disk() -> Finding:
    home = environment.engines_dir()
    existing = next(path for path in (home, *home.parents) if path.exists())
    free_gb = shutil.disk_usage(existing).free / 1e9
    seen = f"{free_gb:.0f} GB free for {home}"
    if free_gb >= CPU_DISK_GB:
        return Finding("disk", "disk", seen)
    remedy = (
        f"the engines and the small models take {CPU_DISK_GB} GB: make room, or set "
        "PERFGATE_ENGINES_DIR"
    )
    return Finding("disk", "disk", seen, remedy, blocks=True)


def _engines(
    hardware: Hardware, pythons: Mapping[str, str]
) -> Iterator[Finding]:
    devices: tuple[Device, ...] = ("cpu",)
    if hardware.gpus:
        devices = ("cpu", "cuda")
    for device in devices:
        for engine in sorted(ENGINES):
            yield _engine(engine, device, pythons)


def _engine(engine: str, device: Device, pythons: Mapping[str, str]) -> Finding:
    subject = f"engine {environment.environment_name(engine, device)}"
    try:
        python = environment.find_python(engine, device, pythons)
        versions = environment.versions(python.path)
    except Failure as failure:
        seen, remedy = failure.seen, failure.remedy
        return Finding(
            "engine", subject, seen, remedy, blocks=True, device=device
        )
    installed = {
        name: version
        for name, version in versions.items()
        if name.startswith(engine)
    }
    if not installed:
        seen = f"{python.path} has no {engine}"
        remedy = f"install {engine} there, or name another Python"
        return Finding(
            "engine", subject, seen, remedy, blocks=True, device=device
        )
    text = ", ".join(f"{name} {version}" for name, version in versions.items())
    if device == "cpu" and not _runs_on_cpu(engine, installed):
        return Finding(
            "engine",
            subject,
            f"no CPU build: {text} ({python.origin})",
            f"for the CPU leave {python.origin.removesuffix('=')} out, or name a "
            "Python with a CPU build there",
            blocks=True,
            device=device,
        )
    return Finding(
        "engine",
        subject,
        f"{text} ({python.origin})",
        _untested(engine, installed),
        device=device,
    )


def _runs_on_cpu(engine: str, installed: Mapping[str, str]) -> bool:
    """Whether it is a CPU build; also where nothing tells.

    vLLM looks at its own version, too: that of a CPU build says so, or has its name.
    """
    own = environment.environment_name(engine, "cpu")
    if own not in ENGINES[engine].tested or own in installed:
        return True
    return "cpu" in installed.get(engine, "cpu")


def _untested(engine: str, installed: Mapping[str, str]) -> str | None:
    """A remedy for versions that were not tested; they do not block.

    Another version may well work, but its flags, log lines and metric names were not
    checked.
    """
    tested = ENGINES[engine].tested
    untested = []
    for name, version in installed.items():
        if version not in tested.get(name, ()):
            untested.append(f"{name} {version}")
    if not untested:
        return None
    known = ", ".join(f"{name} {' '.join(tested[name])}" for name in tested)
    return f"{', '.join(untested)} was not tested with this suite (tested: {known})"


def _weights(
    hardware: Hardware, study: StudyFile, model_dirs: Mapping[str, str]
) -> Iterator[Finding]:
    asked = {*model_dirs, *_measured(study)}
    for model in models.CATALOGUE.values():
        if model.hub_id is None:
            yield _made(model)
        elif hardware.gpus and model.served:
            finding = _found(model, model_dirs)
            if finding.remedy and model.name not in asked:
                finding = _unmeasured(model, study)
            yield finding


def _measured(study: StudyFile) -> Iterator[str]:
    """The models of all platforms' pairs, and those that they measure alone."""
    for platform in study.platforms:
        for subject in subjects_of(study, platform):
            yield from subject.models


def _unmeasured(model: models.Model, study: StudyFile) -> Finding:
    """A model that only an option asks for, and that may be missing."""
    options = []
    for name, pair in study.pairs.items():
        if model.name in (pair.model, pair.reference):
            options.append(f"--pair {name}")
    options.append(f"--model {model.name}")
    seen = f"not measured by default ({' or '.join(options)} measures it)"
    return Finding("model", f"model {model.name}", seen)


def _made(model: models.Model) -> Finding:
    """A model that the suite makes."""
    seen = "not generated yet; the first run does it in seconds"
    if (weights.models_dir() / model.name / "perfgate.json").is_file():
        seen = "generated"
    return Finding("model", f"model {model.name}", seen)


def _found(model: models.Model, model_dirs: Mapping[str, str]) -> Finding:
    """A model of the hub, and where its weights are."""
    subject = f"model {model.name}"
    try:
        located = weights.locate(
            model, "auto", model_dirs, False, lambda text: None
        )
    except Failure as failure:
        return Finding("model", subject, failure.seen, failure.remedy)
    return Finding("model", subject, located.path)


def _baselines(store: Store, label: str) -> Finding:
    own_files, shipped_files = store.count(label), 0
    if store.behind is not None:
        shipped_files = store.behind.count(label)
    seen = f"{own_files} files"
    if shipped_files:
        seen = f"{own_files} own files, {shipped_files} shipped with perfgate"
    remedy = None
    if own_files + shipped_files == 0:
        remedy = "record some: pytest -m PLATFORM --baseline-record, then perfgate accept"
    return Finding("baselines", f"baselines {label}", seen, remedy)
