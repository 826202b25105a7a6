"""Published figures of the study vs what one or two GPUs measured.

    python -m benchmarks.published_table runs/a runs/b

Every published figure of that kind of GPU is compared with the median of the launches
of these runs. Where a figure of two GPUs at tensor parallel size 2 was measured on one
alone, it is compared with the same question at size 1, and says so. Why a difference is
what it is stands in published_explanations.toml, by case; what has no entry is
unexplained.
"""

from __future__ import annotations

import fnmatch
import statistics
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from perfgate import formatting as wording
from perfgate.cases import RATIO_SEPARATOR, Case, Load
from perfgate.errors import Failure
from perfgate.judge.baseline_schema import PublishedFigure, read_published
from perfgate.judge.baseline_store import PUBLISHED
from perfgate.judge.observation import RunReader
from perfgate.load.metrics import METRICS
from perfgate.results import schema as rundata
from perfgate.results.schema import RunResults

EXPLANATIONS = Path(__file__).with_name("published_explanations.toml")
UNEXPLAINED = "unexplained"


class NotOneKind(Failure):
    """Runs that cannot be compared with one set of figures."""


@dataclass(frozen=True)
class Line:
    """One published figure and what was measured.

    Attributes:
        gpus: of the published figure.
        launches: values that the median is of; 0 where the runs did not measure it.
        stands_in: whether a figure of two GPUs was measured on one.
    """

    subject: str
    workload: str
    metric: str
    gpus: int
    figure: PublishedFigure
    measured: float | None
    launches: int
    stands_in: bool

    def case_id(self, kind: str) -> str:
        """The figure's own name: "h200x2/SUBJECT/WORKLOAD/METRIC"."""
        return (
            f"{kind}x{self.gpus}/{self.subject}/{self.workload}/{self.metric}"
        )

    @property
    def ratio(self) -> float | None:
        """Measured over published."""
        return (
            None if self.measured is None else self.measured / self.figure.value
        )

    @property
    def unit(self) -> str:
        """The metric's unit; "x" for a ratio."""
        if RATIO_SEPARATOR in self.subject or RATIO_SEPARATOR in self.workload:
            return wording.RATIO_UNIT
        return METRICS[self.metric].unit


def lines(runs: Sequence[RunResults], published: Path) -> Iterator[Line]:
    """Every figure that the runs can be compared with, those of one GPU first.

    Raises:
        NotOneKind: the runs were on GPUs of several kinds, or on none.
    """
    kind = kind_of(runs)
    readers = [RunReader(run) for run in runs]

    def measured(subject: str, workload: str, metric: str) -> list[float]:
        return [
            value
            for reader in readers
            for value in _values(reader, subject, workload, metric)
        ]

    for gpus in (1, 2):
        for path in sorted((published / f"{kind}x{gpus}").glob("*/*.json")):
            subject, workload = path.parent.name, path.stem
            at_one = _at_one(subject, workload) if gpus == 2 else None
            for name, figure in sorted(read_published(path).metrics.items()):
                values = measured(subject, workload, name)
                stands_in = False
                if not values and at_one is not None:
                    values, stands_in = measured(at_one, workload, name), True
                if values or gpus == 1 or at_one is not None:
                    median = statistics.median(values) if values else None
                    yield Line(
                        subject,
                        workload,
                        name,
                        gpus,
                        figure,
                        median,
                        len(values),
                        stands_in,
                    )


def _at_one(subject: str, workload: str) -> str | None:
    """The same question at tensor parallel size 1; None where one GPU cannot answer it.

    It cannot say what a second one gains, and what each of two holds is not what one
    holds.
    """
    at_one = subject.replace("-tp2", "-tp1")
    sides = at_one.split("--over--")
    unanswerable = (
        len(set(sides)) < len(sides)
        or at_one.endswith("-routing")
        or workload == "launch"
    )
    return None if unanswerable else at_one


def kind_of(runs: Sequence[RunResults]) -> str:
    """The one kind of GPU that all runs were on."""
    kinds = sorted({run.hardware.kind for run in runs if run.hardware.gpus})
    if len(kinds) != 1 or not all(run.hardware.gpus for run in runs):
        raise NotOneKind(
            tried="comparing runs with what was published for their GPU",
            seen=f"they were on {', '.join(run.hardware.description for run in runs) or 'nothing'}",
            remedy="name runs of one kind of GPU",
        )
    return kinds[0]


def _values(
    reader: RunReader, subject: str, workload: str, metric: str
) -> list[float]:
    """What the launches of a run say, injected ones left out."""
    results = reader.results
    servers, workloads = subject.split("--over--"), workload.split("--over--")
    loads = []
    for index in range(max(len(servers), len(workloads))):
        server = results.servers.get(servers[min(index, len(servers) - 1)])
        name = workloads[min(index, len(workloads) - 1)]
        if server is None or (
            name != "launch" and name not in results.workloads
        ):
            return []
        loads.append(
            Load(server=server.config, workload=results.workloads.get(name))
        )
    case = Case(
        experiment="",
        metric=metric,
        numerator=loads[0],
        denominator=loads[1] if len(loads) > 1 else None,
    )
    return [] if reader.injected(case) else reader.observe(case).values


def read_explanations(path: Path = EXPLANATIONS) -> dict[str, str]:
    """Pattern of "HARDWARE/SUBJECT/WORKLOAD/METRIC" -> explanation; the first match counts."""
    return {
        str(name): str(text)
        for name, text in tomllib.loads(path.read_text()).items()
    }


def explained(line: Line, kind: str, explanations: Mapping[str, str]) -> str:
    """Why the measured value is not the published one, as far as anyone has said."""
    if line.ratio is None:
        return "not measured in these runs"
    given = (
        text
        for pattern, text in explanations.items()
        if fnmatch.fnmatchcase(line.case_id(kind), pattern)
    )
    return next(given, UNEXPLAINED)


def markdown(
    runs: Sequence[RunResults], published: Path, explanations: Mapping[str, str]
) -> str:
    """One row for each figure."""
    kind = kind_of(runs)
    weights = sorted(
        {
            server.config.load_format
            for run in runs
            for server in run.servers.values()
        }
    )
    machines = sorted({run.hardware.description for run in runs})
    out = [
        f"Measured on {' and '.join(machines)}, weights {' and '.join(weights)}, "
        f"{wording.count(len(runs), 'run')}; published on {kind.upper()} with real weights.",
        "",
        (
            "| published on | of | metric | published | measured (launches) | "
            "measured / published | holds | explanation |"
        ),
        "|---|---|---|--:|--:|--:|---|---|",
    ]
    for line in lines(runs, published):
        measured = wording.number(line.measured, line.unit)
        cells = [
            f"{line.gpus}x {kind.upper()}{', TP=2' if line.gpus == 2 else ''}",
            f"{line.subject}, {line.workload}".replace("--over--", " / "),
            line.metric,
            wording.number(line.figure.value, line.unit),
            f"{measured} ({line.launches}{', TP=1' if line.stands_in else ''})"
            if line.launches
            else "-",
            "-" if line.ratio is None else f"{line.ratio:.2f}",
            "yes" if line.figure.holds else "**no**",
            f"{explained(line, kind, explanations)}. Of the figure: {line.figure.note}",
        ]
        out.append("| " + " | ".join(cells) + " |")
    return "\n".join(out)


@click.command()
@click.argument(
    "runs",
    nargs=-1,
    required=True,
    type=click.Path(path_type=Path, exists=True),
)
@click.option(
    "--baselines",
    type=click.Path(path_type=Path),
    default=Path("baselines"),
    show_default=True,
)
@click.option(
    "--explanations",
    type=click.Path(path_type=Path, exists=True),
    default=EXPLANATIONS,
)
def main(runs: tuple[Path, ...], baselines: Path, explanations: Path) -> None:
    """Show published figures vs what RUNS measured."""
    try:
        loaded = [rundata.load(path) for path in runs]
        click.echo(
            markdown(
                loaded, baselines / PUBLISHED, read_explanations(explanations)
            )
        )
    except Failure as failure:
        raise click.ClickException(str(failure)) from failure


if __name__ == "__main__":
    main()
