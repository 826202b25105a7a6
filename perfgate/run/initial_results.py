"""Initial results: what the run of a session says before anything is launched.

A resumed run begins with the launches that an earlier session measured whole.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

import psutil

import perfgate
from perfgate.cases import Case
from perfgate.config.config import Config
from perfgate.engines.base import ServerConfig
from perfgate.foreign_text import shown_arguments
from perfgate.load.metrics import CUSTOM, Metric
from perfgate.load.workload import Workload
from perfgate.machine.hardware import Hardware
from perfgate.progress import ProgressDisplay
from perfgate.results.recorder import now
from perfgate.results.schema import RunResults
from perfgate.results.timing import Session
from perfgate.run import resume
from perfgate.run.launch_planner import software
from perfgate.run.schedule import Screened, measured_cases, schedule_of
from perfgate.study import servers_of


def own_command() -> tuple[str, ...]:
    """The command of this process, without what is secret."""
    return shown_arguments(psutil.Process().cmdline())


def initial_results(
    settings: Config,
    hardware: Hardware,
    planned: Sequence[Case],
    previous: RunResults | None,
    tell: ProgressDisplay,
) -> RunResults:
    """The results of a session at its start.

    Args:
        planned: every case that the session will judge.
        previous: a run to resume: launches that it measured whole are kept.

    Raises:
        OtherMachine, OtherBuild: `previous` was measured elsewhere.
    """
    schedule = schedule_of(settings)
    needs = servers_of(measured_cases(schedule, planned))
    now_s = time.time()
    session = Session(
        started_unix_s=settings.began_unix_s or now_s,
        seen_unix_s=now_s,
        command=settings.session or settings.run_id,
    )
    results = RunResults(
        run_id=settings.run_id,
        suite_version=perfgate.__version__,
        command=own_command(),
        started=now(),
        gate=settings.gate,
        hardware=hardware,
        workloads=_workloads_of(needs),
        cases=tuple(planned),
        mode=schedule.mode,
        base_builds=dict(settings.base_builds),
        target_effect=settings.target_effect,
        fail_over=dict(settings.fail_over),
        sessions=(session,),
        metrics=_computed_metrics(),
    )
    if previous is None:
        return results
    results = resume.resumed(
        results, previous, needs, settings.recorded_injection
    )
    launch_count, total = len(results.launches), len(previous.launches)
    tell.line(
        f"resuming {previous.run_id}: {launch_count} launches kept of {total}"
    )
    for line in resume.cut_off(previous, needs):
        tell.line(line)
    if isinstance(schedule, Screened):
        in_pairs = [case for case in planned if schedule.has_pairs(case)]
        needs |= builds_in_pairs(needs, in_pairs)
    resume.refuse_other_builds(
        results, needs, lambda config: software(settings, config)
    )
    return results


def _workloads_of(needs: resume.Needs) -> dict[str, Workload]:
    """Every workload of these servers, by name."""
    workloads = {}
    for _, server_workloads in needs.values():
        for workload in server_workloads:
            workloads[workload.name] = workload
    return workloads


def _computed_metrics() -> dict[str, Metric]:
    """Metrics of the project that are computed from every repetition, by name."""
    metrics = {}
    for name, custom in CUSTOM.items():
        if custom.compute:
            metrics[name] = custom.metric
    return metrics


def builds_in_pairs(
    needs: resume.Needs, cases: Iterable[Case]
) -> dict[str, tuple[ServerConfig, tuple[Workload, ...]]]:
    """Both builds of each server of the cases, with the load of that server."""
    builds = {}
    for case in cases:
        for load in case.loads:
            config, workloads = needs[load.server.key]
            for build in (config.base, config.candidate):
                builds[build.key] = build, workloads
    return builds
