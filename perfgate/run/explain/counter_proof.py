"""Counter-proof: the red load once more, with the engine's choice put back by an argument.

Base and candidate are launched once more each, next to one another, and measured as any
launch is. Neither is judged: the pair shows whether the loss goes with the choice.
"""

from __future__ import annotations

import dataclasses
import shlex
import statistics
from collections.abc import Callable

import msgspec

from perfgate.engines import put_back
from perfgate.engines import registry as engines
from perfgate.engines.base import LaunchPlan
from perfgate.errors import Failure
from perfgate.judge.causes.next_step import PutBack
from perfgate.load.workload import Workload
from perfgate.results.profile import CounterProof
from perfgate.results.recorder import LaunchEnd, Measured
from perfgate.results.samples import valid_repetitions
from perfgate.results.schema import Measurement
from perfgate.run.explain.builds import Build, Launcher
from perfgate.run.explain.subject import Subject
from perfgate.run.launch_runner import LaunchRunner
from perfgate.run.started_launch import start_launch


class NotPutBack(Failure):
    """Nothing was lost, the argument is unknown, or the load gave no value with it."""


def proof(
    launcher: Launcher,
    builds: tuple[Build | None, Build],
    subject: Subject,
    back: PutBack,
) -> CounterProof:
    """Measure the red load with the choice put back.

    Args:
        builds: base and candidate; without a base the verdict's own baseline counts.
    """
    base, candidate = builds
    verdict = subject.worst
    row = CounterProof(
        server=back.server,
        choice=back.choice,
        argument=back.argument,
        metric=verdict.metric,
        load=subject.workload.name,
    )
    try:
        _refuse_without_loss(subject)
        _refuse_unknown(launcher, candidate, back.argument)
        before, name = verdict.baseline or 0.0, "the baseline"
        if base is not None:
            before, name = _measured(launcher, base, subject, ""), base.name
        now = _measured(launcher, candidate, subject, back.argument)
    except Failure as failure:
        return msgspec.structs.replace(row, problem=failure.seen)
    return msgspec.structs.replace(
        row, base=name, before=before, now=now, without=verdict.change or 0.0
    )


def _refuse_without_loss(subject: Subject) -> None:
    """Refuse a server that lost nothing itself: of a red ratio the other one may have."""
    verdict = subject.worst
    if (verdict.worse_by or 0.0) > 0:
        return
    raise NotPutBack(
        tried=f"putting back what {subject.config.key} chose",
        seen=f"{verdict.metric} of {subject.workload.name} has lost nothing",
        remedy="look at the other server of the ratio",
    )


def _refuse_unknown(launcher: Launcher, build: Build, argument: str) -> None:
    """Refuse an argument that this release of the engine does not list."""
    engine = engines.lookup(build.config.engine)
    plan = launcher.plan(build)
    launcher.say(build, f"asking {engine.name} whether it has {argument}")
    if not put_back.is_accepted(argument, plan, engine.help_arguments):
        raise NotPutBack(
            tried=f"putting {argument} back",
            seen=f"this {engine.name} has no such argument",
            remedy="read its --help, and put the choice back by hand",
        )


def _measured(
    launcher: Launcher, build: Build, subject: Subject, argument: str
) -> float:
    """The metric on one launch: the median of its valid repetitions.

    Raises:
        Failure: it did not start, died, or has no valid repetition.
    """
    workload, config = subject.workload, build.config
    launcher.say(build, f"launching {build.name} {argument}".rstrip())
    source = launcher.source(build, _appending(argument))
    server = source.start(config, is_fresh=True)
    started = start_launch(config, server, 0, build.settings.injection(config))
    runner = LaunchRunner(
        started,
        source,
        launcher.hardware,
        build.settings.silence_timeout_s,
        launcher.tell,
    )
    measurement = _last(runner, workload)
    values = []
    if measurement is not None:
        for repetition in valid_repetitions(measurement):
            if subject.worst.metric in repetition.values:
                values.append(repetition.values[subject.worst.metric])
    if not values:
        raise NotPutBack(
            tried=f"measuring {workload.name} on {config.key}",
            seen=f"no repetition of {workload.name} gave {subject.worst.metric}",
            remedy="read the server's log",
        )
    return statistics.median(values)


def _last(runner: LaunchRunner, workload: Workload) -> Measurement | None:
    """All repetitions of a load; None where the server died before the first.

    Raises:
        ServerDied: it died meanwhile.
    """
    measurement = None
    for entry in runner.run([workload], is_part=True):
        if isinstance(entry, Measured):
            measurement = entry.measurement
        elif isinstance(entry, LaunchEnd) and entry.death is not None:
            raise entry.death
    return measurement


def _appending(argument: str) -> Callable[[LaunchPlan], LaunchPlan]:
    def altered(plan: LaunchPlan) -> LaunchPlan:
        words = shlex.split(argument)
        key = f"{plan.key}-counter-proof"
        return dataclasses.replace(plan, key=key, argv=(*plan.argv, *words))

    return altered
