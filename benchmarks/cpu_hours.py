"""Rates and times of CPU servers from hour to hour: each stored launch judged by other hours.

    python -m benchmarks.cpu_hours

A baseline that was recorded within an hour does not show what the next hour brings. Each
launch is judged by the launches that began more than an hour before or after it.
"""

from __future__ import annotations

import datetime
import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from benchmarks.stored_launches import StoredMetric
from perfgate import formatting
from perfgate.judge.baseline_schema import read_recorded
from perfgate.judge.baseline_store import Store
from perfgate.judge.portable import ANY_CPU
from perfgate.judge.verdict import Decision, Outcome

ROOT = Path(__file__).resolve().parent.parent
RUN_TIME = "%Y%m%d-%H%M%S"
HOUR = datetime.timedelta(hours=1)


@dataclass(frozen=True)
class Judged:
    """One launch by those of other hours.

    Attributes:
        row: processor, servers, load and metric.
        share: of the threshold that its loss was; negative for a gain.
    """

    kind: str
    row: str
    share: float
    decision: Decision


@click.command()
@click.option(
    "--baselines", default=ROOT / "baselines", type=click.Path(path_type=Path)
)
def main(baselines: Path) -> None:
    """Print how many launches are red by those of other hours, and the largest loss."""
    click.echo(
        "| what is judged | launches | red | largest loss, of its threshold | of |"
    )
    click.echo("|---|--:|--:|--:|---|")
    by_kind: dict[str, list[Judged]] = defaultdict(list)
    for judged in every(baselines):
        by_kind[judged.kind].append(judged)
    for kind, rows in sorted(by_kind.items()):
        red = sum(row.decision.outcome is Outcome.REGRESSED for row in rows)
        largest = max(rows, key=lambda row: row.share)
        cells = (
            kind,
            str(len(rows)),
            str(red),
            formatting.percent(largest.share),
            largest.row,
        )
        click.echo(f"| {' | '.join(cells)} |")


def every(baselines: Path) -> Iterator[Judged]:
    """Each judged launch of a rate, a time or a ratio on a CPU."""
    store = Store(baselines)
    for path in sorted(baselines.glob("cpu-*/*/*.json")):
        if path.parent.parent.name == ANY_CPU:
            continue
        file = read_recorded(path)
        for name, metric in file.metrics.items():
            if metric.gate == "hard":
                yield from _judged(StoredMetric(store, path, file, name))


def _judged(row: StoredMetric) -> Iterator[Judged]:
    for sample in row.launches:
        others = [
            other
            for other in row.launches
            if abs(began(other.run) - began(sample.run)) > HOUR
        ]
        if not others:
            continue
        decision = row.decision(sample, others)
        place = row.path.parent.relative_to(row.path.parents[2])
        yield Judged(
            kind=_kind(row),
            row=f"{place}/{row.path.stem}/{row.name}",
            share=_share(decision),
            decision=decision,
        )


def began(run: str) -> datetime.datetime:
    """When a run began, which its id says."""
    day_and_time = "-".join(run.split("-")[:2])
    return datetime.datetime.strptime(day_and_time, RUN_TIME)


def _kind(row: StoredMetric) -> str:
    fields = row.file.identity
    if not row.is_ratio:
        return "rates and times of a server"
    if fields["numerator.engine"] != fields["denominator.engine"]:
        return "ratios of two engines"
    return "ratios of one engine"


def _share(decision: Decision) -> float:
    assert decision.worse_by is not None
    assert decision.threshold is not None
    return math.log1p(decision.worse_by) / math.log1p(decision.threshold)


if __name__ == "__main__":
    main()
