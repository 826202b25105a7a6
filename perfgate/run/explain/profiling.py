"""Profiling: a short part of a red load on one launch under the engine's own profiler.

The launch is warmed up by the same load, which is then sent with the profiler off and on:
that tells what the profiler itself costs. Nothing of it is judged.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from perfgate.engines import registry as engines
from perfgate.engines.base import LaunchPlan, Profiler
from perfgate.errors import Failure
from perfgate.load import measurement
from perfgate.load.measurement import Target
from perfgate.load.prompts import Synthetic
from perfgate.load.repetition import Repetition
from perfgate.load.workload import Workload
from perfgate.results.profile import (
    AGREEING,
    Profile,
    ProfiledPhase,
    ProfiledSteps,
)
from perfgate.run.explain import comparison
from perfgate.run.explain.builds import Build, Launcher
from perfgate.run.explain.comparison import Recorded
from perfgate.run.explain.steps import Totals
from perfgate.run.explain.subject import Subject
from perfgate.run.launch_runner import target_of
from perfgate.run.started_launch import start_launch
from perfgate.servers.running import RunningServer

FOLDER = "profiles"  # in the run directory
# Of a request: one prefill, and a decode step for each further one.
OUTPUT_TOKENS = 24
FEWEST_REQUESTS = 4
WARM_UPS = (-1, -2)  # repetitions: prompts that no other one has
ITL = "itl_median_ms"


class NotProfiled(Failure):
    """The load could not be sent under the profiler."""


@dataclass(frozen=True)
class Profiled:
    """One launch under the profiler.

    Attributes:
        plain, traced: the load with the profiler off and on.
    """

    recorded: Recorded
    plain: Repetition
    traced: Repetition


def short_load(workload: Workload) -> Workload:
    """A part of a load: as many streams, few tokens.

    Of a steady state two waves: prompts are taken in beside decoding.
    """
    prompts = workload.prompts
    if isinstance(prompts, Synthetic):
        tokens = min(prompts.output_len_tokens, OUTPUT_TOKENS)
        prompts = msgspec.structs.replace(
            prompts, output_len_tokens=tokens, output_range_ratio=0.0
        )
    streams = workload.batch or 1
    requests = max(streams, FEWEST_REQUESTS)
    if workload.staggered:
        requests *= 2
    return msgspec.structs.replace(
        workload, prompts=prompts, num_prompts=requests, repetitions=1
    )


def profiled(
    launcher: Launcher, build: Build, workload: Workload, run_dir: Path
) -> Profiled:
    """Launch a build, and record a short part of a load.

    Raises:
        NotProfiled: its engine has no profiler, or requests failed.
        Failure: it did not start, or its traces cannot be read.
    """
    profiler = engines.lookup(build.config.engine).profiler
    if profiler is None:
        raise NotProfiled(
            tried=f"profiling {build.config.key}",
            seen=f"{build.config.engine} has no profiler that this suite knows",
            remedy="profile it by hand, or name it in Engine.profiler",
        )
    folder = new_folder(run_dir / FOLDER / build.folder)
    launcher.say(build, f"launching {build.name} under the profiler")

    def with_profiler(plan: LaunchPlan) -> LaunchPlan:
        versions = source.software(build.config).versions
        plan = profiler.switched_on(plan, versions, folder)
        return dataclasses.replace(plan, key=f"{plan.key}-profiled")

    source = launcher.source(build, with_profiler)
    server = source.start(build.config, is_fresh=True)
    start_launch(
        build.config, server, 0, build.settings.injection(build.config)
    )
    load = short_load(workload)
    target = target_of(build.config, server, build.settings.silence_timeout_s)
    for index in WARM_UPS:
        _sent(target, load, index)
    plain = _sent(target, load, 0)
    traced = _traced(profiler, server, folder, lambda: _sent(target, load, 1))
    recorded = comparison.recorded(folder, load.num_prompts)
    _refuse_without_kernels(build, recorded, folder)
    launcher.say(build, f"{recorded.ranks} traces in {folder}")
    return Profiled(recorded, plain, traced)


def _refuse_without_kernels(
    build: Build, recorded: Recorded, folder: Path
) -> None:
    """Refuse a GPU's trace of calls alone: they say nothing of what ran."""
    if build.config.device == "cuda" and recorded.unit != "kernel":
        raise NotProfiled(
            tried=f"reading traces in {folder}",
            seen="the profiler recorded no kernels of the GPU",
            remedy=(
                "read the server's log: another profiler may hold the GPU, or the "
                "engine's processes were forked after it was opened"
            ),
        )


def _traced(
    profiler: Profiler,
    server: RunningServer,
    folder: Path,
    send: Callable[[], Repetition],
) -> Repetition:
    profiler.start(server.url, folder)
    try:
        return send()
    finally:
        profiler.stop(server.url)


def _sent(target: Target, load: Workload, index: int) -> Repetition:
    repetition = measurement.measure(target, load, index)
    if repetition.failed or not repetition.completed:
        raise NotProfiled(
            tried=f"sending {load.name} to {target.served_model}",
            seen=f"{repetition.failed} requests failed",
            remedy="read the server's log",
        )
    return repetition


def new_folder(folder: Path) -> Path:
    """An empty folder of that name, with a number where there is one already."""
    number = 1
    path = folder
    while path.exists():
        number += 1
        path = folder.with_name(f"{folder.name}-{number}")
    path.mkdir(parents=True)
    return path


def profile_of(
    subject: Subject,
    candidate: Profiled,
    base: tuple[Build, Profiled] | None,
    run_dir: Path,
) -> Profile:
    """Kernels of the candidate against those of the base, in the phase that lost most."""
    base_name = ""
    base_launch: Profiled | None = None
    before: Recorded | None = None
    files = candidate.recorded.files
    if base is not None:
        build, base_launch = base
        base_name, before = build.name, base_launch.recorded
        files = (*before.files, *files)
    phase = _phase(before, candidate.recorded, subject)
    now_totals = candidate.recorded.phases[phase]
    before_totals: Totals | None = None
    if before is not None:
        before_totals = before.phases.get(phase)
    kernels = comparison.changes(before_totals, now_totals)
    steps_before: ProfiledSteps | None = None
    if before_totals is not None and base_launch is not None:
        before_ms = sum(kernel.before_ms for kernel in kernels)
        steps = comparison.profiled_steps(before_totals, before_ms)
        steps_before = _with_itl(steps, base_launch)
    now_ms = sum(kernel.now_ms for kernel in kernels)
    steps_now = comparison.profiled_steps(now_totals, now_ms)
    lost_ms: float | None = None
    lost_metric = ""
    loss = subject.losses.get(phase)
    if loss is not None:
        lost_ms, lost_metric = loss.added, loss.name
    return Profile(
        server=subject.config.key,
        load=subject.workload.name,
        phase=phase,
        unit=candidate.recorded.unit,
        ranks=candidate.recorded.ranks,
        base=base_name,
        before=steps_before,
        now=_with_itl(steps_now, candidate),
        kernels=kernels,
        lost_ms=lost_ms,
        lost_metric=lost_metric,
        traces=tuple(str(path.relative_to(run_dir)) for path in files),
        notes=_notes(subject, phase),
    )


def _notes(subject: Subject, phase: ProfiledPhase) -> tuple[str, ...]:
    """That a mean gap which is red lost more than the decode step that is profiled."""
    mean, step = subject.mean, subject.losses.get("decode")
    if phase != "decode" or mean is None or step is None:
        return ()
    if mean.added <= AGREEING * max(0.0, step.added):
        return ()
    return (
        f"{mean.name} lost {mean.added:+.3g} ms, and a median gap {step.added:+.3g} ms: "
        "the rest is not in decode steps, as where prompts are taken in",
    )


def _phase(
    before: Recorded | None, now: Recorded, subject: Subject
) -> ProfiledPhase:
    if before is not None:
        streams = subject.workload.batch or 1
        measured_ms = {
            phase: loss.added for phase, loss in subject.losses.items()
        }
        return comparison.lost_phase(
            before, now, subject.output_tokens, streams, measured_ms
        )
    if "decode" in now.phases:
        return "decode"
    return "request"


def _with_itl(steps: ProfiledSteps, launch: Profiled) -> ProfiledSteps:
    return msgspec.structs.replace(
        steps,
        plain_itl_ms=launch.plain.values.get(ITL),
        profiled_itl_ms=launch.traced.values.get(ITL),
    )
