"""Bisection on recorded noise: how often it names the right build, and with how many pairs.

    python -m benchmarks.bisect_simulation               # table of docs/error-rates.md
    python -m benchmarks.bisect_simulation --trials 20   # coarse

Builds are simulated, one of them slower than all before it. Each launch has the noise of
a recorded launch of this repository's baselines, of all metrics of the load together.
`perfgate.bisect.bisection` searches as it does for real. Seeded.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np

from perfgate.bisect.bisection import Answer, Bisection
from perfgate.bisect.builds import ReadyBuild
from perfgate.bisect.pair_session import Comparison
from perfgate.bisect.state import BadBisection, Question, Row, Session, State
from perfgate.judge.baseline_schema import MetricBaseline
from perfgate.judge.baseline_store import Store
from perfgate.judge.noise import PRIOR_LAUNCHES
from perfgate.judge.noise_table import Spread, platform_of
from perfgate.judge.policy import policy_for
from perfgate.load.metrics import METRICS

SEED = 20261128
SUSPECTS = 16
TRIALS = 200
METRICS_OF_LOAD = (
    "itl_median_ms",
    "tpot_median_ms",
    "output_throughput",
    "ttft_median_ms",
)
LOADS = {
    "one H200, ITL": ("h200x1", "vllm-llama-3.1-8b-tp1", "batch-32"),
    "one H200, throughput": ("h200x1", "vllm-llama-3.1-8b-tp1", "closed-c32"),
    "one H100, throughput": ("h100x1", "vllm-llama-3.1-8b-tp1", "closed-c32"),
    "shared CPU cores, throughput": (
        "cpu-amd-epyc-avx2-x2",
        "vllm-llama-small-tp2",
        "closed-c16",
    ),
}
LOSSES = {
    "one H200, ITL": (0.02, 0.03, 0.05, 0.10),
    "one H200, throughput": (0.02, 0.03, 0.05, 0.10),
    "one H100, throughput": (0.03, 0.05, 0.10),
    "shared CPU cores, throughput": (0.20, 0.35, 0.65, 1.0),
}
FEWEST_LAUNCHES = 3  # of a machine, that its noise is taken from


@dataclass(frozen=True)
class RecordedLoad:
    """A load with its recorded noise.

    Attributes:
        name: "SERVER/WORKLOAD".
        launches: metric -> logarithm of each launch over its machine's mean.
        noise: metric -> what is known of it beforehand.
    """

    name: str
    label: str
    launches: tuple[dict[str, float], ...]
    noise: dict[str, Spread]


def recorded(
    store: Store, label: str, server: str, workload: str
) -> RecordedLoad:
    """The recorded launches of a load, of machines with enough of them."""
    file = store.file(store.root / label / server / f"{workload}.json")
    assert file is not None
    launches: dict[tuple[str, int], dict[str, float]] = defaultdict(dict)
    noise = {}
    for name in METRICS_OF_LOAD:
        if name not in file.metrics:
            continue
        metric = file.metrics[name]
        for key, residual in residuals(metric, file.machines).items():
            launches[key][name] = residual
        noise[name] = _noise(store, label, name)
    return RecordedLoad(
        name=f"{server}/{workload}",
        label=label,
        launches=tuple(launches.values()),
        noise=noise,
    )


def residuals(
    metric: MetricBaseline, machines: dict[str, str]
) -> dict[tuple[str, int], float]:
    """(run, number of the launch in it) -> its noise, as large as that of one launch."""
    by_machine: dict[str, list[tuple[tuple[str, int], float]]]
    by_machine = defaultdict(list)
    seen: dict[str, int] = defaultdict(int)
    for point in metric.launches:
        key = point.run, seen[point.run]
        seen[point.run] += 1
        machine = machines.get(point.run, "")
        by_machine[machine].append((key, math.log(point.value)))
    found = {}
    for points in by_machine.values():
        if len(points) < FEWEST_LAUNCHES:
            continue
        mean = statistics.fmean(value for _, value in points)
        scale = math.sqrt(len(points) / (len(points) - 1))
        for key, value in points:
            found[key] = scale * (value - mean)
    return found


def _noise(store: Store, label: str, metric: str) -> Spread:
    table = store.noise_table
    assert table is not None
    group = table.find(platform_of(label), metric, "closed")
    if group is not None:
        return group.launches
    policy = policy_for(label, metric, ratio=True)
    return Spread(
        cv=policy.assumed_cv, degrees_of_freedom=float(PRIOR_LAUNCHES)
    )


@dataclass
class SimulatedPairs:
    """Pairs whose launches are drawn from recorded ones.

    Attributes:
        first_bad: index of the first build that is slower.
        loss: by which fraction its latencies are longer.
        broken: builds that do not start.
    """

    load: RecordedLoad
    builds: Sequence[str]
    first_bad: int
    loss: float
    rng: np.random.Generator
    broken: frozenset[str] = frozenset()
    pairs: int = 0

    def measure(self, comparison: Comparison) -> Session:
        """One pair, or the three that confirm."""
        name = comparison.build.name
        reference = comparison.reference.name
        count = 3 if comparison.confirms else 1
        rows = {}
        if name not in self.broken:
            self.pairs += count
            rows = self._rows(reference, name, count)
        return Session(
            reference=reference,
            build=name,
            run=comparison.run,
            outcome="measured" if rows else "failed",
            seconds=60.0 * count,
            confirms=comparison.confirms,
            rows=rows,
        )

    def _rows(self, reference: str, build: str, count: int) -> dict[str, Row]:
        values = defaultdict(list)
        for _ in range(count):
            before, after = self._launch(reference), self._launch(build)
            for name in before.keys() & after.keys():
                values[name].append((before[name], after[name]))
        rows = {}
        for name, pairs in sorted(values.items()):
            noise = self.load.noise[name]
            rows[f"{self.load.name}/{name}"] = Row(
                values=tuple(pairs),
                unit=METRICS[name].unit,
                higher=METRICS[name].better == "higher",
                cv=noise.cv,
                degrees_of_freedom=noise.degrees_of_freedom,
            )
        return rows

    def _launch(self, build: str) -> dict[str, float]:
        """The metrics of a launch, each 100 but for noise and loss."""
        index = int(self.rng.integers(len(self.load.launches)))
        is_bad = self.builds.index(build) >= self.first_bad
        slower = math.log1p(self.loss) if is_bad else 0.0
        values = {}
        for name, noise in self.load.launches[index].items():
            is_higher = METRICS[name].better == "higher"
            change = -slower if is_higher else slower
            values[name] = 100 * math.exp(noise + change)
        return values


@dataclass(frozen=True)
class Trial:
    """How one bisection ended.

    Attributes:
        pairs: that found the build, without the confirmation.
        end: "right", "wrong", "not confirmed" or "no loss".
    """

    pairs: int
    end: str


def trial(
    load: RecordedLoad,
    loss: float,
    rng: np.random.Generator,
    broken: Sequence[int] = (),
    suspects: int = SUSPECTS,
) -> Trial:
    """One bisection of a good build and so many suspects, the slow one drawn."""
    builds = [f"build-{number}" for number in range(suspects + 1)]
    first_bad = int(rng.integers(1, suspects + 1))
    pairs = SimulatedPairs(
        load,
        builds,
        first_bad,
        loss,
        rng,
        frozenset(builds[index] for index in broken),
    )
    ready = [ReadyBuild(name, "/bin/true") for name in builds]
    question = Question(engine="vllm", builds=tuple(builds), arguments=())
    bisection = Bisection(
        State(question=question), ready, pairs, _ignore, _ignore
    )
    try:
        answer = bisection.run()
    except BadBisection:
        return Trial(pairs.pairs, "no loss")
    return Trial(_searching(answer), _end(answer, first_bad))


def _searching(answer: Answer) -> int:
    return sum(
        not session.confirms and bool(session.rows)
        for session in answer.state.sessions
    )


def _end(answer: Answer, first_bad: int) -> str:
    place = answer.position
    if not answer.is_confirmed:
        return "not confirmed"
    if place.good < first_bad <= place.bad:
        return "right"
    return "wrong"


def _ignore(_: object) -> None:
    """Nobody looks on."""


def markdown(store: Store, trials: int) -> str:
    """A row for each load and loss."""
    lines = [
        "| noise of | loss | right | wrong | not confirmed | no loss | pairs, median "
        "| 95 % | most |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    rng = np.random.default_rng(SEED)
    for name, place in LOADS.items():
        load = recorded(store, *place)
        for loss in LOSSES[name]:
            ends = [trial(load, loss, rng) for _ in range(trials)]
            pairs = sorted(end.pairs for end in ends)
            cells = [name, f"{100 * loss:.0f} %"]
            for end in ("right", "wrong", "not confirmed", "no loss"):
                count = sum(row.end == end for row in ends)
                cells.append(f"{100 * count / trials:.1f}")
            cells.append(f"{statistics.median(pairs):.0f}")
            cells.append(str(pairs[math.ceil(0.95 * len(pairs)) - 1]))
            cells.append(str(pairs[-1]))
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


@click.command()
@click.option("--trials", default=TRIALS, show_default=True)
@click.option(
    "--baselines",
    type=click.Path(path_type=Path),
    default=Path("baselines"),
    show_default=True,
)
def main(trials: int, baselines: Path) -> None:
    """Show how often the right build is found, and with how many pairs."""
    click.echo(markdown(Store(baselines), trials))


if __name__ == "__main__":
    main()
