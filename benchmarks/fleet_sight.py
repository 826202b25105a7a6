"""How small a loss a fleet of many machines sees, by simulation with recorded noise.

    python -m benchmarks.fleet_sight                # the tables of docs/fleet.md: a minute
    python -m benchmarks.fleet_sight --trials 200   # seconds, coarse

Machines of one kind differ, and so do launches of one of them: by what the store learned
of the metric. Each fleet is judged by the code that judges a real one
(`perfgate.fleet.change`, `perfgate.fleet.outliers`), with a target effect of 1 %. Once its
machines have three recorded launches each, once other machines have. Seeded.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np

from benchmarks.fleet_simulation import BASELINES, BETWEEN, METRIC, subject_in
from benchmarks.gate_simulation import percent, row
from benchmarks.gate_trials import Subject
from perfgate.fleet import change, outliers
from perfgate.fleet.change import Change, Prior
from perfgate.judge.verdict import Outcome

SEED = 20261129
FLEETS = (2, 3, 5, 8, 16, 32, 64, 200)
RECORDED = 3  # launches of each machine in the baseline
TARGET = 0.01
ROWS = 100  # that are judged in a run, and share its false alarms
SICK = 0.10  # what a sick GPU loses


def prior_of(subject: Subject) -> Prior:
    """The noise of the store.

    Raises:
        ValueError: the store knows nothing of the metric.
    """
    group = subject.group
    if group is None:
        raise ValueError(f"no noise is known of {subject.case.metric}")
    between = group.machines or BETWEEN
    return Prior(group.launches.cv, between.cv)


def drawn(
    rng: np.random.Generator,
    prior: Prior,
    machines: int,
    loss: float,
    own: bool,
) -> Change:
    """The change that a fleet of so many machines shows after a true loss (log)."""
    places = rng.normal(0.0, prior.machines_cv, machines)
    now = {}
    before = {}
    for number, place in enumerate(places):
        launch = place + loss + rng.normal(0.0, prior.launches_cv)
        now[f"m{number}"] = [launch]
        recorded = place
        name = f"m{number}"
        if not own:
            recorded = rng.normal(0.0, prior.machines_cv)
            name = f"other-{number}"
        noise = rng.normal(0.0, prior.launches_cv, RECORDED)
        before[name] = [float(recorded + e) for e in noise]
    return change.compare(now, before, prior, ROWS)


def red_rate(
    prior: Prior, machines: int, loss: float, own: bool, trials: int
) -> float:
    """Share of fleets whose row is REGRESSED at this true loss."""
    rng = np.random.default_rng([SEED, machines, own])
    red = 0
    for _ in range(trials):
        found = drawn(rng, prior, machines, math.log1p(loss), own)
        outcome = found.outcome(math.log1p(TARGET))
        red += outcome is Outcome.REGRESSED
    return red / trials


def sight(prior: Prior, machines: int, own: bool, trials: int) -> float:
    """The smallest loss that is excluded where there is none, as a mean."""
    rng = np.random.default_rng([SEED, machines, own, 1])
    excluded = [
        drawn(rng, prior, machines, 0.0, own).excluded for _ in range(trials)
    ]
    return math.expm1(float(np.mean(excluded)))


def sight_table(prior: Prior, trials: int) -> Iterator[str]:
    """Markdown: false alarms, 1 % and 2 % seen, and what is excluded, in %."""
    cells = ["machines"]
    for name in ("own past", "others' past"):
        cells += [f"{name}: false alarms", "1 % lost", "2 % lost", "excluded"]
    yield row(cells)
    yield row("--:" for _ in cells)
    for machines in FLEETS:
        shares = []
        for own in (True, False):
            for loss in (0.0, 0.01, 0.02):
                shares.append(red_rate(prior, machines, loss, own, trials))
            shares.append(sight(prior, machines, own, max(50, trials // 10)))
        yield row([machines, *map(percent, shares)])


def named_rates(
    prior: Prior, machines: int, trials: int
) -> tuple[float, float, float]:
    """Fleets with a healthy machine named; sick ones named; healthy named beside one."""
    rng = np.random.default_rng([SEED, machines, 2])
    healthy = sick = beside = 0
    scale = math.hypot(prior.machines_cv, prior.launches_cv)
    for _ in range(trials):
        places = rng.normal(0.0, scale, machines)
        healthy += bool(_named(places))
        places[0] += math.log1p(SICK)
        names = _named(places)
        sick += "m0" in names
        beside += bool(names - {"m0"})
    return healthy / trials, sick / trials, beside / trials


def _named(places: np.ndarray) -> set[str]:
    losses = {f"m{n}": float(place) for n, place in enumerate(places)}
    return {found.machine for found in outliers.find({"row": losses})}


def outlier_table(prior: Prior, trials: int) -> Iterator[str]:
    """Markdown: how often machines are named, in %."""
    yield row(
        [
            "machines",
            "all healthy: one named",
            f"one {SICK:.0%} slower: it is named",
            "another one is named",
        ]
    )
    yield row(["--:"] * 4)
    for machines in FLEETS[1:]:
        few = max(50, min(trials, 20_000 // machines))
        yield row([machines, *map(percent, named_rates(prior, machines, few))])


@click.command()
@METRIC
@BASELINES
@click.option("--trials", default=1000, show_default=True)
def main(metric: str, baselines: Path, trials: int) -> None:
    """Show how small a loss a fleet sees, and how often it names a machine."""
    prior = prior_of(subject_in(baselines, metric))
    click.echo(
        f"{metric}: launches {prior.launches_cv:.2%}, machines {prior.machines_cv:.2%}\n"
    )
    for text in sight_table(prior, trials):
        click.echo(text)
    click.echo()
    for text in outlier_table(prior, trials):
        click.echo(text)


if __name__ == "__main__":
    main()
