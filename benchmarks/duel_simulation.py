"""Duel simulation: false alarms and power of two builds in turns, by the gate's own code.

Launches are drawn, `perfgate.judge.duel.Duel` decides. With runs it reads first by how
much launches of one build varied in them.

    python -m benchmarks.duel_simulation [RUN ...]
"""

from __future__ import annotations

import argparse
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from perfgate.cases import Case
from perfgate.judge.duel import Duel
from perfgate.judge.policy import BATCH
from perfgate.judge.verdict import Outcome
from perfgate.load.turns import GROUP, LaunchTime
from perfgate.results import schema
from perfgate.results.samples import RunIndex

SEED = 20261128
TRIALS = 20_000
# Launches of each build, by the groups that were alive at once.
LAUNCHES = ((2,), (3,), (4,), (2, 2))
# Standard deviation of how much faster the machine is for one group than for another.
BETWEEN_GROUPS = 0.05
SCATTERS = (0.003, 0.007, 0.010, 0.015)
WITHIN = 0.003  # standard error of one launch by its cycles
LOSSES = (0.03, 0.05, 0.10)
# Gates of a run whose errors are independent: models times batches. CPU time and active
# time of a batch err together.
GATES = 4
BATCH_MS = 30.0


@dataclass(frozen=True)
class Rates:
    """Shares of duels, as fractions.

    Attributes:
        red: REGRESSED. open: INCONCLUSIVE or NOT_EXCLUDED.
    """

    red: float
    open: float


def rates(
    rng: np.random.Generator,
    launches: Sequence[int],
    scatter: float,
    loss: float,
    within: float = WITHIN,
    trials: int = TRIALS,
) -> Rates:
    """How duels end.

    Args:
        launches: of each build, in each group that was alive at once.
        scatter: standard deviation of the logarithm of one launch's true time.
        loss: true loss, as a fraction.
        within: standard error of a launch by its cycles, which it knows.
    """
    error = math.hypot(scatter, within)
    groups = np.repeat(np.arange(len(launches)), launches)
    drawn = rng.normal(0.0, error, (trials, 2, len(groups)))
    drawn[:, 1, :] += math.log1p(loss)
    machine = rng.normal(0.0, BETWEEN_GROUPS, (trials, 1, len(launches)))
    drawn += machine[:, :, groups]
    outcomes: Counter[Outcome] = Counter()
    for sides in drawn:
        base, candidate = (_times(side, groups, within) for side in sides)
        outcomes[Duel(base, candidate, BATCH, BATCH.paired).outcome()] += 1
    open_count = outcomes[Outcome.INCONCLUSIVE] + outcomes[Outcome.NOT_EXCLUDED]
    return Rates(outcomes[Outcome.REGRESSED] / trials, open_count / trials)


def _times(
    logs: Sequence[float], groups: Sequence[int], within: float
) -> list[LaunchTime]:
    """Launches of one build."""
    times = []
    for log, group in zip(logs, groups, strict=True):
        times.append(LaunchTime(BATCH_MS * math.exp(log), within, float(group)))
    return times


def table(trials: int = TRIALS) -> Iterator[str]:
    """A row for each number of launches and scatter, in Markdown; all in %."""
    heads = ["launches a side", "launches vary by", "unchanged: red"]
    heads += [f"a run of {GATES}", "open"]
    heads += [f"{100 * loss:.0f} % caught" for loss in LOSSES]
    yield f"| {' | '.join(heads)} |"
    yield f"|{'--:|' * len(heads)}"
    rng = np.random.default_rng(SEED)
    for launches in LAUNCHES:
        for scatter in SCATTERS:
            unchanged = rates(rng, launches, scatter, 0.0, trials=trials)
            run_red = 1 - (1 - unchanged.red) ** GATES
            name = " + ".join(map(str, launches))
            cells = [name, f"{100 * scatter:.1f}"]
            cells += [f"{100 * unchanged.red:.2f}", f"{100 * run_red:.2f}"]
            cells.append(f"{100 * unchanged.open:.1f}")
            for loss in LOSSES:
                lost = rates(rng, launches, scatter, loss, trials=trials)
                cells.append(f"{100 * lost.red:.1f}")
            yield f"| {' | '.join(cells)} |"


def recorded_scatter(run_dirs: Sequence[Path]) -> dict[str, tuple[float, int]]:
    """Case -> by how much launches of one build varied (CV), and degrees of freedom.

    Those that were alive at once are compared with each other alone.
    """
    squares: dict[str, float] = defaultdict(float)
    freedom: Counter[str] = Counter()
    for folder in run_dirs:
        results = schema.load(folder)
        index = RunIndex(results)
        for case in results.cases:
            if not case.is_duel:
                continue
            for side in (case.base, case.candidate):
                for logs in _groups(index, side):
                    squares[case.id] += float(np.var(logs)) * len(logs)
                    freedom[case.id] += len(logs) - 1
    return {
        case: (math.sqrt(squares[case] / freedom[case]), freedom[case])
        for case in sorted(squares)
        if freedom[case]
    }


def _groups(index: RunIndex, side: Case) -> Iterable[list[float]]:
    """Logarithms of the launches of one build, by the groups that were alive at once."""
    (load,) = side.loads
    group_of = {}
    for row in index.valid_measurements(load.server.key, load.workload_name):
        group_of[row.launch] = row.repetitions[0].client_values.get(GROUP, 0.0)
    groups: dict[float, list[float]] = defaultdict(list)
    for sample in index.samples(side):
        if sample.value is not None:
            group = group_of[sample.launch]
            groups[group].append(math.log(sample.value))
    return groups.values()


def scatter_table(run_dirs: Sequence[Path]) -> Iterator[str]:
    """A row for each case, and one for all of them."""
    yield "| case | launches vary by, % | degrees of freedom |"
    yield "|---|--:|--:|"
    squares = total = 0.0
    for case, (cv, freedom) in recorded_scatter(run_dirs).items():
        yield f"| {case} | {100 * cv:.2f} | {freedom} |"
        squares += cv**2 * freedom
        total += freedom
    if total:
        yield f"| all | {100 * math.sqrt(squares / total):.2f} | {total:.0f} |"


def main(arguments: Sequence[str] | None = None) -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="*", type=Path)
    parser.add_argument("--trials", type=int, default=TRIALS)
    given = parser.parse_args(arguments)
    if given.runs:
        print("\n".join(scatter_table(given.runs)), end="\n\n")
    print("\n".join(table(given.trials)))


if __name__ == "__main__":
    main()
