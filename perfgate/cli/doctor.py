"""What can this machine run, and what is missing?"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from perfgate.engines import environment
from perfgate.engines.base import ServerConfig
from perfgate.engines.registry import ENGINES
from perfgate.errors import Failure
from perfgate.judge.baseline_store import Store
from perfgate.machine.hardware import Hardware
from perfgate.models import catalogue as models
from perfgate.models import estimate, weights
from perfgate.study import StudyFile, study_of

# Both engines' environments (3.5 and 2.6 GB) and the models made here.
CPU_DISK_GB = 8
CPU_MEMORY_GB = 8


@dataclass(frozen=True)
class Finding:
    """One thing looked at.

    Attributes:
        remedy: what to do; None if all is well.

    """

    about: str
    seen: str
    remedy: str | None = None


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
    python = ".".join(map(str, sys.version_info[:3]))
    yield Finding(
        "Python",
        python,
        None if sys.version_info >= (3, 11) else "use Python 3.11 or newer",
    )
    yield Finding("machine", hardware.description)
    yield from _gpus(hardware)
    yield from _servers(hardware, study)
    yield from _room(hardware)
    devices = ("cpu", "cuda") if hardware.gpus else ("cpu",)
    for device in devices:
        for engine in sorted(ENGINES):
            yield _engine(engine, device, pythons)
    yield from _weights(hardware, model_dirs)
    for gpu_count in (1, 2) if hardware.gpus else (0,):
        yield _recorded(store, hardware.label(gpu_count))


def platforms(
    hardware: Hardware, study: StudyFile, tensor_parallel_size: int
) -> Iterator[Finding]:
    """Which selections run here: "pytest -m cpu", "pytest -m h200", ..."""
    for name in study.platforms:
        if study.device_of(name) == "cpu":
            yield _on_cpu(name, tensor_parallel_size)
        else:
            yield _on_gpus(name, study.gpu_of(name), hardware, tensor_parallel_size)


def _on_cpu(name: str, tensor_parallel_size: int) -> Finding:
    cores = len(os.sched_getaffinity(0))
    enough = cores >= tensor_parallel_size
    missing = (
        None
        if enough
        else f"give this process {tensor_parallel_size} cores, or run with --tp {cores}"
    )
    seen = (
        "runs here" if enough else f"needs {tensor_parallel_size} cores, found {cores}"
    )
    return Finding(f"pytest -m {name}", seen, missing)


def _on_gpus(
    name: str, gpu: str | None, hardware: Hardware, tensor_parallel_size: int
) -> Finding:
    lacking = hardware.lacks(gpu, tensor_parallel_size)
    if lacking is None:
        return Finding(f"pytest -m {name}", "runs here")
    remedy = f"run it on a machine with {(gpu or 'NVIDIA').upper()} GPUs"
    if hardware.lacks(gpu, 1) is None:
        remedy = "run with --tp 1 what fits one GPU"
    return Finding(f"pytest -m {name}", lacking, remedy)


def _gpus(hardware: Hardware) -> Iterator[Finding]:
    for gpu in hardware.gpus:
        power = (
            ""
            if gpu.power_limit_w is None
            else f", power limit {gpu.power_limit_w:g} W"
        )
        seen = (
            f"{gpu.name}, {gpu.memory_total_bytes / 2**30:.0f} GiB{power}, MIG "
            f"{'on' if gpu.mig else 'off'}"
        )
        remedy = (
            "baselines are for whole GPUs: use one without MIG" if gpu.mig else None
        )
        yield Finding(f"GPU {gpu.index}", seen, remedy)


def _gpu_servers(hardware: Hardware, study: StudyFile) -> list[ServerConfig]:
    """Both servers of each pair that a GPU platform of the study serves, on one and on two GPUs."""
    found: dict[ServerConfig, None] = {}
    if hardware.gpus:
        engine = next(iter(study.engines or ENGINES))
        names = [name for name in study.platforms if study.device_of(name) == "cuda"]
        for size in (1, 2):
            for name in names:
                found |= dict.fromkeys(study_of(study, name, engine, size).models)
    return list(found)


def _servers(hardware: Hardware, study: StudyFile) -> Iterator[Finding]:
    """Which of the study's servers the GPUs hold, on one and on two of them."""
    for server in _gpu_servers(hardware, study):
        architecture, size = (
            models.lookup(server.model).architecture,
            server.tensor_parallel_size,
        )
        about = f"server {server.model} TP={size}"
        if small := estimate.too_small(
            architecture, size, server.dtype, hardware.memory_bytes
        ):
            yield Finding(
                about,
                small,
                "its tests are skipped here; it takes more GPUs, or larger ones",
            )
            continue
        weights_gb = architecture.weights_bytes_per_rank(size, server.dtype) / 1e9
        seen = (
            f"{weights_gb:.1f} GB of weights on each GPU, which has "
            f"{hardware.memory_bytes / 1e9:.1f} GB"
        )
        few = (
            f"; it takes {size} GPUs, found {hardware.count}"
            if hardware.count < size
            else ""
        )
        yield Finding(about, seen + few, "its tests are skipped here" if few else None)


def can_run(findings: Sequence[Finding], selections: Sequence[Finding]) -> bool:
    """Whether anything of the suite runs here: on the CPU or on the GPUs, with an engine.

    An engine that was not tested, or runs beside one that is missing, is no obstacle.
    """
    lacking = {
        f.about
        for f in findings
        if f.remedy is not None and "was not tested" not in f.remedy
    }
    ready = {f.about for f in selections if f.remedy is None}
    needs = [f.about for f in findings if f.about in ("Python", "disk", "memory")]
    engines = {f.about for f in findings if f.about.startswith("engine ")} - lacking
    on_cpu = {about for about in engines if about.endswith("-cpu")}
    cpu = "pytest -m cpu" in ready and lacking.isdisjoint(needs) and bool(on_cpu)
    gpus = (
        bool(ready - {"pytest -m cpu"})
        and "Python" not in lacking
        and bool(engines - on_cpu)
    )
    return cpu or gpus


def _room(hardware: Hardware) -> Iterator[Finding]:
    memory_gb = hardware.host_memory_bytes / 1e9
    short = memory_gb < CPU_MEMORY_GB
    yield Finding(
        "memory",
        f"{memory_gb:.0f} GB",
        f"two CPU servers' ranks need {CPU_MEMORY_GB} GB" if short else None,
    )
    home = environment.engines_dir()
    free_gb = (
        shutil.disk_usage(next(p for p in (home, *home.parents) if p.exists())).free
        / 1e9
    )
    remedy = (
        f"the engines and the small models take {CPU_DISK_GB} GB: make room, or set "
        "PERFGATE_ENGINES_DIR"
    )
    yield Finding(
        "disk",
        f"{free_gb:.0f} GB free for {home}",
        remedy if free_gb < CPU_DISK_GB else None,
    )


def _engine(engine: str, device: str, pythons: Mapping[str, str]) -> Finding:
    about = f"engine {environment.environment_name(engine, device)}"
    try:
        python = environment.find_python(engine, device, pythons)
        versions = environment.versions(python.path)
    except Failure as failure:
        return Finding(about, failure.seen, failure.remedy)
    installed = {
        name: version for name, version in versions.items() if name.startswith(engine)
    }
    if not installed:
        return Finding(
            about,
            f"{python.path} has no {engine}",
            f"install {engine} there, or name another Python",
        )
    seen = ", ".join(f"{name} {version}" for name, version in versions.items())
    # Another version may well work, but its flags, log lines and metric names were not
    # checked.
    tested = ENGINES[engine].tested
    untested = [f"{n} {v}" for n, v in installed.items() if v not in tested.get(n, ())]
    known = ", ".join(f"{name} {' '.join(tested[name])}" for name in tested)
    remedy = (
        f"{', '.join(untested)} was not tested with this suite (tested: {known})"
        if untested
        else None
    )
    return Finding(about, f"{seen} ({python.origin})", remedy)


def _weights(hardware: Hardware, model_dirs: Mapping[str, str]) -> Iterator[Finding]:
    for model in models.CATALOGUE.values():
        if model.hub_id is None:
            made = (weights.models_dir() / model.name / "perfgate.json").is_file()
            yield Finding(
                f"model {model.name}",
                "made" if made else "not made yet; the first run makes it, in seconds",
            )
        elif hardware.gpus and model.served:
            try:
                found = weights.locate(
                    model, "auto", model_dirs, False, lambda text: None
                )
                yield Finding(f"model {model.name}", found.path)
            except Failure as failure:
                yield Finding(f"model {model.name}", failure.seen, failure.remedy)


def _recorded(store: Store, label: str) -> Finding:
    own, shipped = store.count(label), 0
    if store.behind is not None:
        shipped = store.behind.count(label)
    seen = f"{own} files"
    if shipped:
        seen = f"{own} files of your own, {shipped} that come with perfgate"
    remedy = None
    if own + shipped == 0:
        remedy = (
            "record some: pytest -m PLATFORM --baseline-record, then perfgate accept"
        )
    return Finding(f"baselines {label}", seen, remedy)
