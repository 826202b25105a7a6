"""Whole runs: the share of unchanged runs of the study with at least one REGRESSED row.

    python -m benchmarks.whole_runs                      # tables of docs/error-rates.md: minutes
    python -m benchmarks.whole_runs --runs 200           # seconds, coarse

The rows are the judged cases of the shipped study on one kind of GPUs. Every launch is
drawn with the noise that the store learned: each load of a server has a variance of its
own, from the prior of the metric. Rows of one server's launch share a part of their
noise. Rows that say the same of one load (ITL median and mean, E2EL mean and p90) share
all of it. A ratio is that of two rows. Memory, weights and start-up are left out: they
do not vary. The gate's own code decides (`benchmarks.gate_trials`). Seeded.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import click
import msgspec
import numpy as np
import numpy.typing as npt

from benchmarks.gate_trials import Result, Subject, decide
from benchmarks.simulated_launches import LARGEST_SIGMA, Array, Draws
from perfgate.cases import Case, Load
from perfgate.judge.baseline_store import Store
from perfgate.judge.measured_case import gate_mode
from perfgate.judge.noise import DECISION_LAUNCHES, THRESHOLD_SHARE, log_loss
from perfgate.judge.noise_learning import LEARNED_FAMILIES
from perfgate.judge.observation import noisy_rows
from perfgate.judge.sessions import MACHINE_SHARE
from perfgate.judge.verdict import Outcome
from perfgate.load.metrics import Family, family_of
from perfgate.models.catalogue import register
from perfgate.results.samples import Sample, mean_of, values_of
from perfgate.study import ServerChoices, read_study, study_of
from perfgate.study.shipped import shipped
from tools.record_stored_runs import study_cases

SEED = 20261128
RECORDED = (1, 3, 6, 10)
MOST_RED = 0.005  # share of unchanged runs that may fail
CORRELATION = 0.5
# What says the same of a load.
KINDS: Mapping[Family, str] = {
    "itl": "decoding",
    "tpot": "decoding",
    "bandwidth": "decoding",
    "e2el": "whole answer",
    "e2el_tail": "whole answer",
}


class Part(NamedTuple):
    """What shares all of its noise: one kind of metric of one load."""

    server: str
    workload: str
    kind: str


@dataclass(frozen=True)
class Quantity:
    """A metric of a load: what launches are drawn of."""

    part: Part
    cv: float
    degrees_of_freedom: float


@dataclass(frozen=True)
class Row:
    """A judged case.

    Attributes:
        sides: indices of its quantities: one, or the two of a ratio.
    """

    subject: Subject
    sides: tuple[int, ...]


@dataclass(frozen=True)
class Correlation:
    """What the noise of launches has in common.

    Attributes:
        server: correlation of the rows of one server's launch.
        session: of the variance, what launches of one session share.
    """

    server: float = CORRELATION
    session: float = MACHINE_SHARE


class StudyRun:
    """The judged rows of the study, and their launches.

    Args:
        label: of the hardware, "h200x1".
        engines: of the study; none takes all of them.
    """

    def __init__(
        self, store: Store, label: str, engines: Sequence[str] = ()
    ) -> None:
        self.store = store
        self.label = label
        self.rows: list[Row] = []
        self.quantities: list[Quantity] = []
        self._indices: dict[tuple[str, str, str], int] = {}
        cases = list(cases_on(label, engines))
        self.judged_rows = noisy_rows(cases)
        for case in cases:
            if can_fail(case, label):
                self._add(case)
        self.parts = sorted({row.part for row in self.quantities})
        self.servers = sorted({part.server for part in self.parts})

    def _add(self, case: Case) -> None:
        sides = []
        for load in case.loads:
            index = self._index(case, load)
            if index is None:
                return
            sides.append(index)
        subject = Subject(
            case,
            self.label,
            self.store.group(case, self.label),
            self._reference(case),
            self.judged_rows,
        )
        self.rows.append(Row(subject, tuple(sides)))

    def _index(self, case: Case, load: Load) -> int | None:
        """The quantity of one side; None where the store does not know its noise."""
        metric = case.metric
        key = load.server.key, load.workload_name, metric
        if key in self._indices:
            return self._indices[key]
        side = msgspec.structs.replace(case, numerator=load, denominator=None)
        group = self.store.group(side, self.label)
        if group is None:
            return None
        family = family_of(metric)
        part = Part(*key[:2], KINDS.get(family, family))
        spread = group.launches
        quantity = Quantity(part, spread.cv, spread.degrees_of_freedom)
        self._indices[key] = len(self.quantities)
        self.quantities.append(quantity)
        return self._indices[key]

    def _reference(self, case: Case) -> float:
        """The recorded value; of what is not recorded, a usual TTFT (ms)."""
        baseline = self.store.find(case, self.label)
        metric = getattr(baseline, "metric", None)
        if metric is None:
            return 25.0
        return mean_of(values_of(metric.launches))

    def draw(
        self,
        rng: np.random.Generator,
        runs: int,
        recorded: int,
        common: Correlation,
    ) -> Draws:
        """Losses of every quantity: shapes (runs, quantities, launches)."""
        part_of = [self.parts.index(row.part) for row in self.quantities]
        uniform = rng.random((runs, len(self.parts)))[:, part_of]
        sigma = self._sigmas(uniform)[..., None]
        past = self._normal(rng, runs, recorded, common.server)
        shared = self._normal(rng, runs, 1, common.server)
        own = self._normal(rng, runs, DECISION_LAUNCHES, common.server)
        session = common.session
        now = math.sqrt(session) * shared + math.sqrt(1 - session) * own
        return Draws(sigma * past[:, part_of], sigma * now[:, part_of])

    def _sigmas(self, uniform: Array) -> Array:
        """Standard deviations (log), as `sigmas` draws them; alike within a part."""
        from scipy.special import chdtri

        cv = np.array([row.cv for row in self.quantities])
        freedom = np.array([row.degrees_of_freedom for row in self.quantities])
        sigma = cv * np.sqrt(freedom / chdtri(freedom, uniform))
        return np.asarray(np.minimum(sigma, LARGEST_SIGMA))

    def _normal(
        self,
        rng: np.random.Generator,
        runs: int,
        launches: int,
        correlation: float,
    ) -> Array:
        """Standard normal values of each part: shape (runs, parts, launches)."""
        server_of = [self.servers.index(part.server) for part in self.parts]
        servers = rng.normal(0, 1, (runs, len(self.servers), launches))
        parts = rng.normal(0, 1, (runs, len(self.parts), launches))
        common = math.sqrt(correlation) * servers[:, server_of]
        return np.asarray(common + math.sqrt(1 - correlation) * parts)


def cases_on(label: str, engines: Sequence[str] = ()) -> Iterator[Case]:
    """Cases of the shipped study there."""
    file = read_study(shipped().study)
    register(file.models.values())
    ranks = int(label.rpartition("x")[2])
    studies = []
    for engine in file.engines:
        if not engines or engine in engines:
            # As recorded: by the made-up routers.
            choices = ServerChoices(ranks, "dummy", "")
            studies.append(study_of(file, "gpu", engine, choices=choices))
    yield from study_cases(studies)


def can_fail(case: Case, label: str) -> bool:
    """Whether noise can fail a run by this case."""
    is_hard = gate_mode(case, Subject(case, label).policy) == "hard"
    return is_hard and family_of(case.metric) in LEARNED_FAMILIES


def results(row: Row, draws: Draws, run: int | np.intp) -> Result:
    """How a row of a run is decided."""
    past = _samples(row, draws.recorded[run], None)
    now = _samples(row, draws.current[run], "now")
    return decide(row.subject, row.subject.baseline(past), now)


def _samples(row: Row, losses: Array, run: str | None) -> list[Sample]:
    """The row's launches, of one run or of a run each."""
    launches = []
    for number in range(losses.shape[1]):
        name, launch = f"run-{number:02}", 0
        if run is not None:
            name, launch = run, number
        sides = [float(losses[side, number]) for side in row.sides]
        if len(sides) == 1:
            sample = row.subject.sample(name, launch, sides[0])
        else:
            sample = row.subject.ratio_sample(name, launch, *sides)
        launches.append(sample)
    return launches


@dataclass(frozen=True)
class Shares:
    """Shares of unchanged runs, as fractions.

    Attributes:
        red: with at least one REGRESSED row.
        absolute: with one that is no ratio.
        inconclusive: with at least one INCONCLUSIVE row.
        again: that launch a server again.
    """

    red: float
    absolute: float
    inconclusive: float
    again: float


def shares(
    study: StudyRun, runs: int, recorded: int, common: Correlation
) -> Shares:
    """How many unchanged runs fail, with so many recorded launches.

    Args:
        runs: that are drawn.
    """
    rng = np.random.default_rng([SEED, recorded])
    draws = study.draw(rng, runs, recorded, common)
    occurred = np.zeros((runs, 4), dtype=bool)
    for row in study.rows:
        for run in np.flatnonzero(is_in_doubt(row, draws)):
            result = results(row, draws, run)
            is_red = result.outcome is Outcome.REGRESSED
            occurred[run] |= (
                is_red,
                is_red and not row.subject.case.is_ratio,
                result.outcome is Outcome.INCONCLUSIVE,
                result.launches > 1,
            )
    return Shares(*occurred.mean(axis=0).tolist())


def is_in_doubt(row: Row, draws: Draws) -> npt.NDArray[np.bool_]:
    """Runs whose first launch might not pass alone: shape (runs,).

    It passes up to half of the threshold at least, and that is no less than
    THRESHOLD_SHARE of the target effect (`fast_pass_threshold`). The gate need not decide
    these rows.
    """
    side = row.sides[0]
    past, first = draws.recorded[:, side], draws.current[:, side, 0]
    if len(row.sides) == 2:
        other = row.sides[1]
        past = past - draws.recorded[:, other]
        first = first - draws.current[:, other, 0]
    loss = first - past.mean(axis=1)
    if len(row.sides) == 2:
        loss = np.abs(loss)
    target = log_loss(row.subject.policy.smallest, row.subject.higher)
    return np.asarray(loss > 0.99 * THRESHOLD_SHARE * target / 2)


def line(cells: Sequence[object]) -> str:
    """One line of a Markdown table."""
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def studies_table(store: Store, runs: int) -> Iterator[str]:
    """Failed runs in %, by study and recorded launches."""
    studies = [
        ("one H200, vLLM", StudyRun(store, "h200x1", ("vllm",))),
        ("one H200, vLLM and SGLang", StudyRun(store, "h200x1")),
        ("two H200, vLLM and SGLang", StudyRun(store, "h200x2")),
    ]
    head = ["study", "rows", *(f"K = {count}" for count in RECORDED)]
    yield line(head)
    yield line(["---", *("--:" for _ in head[1:])])
    for name, study in studies:
        cells = []
        for count in RECORDED:
            share = shares(study, runs, count, Correlation())
            cells.append(f"{100 * share.red:.2f}")
        yield line([name, len(study.rows), *cells])


def assumptions_table(
    store: Store, runs: int, recorded: int = 3
) -> Iterator[str]:
    """What happens in runs of one engine, in %, by what is assumed."""
    study = StudyRun(store, "h200x1", ("vllm",))
    settings = {
        "as above": Correlation(),
        "rows of a server independent": Correlation(server=0.0),
        "rows of a server correlated by 0.8": Correlation(server=0.8),
        "launches of a session share nothing": Correlation(session=0.0),
        "launches of a session share 2/3": Correlation(session=2 / 3),
    }
    head = ["one H200, vLLM", "REGRESSED", "INCONCLUSIVE", "launched again"]
    yield line(head)
    yield line(["---", *("--:" for _ in head[1:])])
    for name, common in settings.items():
        share = shares(study, runs, recorded, common)
        cells = [
            f"{100 * share.red:.2f}",
            f"{100 * share.inconclusive:.2f}",
            f"{100 * share.again:.0f}",
        ]
        yield line([name, *cells])


@click.command()
@click.option(
    "--runs", default=2000, show_default=True, help="Drawn for each cell."
)
@click.option(
    "--baselines",
    type=click.Path(path_type=Path, exists=True),
    default=Path("baselines"),
    show_default=True,
)
def main(runs: int, baselines: Path) -> None:
    """Show how often an unchanged run of the whole study fails."""
    error = math.sqrt(MOST_RED * (1 - MOST_RED) / runs)
    click.echo(
        f"{runs} runs a cell: where {MOST_RED:.1%} fail, the standard error is "
        f"{error:.2%}\n"
    )
    store = Store(baselines)
    for table in (studies_table, assumptions_table):
        click.echo(f"{table.__doc__}\n")
        for text in table(store, runs):
            click.echo(text)
        click.echo()


if __name__ == "__main__":
    main()
