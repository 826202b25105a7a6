"""Error rates of the gate where several machines of one kind share a baseline.

    python -m benchmarks.fleet_simulation               # the table of docs/error-rates.md: a minute
    python -m benchmarks.fleet_simulation --metric itl_median_ms
    python -m benchmarks.fleet_simulation --trials 200  # seconds, coarse

Machines of one kind differ, and so do launches of one of them: by what the store learned
of the metric. A run on one of them is judged by the gate's own code
(`benchmarks.gate_trials`): compared with launches of its own, whose variation the others
lend, or with what the others recorded (`perfgate.judge.machine_scope`). For comparison
all launches are judged alike, as if there were no machines. Seeded.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np

from benchmarks import noise
from benchmarks.gate_simulation import percent, row, subject_of
from benchmarks.gate_trials import HERE, Result, Subject, decide, rates
from benchmarks.simulated_launches import Array, sigmas
from perfgate.judge import noise_table
from perfgate.judge.noise import DECISION_LAUNCHES, log_loss
from perfgate.judge.noise_table import GroupNoise, Spread
from perfgate.judge.sessions import MACHINE_SHARE
from perfgate.results.samples import Sample

SEED = 20261125
LOSSES = (0.0, 0.02, 0.03, 0.05, 0.10)
# Of every other machine, each of a run of its own: enough for one of them to lend all
# that is taken.
LAUNCHES_EACH = 6
# Where the store knows no machines: five H200 differed by 0.7 to 1.9 %.
BETWEEN = Spread(cv=0.012, degrees_of_freedom=4.0)
METRIC = click.option(
    "--metric", default="output_throughput", show_default=True
)
BASELINES = click.option(
    "--baselines",
    type=click.Path(path_type=Path, exists=True),
    default=Path("baselines"),
    show_default=True,
)
# (other machines, launches of the machine of the run)
FLEETS = ((1, 0), (3, 0), (10, 0), (0, 1), (1, 1), (3, 1), (3, 3), (3, 6))


@dataclass(frozen=True)
class Fleet:
    """Losses (log) of one trial: what is recorded, and a run of unchanged code.

    Attributes:
        others: of every other machine: shape (machines, LAUNCHES_EACH).
        own: recorded on the machine of the run.
        current: of the run: shape (DECISION_LAUNCHES,).
    """

    others: Array
    own: Array
    current: Array

    def recorded(self, subject: Subject) -> tuple[list[Sample], dict[str, str]]:
        """Recorded launches, a run each, and the machine of each run."""
        launches: list[Sample] = []
        machines: dict[str, str] = {}
        for number, losses in enumerate([self.own, *self.others]):
            machine = HERE
            if number:
                machine = f"gpu-{number}"
            for launch, loss in enumerate(losses):
                run = f"{machine}-{launch}"
                machines[run] = machine
                launches.append(subject.sample(run, 0, float(loss)))
        return launches, machines


def drawn(
    rng: np.random.Generator, group: GroupNoise, others: int, own: int
) -> Fleet:
    """Launches of a machine and of so many others, by the noise of a group.

    How much machines differ is drawn, and how much the launches of each of them do.
    """
    between = group.machines or BETWEEN
    levels = sigmas(rng, between, (1,)) * rng.normal(0, 1, 1 + others)
    sigma = sigmas(rng, group.launches, (1 + others,))
    noise_elsewhere = rng.normal(0, 1, (others, LAUNCHES_EACH))
    elsewhere = levels[1:, None] + sigma[1:, None] * noise_elsewhere
    here = levels[0] + sigma[0] * rng.normal(0, 1, own)
    shared = rng.normal(0, np.sqrt(MACHINE_SHARE))
    launches = rng.normal(0, np.sqrt(1 - MACHINE_SHARE), DECISION_LAUNCHES)
    return Fleet(elsewhere, here, levels[0] + sigma[0] * (shared + launches))


def result(
    subject: Subject, fleet: Fleet, loss: float, by_machine: bool = True
) -> Result:
    """How the gate judges the run at this true loss (log).

    Args:
        by_machine: whether it is known which launch is of which machine.
    """
    launches, machines = fleet.recorded(subject)
    known: Mapping[str, str] = {}
    if by_machine:
        known = machines
    baseline = subject.baseline(launches, known)
    current = []
    for launch, value in enumerate(fleet.current + loss):
        current.append(subject.sample("now", launch, float(value)))
    return decide(subject, baseline, current)


def red_rate(
    subject: Subject,
    others: int,
    own: int,
    loss: float,
    trials: int,
    by_machine: bool = True,
) -> float:
    """Share of runs that fail at this true loss, as fractions.

    Raises:
        ValueError: the store knows nothing of the subject's noise.
    """
    if subject.group is None:
        raise ValueError(f"no noise is known of {subject.case.metric}")
    rng = np.random.default_rng([SEED, others, own])
    shift = log_loss(loss, subject.higher)
    results = []
    for _ in range(trials):
        fleet = drawn(rng, subject.group, others, own)
        results.append(result(subject, fleet, shift, by_machine))
    return rates(results).red


def table(subject: Subject, trials: int) -> Iterator[str]:
    """Markdown: failed runs in %, by other machines and own launches."""
    losses = [f"{loss:.0%} lost" for loss in LOSSES[1:]]
    cells = ["other machines", "own launches", "false alarms", *losses]
    cells += ["alike: false alarms", "alike: 5 % lost"]
    yield row(cells)
    yield row("--:" for _ in cells)
    for others, own in FLEETS:
        shares = []
        for loss in LOSSES:
            shares.append(red_rate(subject, others, own, loss, trials))
        for loss in (0.0, 0.05):
            shares.append(red_rate(subject, others, own, loss, trials, False))
        yield row([others, own, *map(percent, shares)])


def subject_in(baselines: Path, metric: str) -> Subject:
    """The metric under closed-loop load on one GPU, with the noise of the store.

    Raises:
        NoNoise: the store knows nothing of it.
    """
    learned = noise_table.read(baselines / noise_table.FILE)
    group = None
    if learned is not None:
        group = learned.find("one-gpu", metric, "closed")
    if group is None:
        raise noise.NoNoise(
            tried=f"simulating a fleet by {baselines / noise_table.FILE}",
            seen=f"it knows nothing of {metric}",
            remedy="make it: `perfgate noise --update`",
        )
    return dataclasses.replace(subject_of(metric), group=group)


@click.command()
@METRIC
@BASELINES
@click.option(
    "--trials",
    default=3000,
    show_default=True,
    help="Simulated runs for each cell.",
)
def main(metric: str, baselines: Path, trials: int) -> None:
    """Show how often a run fails on a machine of a fleet that shares a baseline.

    In %, unchanged and with losses.
    """
    subject = subject_in(baselines, metric)
    click.echo(f"{metric}: {subject.group}\n")
    for text in table(subject, trials):
        click.echo(text)


if __name__ == "__main__":
    main()
