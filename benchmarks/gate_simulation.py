"""Error rates of the gate: false alarms and power, simulated.

    python -m benchmarks.gate_simulation               # tables of docs/error-rates.md: a minute
    python -m benchmarks.gate_simulation --scale 0.02  # seconds, coarse
    python -m benchmarks.gate_simulation --noise FILE  # by `benchmarks.noise --json FILE`

Seeded: the same version of numpy prints the same tables. `benchmarks.gate_rules` has
the noise and the rules, `benchmarks.pair_rules` those of pairs.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np

from benchmarks import noise
from benchmarks.gate_rules import (
    CLASSES,
    GATES,
    H200,
    TYPICAL,
    Array,
    Machine,
    Setup,
    Stalls,
    baseline,
    gate_rate,
    mann_whitney_red,
    measured_machine,
    more_rate,
    rate,
    retry_red,
    run_rate,
    session,
    threshold_red,
    thresholds,
)
from benchmarks.pair_rules import pairs_rate, pairs_report_only_rate

SEED = 20260412
LOSSES = (0.0, 0.02, 0.03, 0.05, 0.10)
# Launches of a baseline as (sessions, launches of each): the fewest that are allowed,
# then one launch a session.
LAYOUTS = ((3, 2), (6, 1), (10, 1), (20, 1), (30, 1))


@dataclass(frozen=True)
class Machines:
    """Whose noise is simulated.

    Attributes:
        measured: metrics whose noise was measured. classes: machines of which it is
            assumed, the quiet one first.
    """

    measured: tuple[Machine, ...] = H200
    classes: tuple[Machine, ...] = CLASSES


ASSUMED = Machines()
Table = Callable[[np.random.Generator, float, Machines], list[str]]


def from_noise(path: Path) -> Machines:
    """Machines of a measured noise; their medians replace the assumed quiet one.

    Raises:
        NoNoise: the file cannot be read, or no metric of it was measured on two
            launches.
    """
    rows = [row for row in noise.read(path).rows if row.launch_cv is not None]
    if not rows:
        raise noise.NoNoise(
            tried=f"simulating the noise in {path}",
            seen="no metric of it was measured on two launches",
            remedy="measure more launches",
        )
    measured = tuple(
        measured_machine(
            f"{row.hardware} {row.name}",
            row.launch_cv or 0.0,
            row.repetition_cv or 0.0,
            row.repetitions,
        )
        for row in rows
    )
    middle = {
        part: float(np.median([getattr(machine, part) for machine in measured]))
        for part in ("machine", "launch", "repetition")
    }
    repetitions = round(
        np.median([machine.repetitions for machine in measured])
    )
    return Machines(
        measured,
        (
            Machine("measured, medians", **middle, repetitions=repetitions),
            *CLASSES[1:],
        ),
    )


def percent(share: float) -> str:
    """Three digits where they matter: false alarms are rare."""
    return f"{100 * share:.3f}" if share < 0.005 else f"{100 * share:.1f}"


def row(cells: Iterable[object]) -> str:
    """One line of a Markdown table."""
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def header(*names: str) -> list[str]:
    """The head of a Markdown table: the names, then a column for each loss."""
    cells = [
        *names,
        "false alarms",
        *(f"{loss:.0%} lost" for loss in LOSSES[1:]),
    ]
    return [row(cells), row("---" for _ in cells)]


def runs_for(loss: float, scale: float, unchanged: int = 200_000) -> int:
    """More draws for rare false alarms than for power."""
    return max(1000, int((unchanged if loss == 0 else 20_000) * scale))


def of_sessions(layout: tuple[int, int]) -> str:
    """Launches of sessions: "6 of 3"."""
    return f"{layout[0] * layout[1]} of {layout[0]}"


def this_gate(
    rng: np.random.Generator, scale: float, machines: Machines
) -> list[str]:
    """False alarms and power in %, by baseline; unchanged code launched again."""
    out = header(
        "machine",
        "launches of sessions",
        "median target effect",
        "launched again",
    )
    for machine in (*machines.measured, *machines.classes):
        for layout in LAYOUTS:
            setup = Setup(machine, layout)
            limits = thresholds(baseline(rng, setup, 4000), setup)
            target_effect = np.median(limits.target_effect)
            shares = (
                gate_rate(rng, setup, loss, runs_for(loss, scale))
                for loss in LOSSES
            )
            again = percent(more_rate(rng, setup, runs_for(0, scale, 40_000)))
            out.append(
                row(
                    [
                        machine.name,
                        of_sessions(layout),
                        f"{100 * target_effect:.1f} %",
                        again,
                        *map(percent, shares),
                    ]
                )
            )
    return out


def other_rules(
    rng: np.random.Generator, scale: float, machines: Machines
) -> list[str]:
    """The rules that others use, by 10 launches of 10 sessions; pairs without baseline."""
    out = header("machine", "rule")
    for machine in machines.classes:
        for name, rule in _rules(rng, machine, scale).items():
            out.append(
                row(
                    [
                        machine.name,
                        name,
                        *(percent(rule(loss)) for loss in LOSSES),
                    ]
                )
            )
    for machine in machines.measured:
        for name, share in (
            ("failed", pairs_rate),
            ("report-only", pairs_report_only_rate),
        ):
            shares = [
                share(rng, machine, loss, 0.02, runs_for(loss, scale))
                for loss in LOSSES
            ]
            out.append(
                row(
                    [
                        machine.name,
                        f"A/B, 3 pairs, target effect 2 %: {name}",
                        *map(percent, shares),
                    ]
                )
            )
    return out


def _rules(
    rng: np.random.Generator, machine: Machine, scale: float
) -> dict[str, Callable[[float], float]]:
    """Share of failed runs by true loss, for each rule."""

    def recorded(size: int) -> Array:
        return baseline(rng, Setup(machine, (10, 1)), size)

    def runs(loss: float) -> int:
        return runs_for(loss, scale, 100_000)

    def threshold(limit: float) -> Callable[[float], float]:
        def draw(loss: float, size: int) -> Array:
            return threshold_red(
                session(rng, machine, size, 1) + np.log1p(-loss),
                recorded(size),
                limit,
            )

        return lambda loss: rate(lambda size: draw(loss, size), runs(loss))

    return {
        "threshold 5 %, one launch": threshold(0.05),
        "threshold 3 %, one launch": threshold(0.03),
        "threshold 5 %, retried until it passes (3 times)": lambda loss: rate(
            lambda size: retry_red(rng, machine, recorded(size), loss, 0.05),
            runs(loss),
        ),
        "Mann-Whitney p < 0.01 on repetitions, loss above 2 %": lambda loss: (
            rate(
                lambda size: mann_whitney_red(rng, machine, size, loss, 10),
                runs(loss) // 2,
            )
        ),
        "this gate with the normal quantile, 6 of 6": lambda loss: gate_rate(
            rng, Setup(machine, (6, 1), quantile=3.09), loss, runs(loss)
        ),
        "A/B, 3 pairs, target effect 5 %": lambda loss: pairs_rate(
            rng, machine, loss, 0.05, runs(loss)
        ),
        "A/B, 3 pairs, target effect 5 %: report-only": lambda loss: (
            pairs_report_only_rate(rng, machine, loss, 0.05, runs(loss))
        ),
    }


def whole_runs(
    rng: np.random.Generator, scale: float, machines: Machines
) -> list[str]:
    """Failed runs of 1,000 unchanged ones: 72 gates, one machine, 3 servers."""
    cells = [
        "machine",
        "launches of sessions",
        "failed runs of 1,000",
        "if independent",
    ]
    out = [row(cells), row("---" for _ in cells)]
    for machine in (machines.measured[0], *machines.classes):
        for layout in LAYOUTS[1:]:
            shared = run_rate(
                rng, Setup(machine, layout), max(500, int(30_000 * scale))
            )
            one = gate_rate(
                rng, Setup(machine, layout), 0.0, runs_for(0, scale)
            )
            independent = 1 - (1 - one) ** GATES
            out.append(
                row(
                    [
                        machine.name,
                        of_sessions(layout),
                        f"{1000 * shared:.1f}",
                        f"{1000 * independent:.1f}",
                    ]
                )
            )
    return out


def stalled(
    rng: np.random.Generator, scale: float, machines: Machines
) -> list[str]:
    """Throughput when half the repetitions stall (9 % lost), as Mixtral's on an H200."""
    out = header("machine", "stalls", "median target effect")
    for machine in (machines.measured[0], TYPICAL):
        for name, stalls in (
            ("none", None),
            ("unseen", Stalls(0.5, 0.09, 3, named=False)),
            ("named, 5 repetitions at most", Stalls(0.5, 0.09, 5, named=True)),
            ("named, 9 repetitions at most", Stalls(0.5, 0.09, 9, named=True)),
            ("rare (5 %), unseen", Stalls(0.05, 0.09, 3, named=False)),
            ("rare (5 %), named, 5 at most", Stalls(0.05, 0.09, 5, named=True)),
        ):
            setup = Setup(machine, (10, 1), stalls)
            limits = thresholds(baseline(rng, setup, 4000), setup)
            target_effect = np.nanmedian(limits.target_effect)
            shares = (
                gate_rate(rng, setup, loss, runs_for(loss, scale, 100_000))
                for loss in LOSSES
            )
            out.append(
                row(
                    [
                        machine.name,
                        name,
                        f"{100 * target_effect:.1f} %",
                        *map(percent, shares),
                    ]
                )
            )
    return out


TABLES: tuple[Table, ...] = (this_gate, other_rules, whole_runs, stalled)


def main(scale: float, machines: Machines = ASSUMED) -> None:
    """Print every table."""
    began = time.process_time()
    for parts in (*machines.classes, *machines.measured):
        noise = (
            f"{parts.machine:.2%} machine, {parts.launch:.2%} launch, "
            f"{parts.repetition:.2%} repetition"
        )
        click.echo(f"{parts.name}: {noise}")
    # Each is seeded by itself, so that one more row in a table moves no other.
    for number, table in enumerate(TABLES):
        rows = table(np.random.default_rng([SEED, number]), scale, machines)
        click.echo(f"\n{table.__doc__}\n\n" + "\n".join(rows))
    click.echo(f"\n{time.process_time() - began:.0f} s of one core")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--scale", type=float, default=1.0, help="share of the draws"
    )
    parser.add_argument(
        "--noise",
        type=Path,
        metavar="FILE",
        help="measured, in place of the assumed quiet machine",
    )
    options = parser.parse_args()
    main(
        options.scale,
        ASSUMED if options.noise is None else from_noise(options.noise),
    )
