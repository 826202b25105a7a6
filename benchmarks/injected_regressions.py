"""Injected changes: which metrics catch them, and whether the right model is named.

    python -m benchmarks.injected_regressions runs/injected --baselines baselines

FOLDER holds run directories: unchanged/01, unchanged/02, ... and one folder for
each injected change (`--inject-arg`, `--inject-env`, `--inject-delay`), such as
eager/01. Every run is judged anew against the store, and none against launches
of its own: where an unchanged run is part of the baseline, it is
compared with the others. The first table has one row for each injected change, the
second how far each metric of each model moved under each workload: the median
over the launches vs the baseline. Of an injected run that was cut off, what it
had measured is shown.
"""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from benchmarks.run_folders import UNCHANGED, Kind, injected_servers, kinds
from perfgate import formatting
from perfgate.cases import Case
from perfgate.judge.baseline_store import Baseline, Recorded, Store
from perfgate.judge.gate import judge
from perfgate.judge.observation import RunReader
from perfgate.judge.verdict import Outcome, Verdict
from perfgate.load.metrics import METRICS
from perfgate.results.schema import RunResults

# What a gate says of a change; without a baseline it says nothing.
FOUND = frozenset(
    {
        Outcome.REGRESSED,
        Outcome.INVALID,
        Outcome.INCONCLUSIVE,
        Outcome.INCOMPARABLE,
    }
)


@dataclass(frozen=True)
class Judged:
    """One case of one run, decided anew.

    Attributes:
        moves: of each launch, value / baseline - 1.
        injected: whether something was injected in one of its servers.
        others: servers of the case that were not injected.
    """

    case: Case
    verdict: Verdict
    moves: tuple[float, ...]
    injected: bool
    others: tuple[str, ...]

    @property
    def found(self) -> bool:
        """Whether the gate said that something is wrong."""
        return self.verdict.gate == "hard" and self.verdict.outcome in FOUND

    @property
    def names_injected(self) -> bool:
        """Whether the message leads to an injected server.

        It is the only server, or the message says that it moved.
        """
        if not self.injected:
            return False
        if not self.others:
            return True
        return not self._blames_another()

    def _blames_another(self) -> bool:
        moved = self.verdict.moved
        if moved == "numerator":
            return self.case.numerator.server.key in self.others
        if moved == "denominator" and self.case.denominator is not None:
            return self.case.denominator.server.key in self.others
        return moved == "both"

    @property
    def word(self) -> str:
        """The outcome, and whether it names what the engine reports as the cause."""
        if not self.verdict.cause:
            return str(self.verdict.outcome)
        return f"{self.verdict.outcome} (names its cause)"


def judged(results: RunResults, store: Store) -> list[Judged]:
    """Every case of a run that was measured, compared with what other runs recorded."""
    reader, injected = RunReader(results), injected_servers(results)
    found = []
    for case in results.cases:
        seen = reader.observe(case)
        if not seen.samples:
            continue
        baseline = _of_others(
            store.find(case, seen.hardware_label), results.run_id
        )
        verdict = judge(case, seen, baseline)
        servers = {load.server.key for load in case.loads}
        reference = verdict.baseline if isinstance(baseline, Recorded) else None
        found.append(
            Judged(
                case=case,
                verdict=verdict,
                moves=tuple(value / reference - 1 for value in seen.values)
                if reference
                else (),
                injected=bool(servers & injected),
                others=tuple(sorted(servers - injected)),
            )
        )
    return found


def _of_others(baseline: Baseline | None, run_id: str) -> Baseline | None:
    """The baseline without the launches of that run; None where it has no others."""
    if not isinstance(baseline, Recorded):
        return baseline
    others = [
        point for point in baseline.metric.launches if point.run != run_id
    ]
    return baseline.with_launches(others) if others else None


def summary(
    every: Sequence[Kind], decided: Mapping[str, Sequence[Judged]]
) -> list[str]:
    """Markdown: each injected change, its verdicts, its servers, and the unchanged runs around."""
    lines = [
        (
            "| injected | runs | launches | gate: cases | red | names the right model "
            "| red without it | unchanged beside |"
        ),
        "|---|--:|--:|---|--:|---|--:|---|",
    ]
    calm = [
        results
        for kind in every
        if kind.name == UNCHANGED
        for results in kind.runs
    ]
    green = {
        results.run_id: not any(row.found for row in decided[results.run_id])
        for results in calm
    }
    for kind in every:
        rows = [decided[results.run_id] for results in kind.runs]
        found = [[row for row in mine if row.found] for mine in rows]
        counts = Counter(
            row.word
            for mine in rows
            for row in mine
            if row.verdict.gate == "hard"
        )
        said = ", ".join(
            f"{word} {count}" for word, count in counts.most_common()
        )
        launches = sum(len(results.launches) for results in kind.runs)
        cells = [
            kind.title,
            str(len(kind.runs)),
            str(launches),
            said or "nothing",
        ]
        cells.append(f"{sum(map(bool, found))} of {len(found)}")
        if kind.name == UNCHANGED:
            cells += ["-", str(sum(map(len, found))), _shown(green.values())]
        else:
            cells += [
                _named(found),
                str(sum(not row.injected for mine in found for row in mine)),
            ]
            cells.append(
                _shown(green[r.run_id] for r in _neighbours(kind.runs, calm))
            )
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _named(found: Sequence[Sequence[Judged]]) -> str:
    """Of the runs with findings, in how many every finding leads to an injected server."""
    red = [mine for mine in found if mine]
    if not red:
        return "nothing to name"
    right = sum(all(row.names_injected for row in mine) for mine in red)
    wrong = sorted(
        {row.case.id for mine in red for row in mine if not row.names_injected}
    )
    return (
        "yes"
        if right == len(red)
        else f"in {right} of {len(red)}; not by {', '.join(wrong)}"
    )


def _neighbours(
    runs: Sequence[RunResults], calm: Sequence[RunResults]
) -> list[RunResults]:
    """The unchanged runs directly before and after these runs, and between them."""
    begun, ended = (
        min(run.started for run in runs),
        max(run.started for run in runs),
    )
    before = [run for run in calm if run.started < begun]
    after = [run for run in calm if run.started > ended]
    between = [run for run in calm if begun <= run.started <= ended]
    last, first = (
        max(before, key=_start, default=None),
        min(after, key=_start, default=None),
    )
    return [run for run in (last, *between, first) if run is not None]


def _start(results: RunResults) -> str:
    return results.started


def _shown(green: Iterable[bool]) -> str:
    words = Counter("green" if one else "RED" for one in green)
    return (
        ", ".join(f"{count} {word}" for word, count in sorted(words.items()))
        or "none"
    )


def moves(
    kind: Kind, decided: Mapping[str, Sequence[Judged]], everything: bool
) -> Iterator[str]:
    """Markdown rows of one injected change: model, metric, how far it moved under each workload.

    Args:
        everything: metrics that are only reported too.
    """
    rows: dict[tuple[bool, str, str], dict[str, list[Judged]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for results in kind.runs:
        injected = injected_servers(results)
        for row in decided[results.run_id]:
            if row.case.denominator is None and (
                everything or row.verdict.gate == "hard"
            ):
                server = row.case.numerator.server.key
                rows[server not in injected, server, row.case.metric][
                    row.case.workload
                ].append(row)
    for (uninjected, server, metric), by_workload in sorted(rows.items()):
        texts = [
            f"{workload}: {_moved(mine, metric)}"
            for workload, mine in by_workload.items()
        ]
        name = (
            server
            if uninjected or kind.name == UNCHANGED
            else f"**{server}** (injected)"
        )
        yield f"| {kind.name} | {name} | {metric} | {'; '.join(texts)} |"


def _moved(rows: Sequence[Judged], metric: str) -> str:
    """Median over the launches, and what was decided how often."""
    changes = [change for row in rows for change in row.moves]
    change = "nothing to compare with"
    if changes:
        unit = METRICS[metric].unit
        change = formatting.change_in_words(statistics.median(changes), unit)
    loud = Counter(
        row.word for row in rows if row.verdict.outcome is not Outcome.PASSED
    )
    return ", ".join(
        [
            change,
            *(
                f"**{word}** {count} of {len(rows)}"
                for word, count in loud.most_common()
            ),
        ]
    )


def table(folder: Path, store: Store, everything: bool = False) -> str:
    """Both tables."""
    every = list(kinds(folder, cut_off=True))
    decided = {
        results.run_id: judged(results, store)
        for kind in every
        for results in kind.runs
    }
    lines = [
        *summary(every, decided),
        "",
        "| injected | server | metric | moved, median over launches |",
        "|---|---|---|---|",
    ]
    for kind in every:
        lines += moves(kind, decided, everything)
    return "\n".join(lines)


@click.command()
@click.argument(
    "folder", type=click.Path(path_type=Path, exists=True, file_okay=False)
)
@click.option(
    "--baselines",
    type=click.Path(path_type=Path),
    default=Path("baselines"),
    show_default=True,
)
@click.option(
    "--all",
    "everything",
    is_flag=True,
    help="Show metrics that are only reported too.",
)
def main(folder: Path, baselines: Path, everything: bool) -> None:
    """Show what the gate says of the injected changes under FOLDER."""
    click.echo(table(folder, Store(baselines), everything))


if __name__ == "__main__":
    main()
