"""Error rates of the gate where several machines of one kind share a baseline.

    python -m benchmarks.fleet_simulation  # the table of docs/error-rates.md: seconds
    python -m benchmarks.fleet_simulation --between 0.02  # machines that differ by 2 %
    python -m benchmarks.fleet_simulation --uneven 0.5    # whose launches vary unequally

Machines of one kind differ, and so do launches of one of them. A run on one of them is
compared with what the others recorded, or with launches of its own, whose variation
the others lend (`perfgate.judge.machine_scope`). For comparison it is also judged by
all launches alike, as if there were no machines. `benchmarks.gate_rules` has the rule;
a test compares it with `perfgate.judge.gate.judge`. Seeded.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import click
import numpy as np

from benchmarks.gate_rules import Array, gate_red, thresholds_of
from benchmarks.gate_simulation import percent, row
from perfgate.judge.noise import (
    DECISION_LAUNCHES,
    ESTABLISHED_DEGREES_OF_FREEDOM,
    ESTABLISHED_LAUNCHES,
    PRIOR_LAUNCHES,
)
from perfgate.judge.policy import GPU_RATE

SEED = 20261125
LOSSES = (0.0, 0.02, 0.03, 0.05, 0.10)
# of every other machine, each of a run of its own: enough for one of them to lend all
# that is taken
LAUNCHES_EACH = 6


@dataclass(frozen=True)
class Fleet:
    """Variation of a fleet.

    Attributes:
        between: standard deviation (log) of machines. launch: of launches of one.
        uneven: of the logarithm of `launch`, by machine.
    """

    between: float
    launch: float
    uneven: float = 0.0


def red(now: Array, recorded: Array, lent: Array | None = None) -> Array:
    """Where the gate fails: shape (draws).

    Args:
        now: launches of this run, logarithms: shape (draws, 3). The first decides alone
            where it passes fast.
        recorded: what it is compared with, logarithms, each of a run of its own: shape
            (draws, points).
        lent: variance of launches by other machines: shape (draws).
    """
    points = recorded.shape[1]
    variance = (
        recorded.var(axis=1, ddof=1) if points > 1 else np.zeros(len(recorded))
    )
    freedom, target_effect = float(points - 1), None
    if lent is not None:
        variance = (
            freedom * variance + ESTABLISHED_DEGREES_OF_FREEDOM * lent
        ) / (freedom + ESTABLISHED_DEGREES_OF_FREEDOM)
        freedom += ESTABLISHED_DEGREES_OF_FREEDOM
    elif points < ESTABLISHED_LAUNCHES:
        freedom += PRIOR_LAUNCHES
        variance = (
            (points - 1) * variance + PRIOR_LAUNCHES * GPU_RATE.assumed_cv**2
        ) / freedom
        target_effect = GPU_RATE.until_established
    return gate_red(
        now,
        thresholds_of(
            recorded.mean(axis=1),
            np.sqrt(variance),
            points,
            freedom,
            target_effect=target_effect,
        ),
    )


@dataclass(frozen=True)
class Draws:
    """Logarithms of launches.

    Attributes:
        others: of every other machine: shape (draws, machines, LAUNCHES_EACH).
        own: recorded on the machine at hand: shape (draws, launches).
        now: of the run that is judged, unchanged: shape (draws, 3).
    """

    others: Array
    own: Array
    now: Array

    @property
    def alike(self) -> Array:
        """All recorded launches, as if there were no machines: shape (draws, launches)."""
        return np.concatenate(
            [self.others.reshape(len(self.others), -1), self.own], axis=1
        )

    @property
    def by_machine(self) -> tuple[Array, Array | None]:
        """What the run is compared with, and the variance that others lend.

        The machine's own launches, or each machine's mean where it has none.
        """
        if not self.own.shape[1]:
            return self.others.mean(axis=2), None
        return self.own, self.others.var(axis=2, ddof=1).mean(axis=1)


def drawn(
    rng: np.random.Generator, fleet: Fleet, others: int, own: int, draws: int
) -> Draws:
    """Launches of a machine and of so many others."""
    here, elsewhere = (
        rng.normal(0, fleet.between, (draws, 1)),
        rng.normal(0, fleet.between, (draws, others, 1)),
    )
    launch, theirs = (
        fleet.launch * np.exp(rng.normal(0, fleet.uneven, at.shape))
        for at in (here, elsewhere)
    )
    return Draws(
        others=elsewhere
        + theirs * rng.normal(0, 1, (draws, others, LAUNCHES_EACH)),
        own=here + launch * rng.normal(0, 1, (draws, own)),
        now=here + launch * rng.normal(0, 1, (draws, DECISION_LAUNCHES)),
    )


def table(fleet: Fleet, draws: int) -> Iterator[str]:
    """Markdown: failed runs in %, by other machines and own launches."""
    losses = [f"{loss:.0%} lost" for loss in LOSSES[1:]]
    cells = [
        "other machines",
        "own launches",
        "false alarms",
        *losses,
        "alike: false alarms",
        *losses,
    ]
    yield row(cells)
    yield row("--:" for _ in cells)
    rng = np.random.default_rng(SEED)
    for others, own in (
        (1, 0),
        (2, 0),
        (3, 0),
        (5, 0),
        (10, 0),
        (1, 1),
        (3, 1),
        (3, 2),
        (3, 3),
        (3, 6),
        (3, 10),
    ):
        one = drawn(rng, fleet, others, own, draws)
        parts = [
            red(one.now + np.log1p(-loss), *held)
            for held in (one.by_machine, (one.alike,))
            for loss in LOSSES
        ]
        yield row(
            [others, own, *(percent(float(part.mean())) for part in parts)]
        )


@click.command()
@click.option(
    "--between",
    default=0.012,
    show_default=True,
    help="How much machines differ (CV); H200: 0.007 to 0.019.",
)
@click.option(
    "--launch",
    default=0.003,
    show_default=True,
    help="How much launches of one machine differ (CV).",
)
@click.option(
    "--uneven",
    default=0.0,
    show_default=True,
    help="How much the logarithm of that differs from machine to machine.",
)
@click.option(
    "--draws",
    default=200_000,
    show_default=True,
    help="Simulated runs for each row.",
)
def main(between: float, launch: float, uneven: float, draws: int) -> None:
    """Show how often a run fails on a machine of a fleet that shares a baseline.

    In %, unchanged and with losses.
    """
    click.echo("\n".join(table(Fleet(between, launch, uneven), draws)))


if __name__ == "__main__":
    main()
