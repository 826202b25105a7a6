"""Duel simulation: false alarms and power of two builds in turns, by the gate's own code.

Launches are drawn, `perfgate.judge.duel.Duel` decides. With runs it reads first by how
much launches of one build varied in them.

    python -m benchmarks.duel_simulation [RUN ...]
"""

from __future__ import annotations

import argparse
import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from perfgate.judge.duel import Duel
from perfgate.judge.policy import BATCH
from perfgate.judge.verdict import Outcome
from perfgate.load.turns import LaunchTime
from perfgate.results import schema
from perfgate.results.samples import RunIndex

SEED = 20261128
TRIALS = 20_000
LAUNCHES = (2, 3, 4)
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
    launches: int,
    scatter: float,
    loss: float,
    within: float = WITHIN,
    trials: int = TRIALS,
) -> Rates:
    """How duels end.

    Args:
        launches: of each build.
        scatter: standard deviation of the logarithm of one launch's true time.
        loss: true loss, as a fraction.
        within: standard error of a launch by its cycles, which it knows.
    """
    error = math.hypot(scatter, within)
    drawn = rng.normal(0.0, error, (trials, 2, launches))
    drawn[:, 1, :] += math.log1p(loss)
    outcomes: Counter[Outcome] = Counter()
    for base, candidate in drawn:
        duel = Duel(
            [LaunchTime(BATCH_MS * math.exp(x), within) for x in base],
            [LaunchTime(BATCH_MS * math.exp(x), within) for x in candidate],
            BATCH,
            BATCH.paired,
        )
        outcomes[duel.outcome()] += 1
    open_count = outcomes[Outcome.INCONCLUSIVE] + outcomes[Outcome.NOT_EXCLUDED]
    return Rates(outcomes[Outcome.REGRESSED] / trials, open_count / trials)


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
            cells = [str(launches), f"{100 * scatter:.1f}"]
            cells += [f"{100 * unchanged.red:.2f}", f"{100 * run_red:.2f}"]
            cells.append(f"{100 * unchanged.open:.1f}")
            for loss in LOSSES:
                lost = rates(rng, launches, scatter, loss, trials=trials)
                cells.append(f"{100 * lost.red:.1f}")
            yield f"| {' | '.join(cells)} |"


def recorded_scatter(run_dirs: Sequence[Path]) -> dict[str, tuple[float, int]]:
    """Case -> by how much launches of one build varied (CV), and degrees of freedom."""
    squares: dict[str, float] = defaultdict(float)
    freedom: Counter[str] = Counter()
    for folder in run_dirs:
        results = schema.load(folder)
        index = RunIndex(results)
        for case in results.cases:
            if not case.is_duel:
                continue
            for side in (case.base, case.candidate):
                logs = [
                    math.log(sample.value)
                    for sample in index.samples(side)
                    if sample.value is not None
                ]
                if len(logs) > 1:
                    squares[case.id] += float(np.var(logs)) * len(logs)
                    freedom[case.id] += len(logs) - 1
    return {
        case: (math.sqrt(squares[case] / freedom[case]), freedom[case])
        for case in sorted(squares)
    }


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
