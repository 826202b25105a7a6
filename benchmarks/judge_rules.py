"""Judge rules: false alarms and power of the gate beside simpler rules, on recorded launches.

    python -m benchmarks.judge_rules                    # one table, without TTFT
    python -m benchmarks.judge_rules --by-family        # and one for each family
    python -m benchmarks.judge_rules --json rules.json

Every recorded launch is left out of its own baseline and judged, as it is and made worse
by arithmetic (leave-one-out). The gate is `perfgate.judge.gate.judge` itself. What the
store would know of the noise is learned from the launches that are not judged. Each
(series, machine) weighs the same, however many launches it has.

In a situation the store holds the machine's own other launches and those of other
machines ("known machine"), one launch of this machine alone ("one recorded launch"), or
other machines' launches alone ("unknown machine"). Launched now is one launch, or three:
of three the gate takes the first, and all of them where it asks for more.

The gate's share of "passed" is that of PASSED and IMPROVED. A loss above the ceiling
that passed is an error: what cannot be excluded must not be called passed.
"""

from __future__ import annotations

import functools
import importlib.util
import itertools
import math
import random
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import click
import msgspec

from benchmarks.recorded_launches import (
    RUNS,
    Key,
    Row,
    by_machine,
    by_series,
    read_all,
)
from perfgate.cases import Case, Load
from perfgate.engines.base import ServerConfig
from perfgate.errors import Failure
from perfgate.history.series import change_points
from perfgate.judge import noise_learning, noise_table
from perfgate.judge.baseline_schema import MetricBaseline
from perfgate.judge.baseline_store import Recorded
from perfgate.judge.gate import judge
from perfgate.judge.noise_learning import MachineLaunches, Series
from perfgate.judge.noise_table import GroupNoise, NoiseTable
from perfgate.judge.observation import Observation
from perfgate.judge.policy import policy_for
from perfgate.judge.repetition_scatter import launch_variance
from perfgate.judge.verdict import Decision, Outcome
from perfgate.load.metrics import METRICS
from perfgate.load.workload import Workload
from perfgate.results import schema as rundata
from perfgate.results.samples import Sample

SEED = 20261128
LOSSES = (0.0, 0.02, 0.03, 0.05, 0.07, 0.10)
P_VALUE = 0.01
# A session of one engine on GPUs judges as many rows; they share its false alarms.
SESSION_ROWS = 100
MOST_TRIPLES = 12  # of the launches of one machine, drawn where there are more
STEADY = (
    "itl_median_ms",
    "itl_mean_ms",
    "tpot_median_ms",
    "output_throughput",
    "steady_output_throughput",
    "e2el_mean_ms",
    "e2el_p95_ms",
    "ttft_median_ms",
)
# Metrics by the way in which requests arrive. At a rate the throughput is the rate.
METRICS_OF: Mapping[str, tuple[str, ...]] = {
    "single": STEADY,
    "closed": STEADY,
    "burst": ("output_throughput", "steady_output_throughput"),
}
FAMILIES: Mapping[str, tuple[str, ...]] = {
    "all but TTFT": ("itl", "tpot", "throughput", "e2el", "tail"),
    "ITL and TPOT": ("itl", "tpot"),
    "throughput and E2EL": ("throughput", "e2el", "tail"),
    "TTFT": ("ttft",),
}

PriorKey = tuple[Key, str, frozenset[tuple[str, int]]]
State = Literal["red", "asks", "passed", "not excluded", "undecided"]


@dataclass(frozen=True)
class Trial:
    """What was recorded of a series, and what is launched now.

    Attributes:
        recorded: launches in the store, of this machine or of others, in time order.
        current: launches of the machine at hand, unchanged or made worse.
        group: what the store knows of the noise; None where it knows nothing.
    """

    recorded: Sequence[Row]
    current: Sequence[Row]
    group: GroupNoise | None = None

    @property
    def own(self) -> list[Row]:
        """Recorded launches of the machine at hand, else all of them."""
        machine = self.current[0].machine
        own = [row for row in self.recorded if row.machine == machine]
        return own or list(self.recorded)


@dataclass(frozen=True)
class Situation:
    """What the store holds, and how many launches are made now.

    Attributes:
        fewest_recorded: launches that the store has at least.
    """

    name: str
    kind: Literal["known", "one", "unknown"]
    launches: Literal[1, 3]
    fewest_recorded: int


SITUATIONS = (
    Situation("known machine, one launch now", "known", 1, 2),
    Situation("known machine, three launches now", "known", 3, 2),
    Situation("one recorded launch, one launch now", "one", 1, 1),
    Situation("one recorded launch, three launches now", "one", 3, 1),
    Situation("unknown machine, one launch now", "unknown", 1, 3),
    Situation("unknown machine, three launches now", "unknown", 3, 3),
)


# Of the brief tables: what the store holds, in the order of the rows.
STORES = {
    "known machine, one launch now": "this machine, two launches or more",
    "known machine, three launches now": "the same, three launches now",
    "one recorded launch, one launch now": "one launch of this machine",
    "unknown machine, one launch now": "other machines alone",
}
SHORT_STORES = {
    "known machine, one launch now": "this machine",
    "one recorded launch, one launch now": "one launch of it",
    "unknown machine, one launch now": "other machines",
}
RULE_NAMES = {
    "perfgate": "gate, a row alone",
    "perfgate, one of 100 rows": "gate, one of 100 rows",
}


def is_higher_better(row: Row) -> bool:
    """Whether a larger value of its metric is better."""
    return METRICS[row.metric].better == "higher"


def worsened(row: Row, loss: float) -> Row:
    """The launch with a loss, as a fraction, in its value and its repetitions."""
    factor = 1 + loss
    if is_higher_better(row):
        factor = 1 - loss
    return msgspec.structs.replace(
        row,
        value=row.value * factor,
        repetitions=tuple(value * factor for value in row.repetitions),
    )


# --- The gate -------------------------------------------------------------------------


def gate_decision(trial: Trial, launches: int, rows: int = 1) -> Decision:
    """The product's verdict on the first launches of a trial.

    Args:
        rows: judged in the same run; they share its false alarms.
    """
    current = trial.current[:launches]
    first = current[0]
    case = case_of(first)
    metric = METRICS[first.metric]
    policy = policy_for(first.hardware, first.metric, ratio=False)
    machines = {}
    for row in trial.recorded:
        machines[row.run] = row.machine
    baseline = Recorded(
        path=Path("recorded"),
        identity={},
        context={},
        metric=MetricBaseline(
            unit=metric.unit,
            better=metric.better,
            definition=metric.definition,
            gate="hard",
            floor=policy.floor,
            launches=tuple(sample_of(row) for row in trial.recorded),
        ),
        machines=machines,
        group=trial.group,
    )
    observation = Observation(
        run="now",
        hardware_label=first.hardware,
        identity={},
        context={},
        samples=tuple(sample_of(row) for row in current),
        machine=first.machine,
        judged_rows=rows,
        repetition_variance=launch_variance(row.repetitions for row in current),
    )
    return judge(case, observation, baseline)


def case_of(row: Row) -> Case:
    """A case of that metric: the server and the prompts do not matter to a judgement."""
    workload = Workload(name=row.workload, num_prompts=1)
    server = ServerConfig(engine="vllm", model=row.server, device="cuda")
    load = Load(server=server, workload=workload)
    return Case(experiment="-", metric=row.metric, numerator=load)


def sample_of(row: Row) -> Sample:
    """The launch as a baseline and a run keep it."""
    return Sample(run=row.run, launch=row.launch, value=row.value)


def prior_of(rows: Iterable[Row]) -> NoiseTable:
    """What a store with these launches, and no others, knows of the noise."""
    series = []
    for launches in by_series(rows).values():
        by_machine: dict[str | None, list[Row]] = defaultdict(list)
        for row in launches:
            by_machine[row.machine].append(row)
        machines = {}
        for machine, rows_there in by_machine.items():
            machines[machine] = MachineLaunches(
                logs=[math.log(row.value) for row in rows_there],
                runs=[row.run for row in rows_there],
            )
        first = launches[0]
        series.append(
            Series(
                platform=noise_table.platform_of(first.hardware),
                metric=first.metric,
                arrivals=first.arrivals,
                is_ratio=False,
                machines=machines,
            )
        )
    return noise_learning.learn(series, "2026-01-01")


def gate_state(trial: Trial, rows: int = 1) -> State:
    """The gate's verdict: by the first launch, and by all where it asks for them."""
    decision = gate_decision(trial, 1, rows)
    if decision.needs_launches and len(trial.current) > 1:
        decision = gate_decision(trial, len(trial.current), rows)
    if decision.gate != "hard":
        return "undecided"
    if decision.outcome is Outcome.REGRESSED:
        return "red"
    if decision.needs_launches:
        return "asks"
    if decision.outcome in (Outcome.PASSED, Outcome.IMPROVED):
        return "passed"
    if decision.outcome is Outcome.NOT_EXCLUDED:
        return "not excluded"
    return "undecided"


# --- Simpler rules --------------------------------------------------------------------


def loss_of(value: float, reference: float, is_higher: bool) -> float:
    """The loss as a fraction of the reference; negative for a gain."""
    change = value / reference - 1
    if is_higher:
        return -change
    return change


def red_if(is_red: bool) -> State:
    """The state of a rule that knows two of them."""
    if is_red:
        return "red"
    return "passed"


def threshold(limit: float, trial: Trial) -> State | None:
    """The first launch against the mean of the machine's launches."""
    first = trial.current[0]
    reference = statistics.fmean(row.value for row in trial.own)
    loss = loss_of(first.value, reference, is_higher_better(first))
    return red_if(loss > limit)


def mann_whitney(trial: Trial) -> State | None:
    """The repetitions of the first launch against those of the recorded ones."""
    # Imported here, as below: most callers of this module need the rows alone.
    from scipy import stats

    first = trial.current[0]
    recorded: list[float] = []
    for row in trial.own:
        recorded += row.repetitions
    alternative = "greater"
    if is_higher_better(first):
        alternative = "less"
    test = stats.mannwhitneyu(
        first.repetitions, recorded, alternative=alternative
    )
    return red_if(test.pvalue < P_VALUE)


def t_test(trial: Trial) -> State | None:
    """The first launch against the recorded ones, by the scatter of these."""
    from scipy import stats

    losses = log_losses(trial.own)
    if len(losses) < 2:
        return None
    error = statistics.stdev(losses) * math.sqrt(1 + 1 / len(losses))
    first = log_losses(trial.current)[0]
    quantile = stats.t.isf(P_VALUE, len(losses) - 1)
    return red_if(first - statistics.fmean(losses) > quantile * error)


def welch(trial: Trial) -> State | None:
    """Three launches against the recorded ones, by the scatter of both."""
    from scipy import stats

    losses = log_losses(trial.own)
    if len(losses) < 2 or len(trial.current) < 3:
        return None
    test = stats.ttest_ind(
        log_losses(trial.current),
        losses,
        equal_var=False,
        alternative="greater",
    )
    return red_if(test.pvalue < P_VALUE)


def log_losses(rows: Sequence[Row]) -> list[float]:
    """Logarithms of the values, so turned that more is worse."""
    sign = 1
    if is_higher_better(rows[0]):
        sign = -1
    return [sign * math.log(row.value) for row in rows]


def pytest_benchmark(trial: Trial) -> State | None:
    """`--benchmark-compare --benchmark-compare-fail=mean:5%`: means against the last run.

    It compares times, so a throughput counts as the time of a token.
    """
    is_higher = is_higher_better(trial.current[0])
    current = mean_time(trial.current[0], is_higher)
    last = mean_time(trial.own[-1], is_higher)
    return red_if(current / last - 1 > 0.05)


def mean_time(row: Row, is_rate: bool) -> float:
    """Mean of the repetitions; of a rate, of the time that each unit takes."""
    times = list(row.repetitions)
    if is_rate:
        times = [1 / value for value in row.repetitions]
    return statistics.fmean(times)


def otava(trial: Trial) -> State | None:
    """A change point for the worse at the first launch made now, or later."""
    recorded = trial.own
    values = [row.value for row in (*recorded, *trial.current)]
    is_higher = is_higher_better(trial.current[0])
    for point in change_points(values):
        is_worse = (point.change < 0) == is_higher
        if point.index >= len(recorded) and is_worse:
            return "red"
    return "passed"


@dataclass(frozen=True)
class Rule:
    """A way to judge a trial; it answers None where it needs more launches."""

    name: str
    state: Callable[[Trial], State | None]


def _threshold_rule(limit: float) -> Rule:
    def state(trial: Trial) -> State | None:
        return threshold(limit, trial)

    return Rule(f"threshold {limit:.0%}".replace("%", " %"), state)


def rules() -> list[Rule]:
    """The gate and what it is compared with; Otava where it is installed."""
    chosen = [
        Rule("perfgate", gate_state),
        Rule(
            f"perfgate, one of {SESSION_ROWS} rows",
            functools.partial(gate_state, rows=SESSION_ROWS),
        ),
        _threshold_rule(0.03),
        _threshold_rule(0.05),
        _threshold_rule(0.10),
        Rule("Mann-Whitney on repetitions, p < 0.01", mann_whitney),
        Rule("t-test, one launch, p < 0.01", t_test),
        Rule("Welch, three launches, p < 0.01", welch),
        Rule("pytest-benchmark, mean:5%, last launch", pytest_benchmark),
    ]
    if importlib.util.find_spec("otava") is not None:
        chosen.append(Rule("Otava, as `perfgate history`", otava))
    return chosen


# --- Trials ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Place:
    """A series on one machine, with the unchanged trials of a situation."""

    series: Key
    machine: str
    family: str
    trials: Sequence[Trial]


def judged_rows(rows: Iterable[Row]) -> list[Row]:
    """The rows whose metric says something under their load."""
    return [
        row for row in rows if row.metric in METRICS_OF.get(row.arrivals, ())
    ]


class Trials:
    """Makes the trials of every situation out of the recorded launches.

    Attributes:
        priors: what the launches that are not judged say of the noise.
    """

    def __init__(self, rows: Sequence[Row], seed: int = SEED) -> None:
        self.rows = judged_rows(rows)
        self.seed = seed
        self.priors: dict[PriorKey, GroupNoise | None] = {}

    def places(self, situation: Situation) -> Iterator[Place]:
        """Each series on each machine that has a trial of that situation."""
        for series, rows in by_series(self.rows).items():
            for machine, own in by_machine(rows).items():
                trials = self._trials(situation, rows, own)
                if trials:
                    family = METRICS[own[0].metric].family
                    yield Place(series, machine, family, trials)

    def _trials(
        self, situation: Situation, rows: Sequence[Row], own: Sequence[Row]
    ) -> list[Trial]:
        trials = []
        for current in self._current(own, situation.launches):
            group = self._group(situation, current)
            for recorded in _recorded(situation, rows, own, current):
                if len(recorded) >= situation.fewest_recorded:
                    trials.append(Trial(recorded, current, group))
        return trials

    def _current(
        self, own: Sequence[Row], launches: int
    ) -> list[tuple[Row, ...]]:
        """Launches of one machine that are made now; of many threes some are drawn."""
        chosen = list(itertools.combinations(own, launches))
        if launches > 1 and len(chosen) > MOST_TRIPLES:
            # Each series draws alike, whatever else was recorded.
            rng = random.Random(f"{self.seed} {own[0].name} {own[0].machine}")
            chosen = rng.sample(chosen, MOST_TRIPLES)
        return chosen

    def _group(
        self, situation: Situation, current: Sequence[Row]
    ) -> GroupNoise | None:
        """What the store knows without the launches that are judged.

        Where the machine has fewer launches than were recorded of it, without all of
        its launches of that series.
        """
        first = current[0]
        launches = {(row.run, row.launch) for row in current}
        is_known = situation.kind == "known"
        if not is_known:
            launches = set()
        key = first.series, first.machine, frozenset(launches)
        if key not in self.priors:
            others = []
            for row in self._alike(first):
                is_same = row.series == first.series
                is_same = is_same and row.machine == first.machine
                is_judged = (row.run, row.launch) in launches
                if not is_same or (is_known and not is_judged):
                    others.append(row)
            platform = noise_table.platform_of(first.hardware)
            table = prior_of(others)
            self.priors[key] = table.find(
                platform, first.metric, first.arrivals
            )
        return self.priors[key]

    def _alike(self, first: Row) -> list[Row]:
        """The rows of that metric under that kind of load."""
        rows = []
        for row in self.rows:
            if (row.metric, row.arrivals) == (first.metric, first.arrivals):
                rows.append(row)
        return rows


def _recorded(
    situation: Situation,
    rows: Sequence[Row],
    own: Sequence[Row],
    current: Sequence[Row],
) -> list[list[Row]]:
    """The stores that the launches made now are judged against."""
    rest = [row for row in own if row not in current]
    others = [row for row in rows if row.machine != own[0].machine]
    if situation.kind == "known":
        if len(rest) < situation.fewest_recorded:
            return []
        return [[row for row in rows if row not in current]]
    if situation.kind == "one":
        return [[row] for row in rest]
    return [others]


# --- Table ----------------------------------------------------------------------------


class Cell(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """Shares of the states at one loss; they sum to 1."""

    loss: float
    shares: dict[str, float]


class Line(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """One rule in one situation, for the metrics of one family.

    Attributes:
        places: (series, machine) that were judged.
        gates: judgements of unchanged launches.
    """

    family: str
    situation: str
    rule: str
    places: int
    gates: int
    cells: tuple[Cell, ...]


def compare(
    rows: Sequence[Row],
    families: Mapping[str, Sequence[str]] = FAMILIES,
    situations: Sequence[Situation] = SITUATIONS,
    losses: Sequence[float] = LOSSES,
    seed: int = SEED,
) -> list[Line]:
    """Every rule in every situation.

    Args:
        families: name of a table -> the families of metrics in it.
        losses: fractions by which launches are made worse, 0 for a false alarm.
    """
    trials = Trials(rows, seed)
    lines: list[Line] = []
    for situation in situations:
        places = list(trials.places(situation))
        for rule in rules():
            answers = [_answers(rule, place, losses) for place in places]
            for name, members in families.items():
                line = _line(
                    name, situation, rule, _of_families(answers, members)
                )
                if line is not None:
                    lines.append(line)
    return lines


@dataclass(frozen=True)
class Answers:
    """A rule's answers to the trials of one place, for each loss."""

    family: str
    by_loss: Mapping[float, Sequence[State]]


def _answers(rule: Rule, place: Place, losses: Sequence[float]) -> Answers:
    by_loss: dict[float, list[State]] = {}
    for loss in losses:
        by_loss[loss] = []
        for trial in place.trials:
            current = tuple(worsened(row, loss) for row in trial.current)
            state = rule.state(Trial(trial.recorded, current, trial.group))
            if state is not None:
                by_loss[loss].append(state)
    return Answers(place.family, by_loss)


def _of_families(
    answers: Iterable[Answers], families: Sequence[str]
) -> list[Answers]:
    """Those of some families, where the rule could answer."""
    chosen = []
    for place in answers:
        if place.family in families and all(place.by_loss.values()):
            chosen.append(place)
    return chosen


def _line(
    family: str, situation: Situation, rule: Rule, places: Sequence[Answers]
) -> Line | None:
    """None where the rule answered nowhere."""
    if not places:
        return None
    cells = []
    for loss in places[0].by_loss:
        at_loss = [place.by_loss[loss] for place in places]
        cells.append(Cell(loss=loss, shares=_shares(at_loss)))
    gates = 0
    for place in places:
        gates += len(next(iter(place.by_loss.values())))
    return Line(
        family=family,
        situation=situation.name,
        rule=rule.name,
        places=len(places),
        gates=gates,
        cells=tuple(cells),
    )


def _shares(places: Sequence[Sequence[State]]) -> dict[str, float]:
    """Share of each state, each place with the same weight."""
    shares: dict[str, float] = defaultdict(float)
    for states in places:
        for state in states:
            shares[state] += 1 / len(states) / len(places)
    return dict(shares)


def markdown(lines: Sequence[Line]) -> str:
    """A table for each family and situation: red by loss, and of the gate what passed."""
    parts: list[str] = []
    for family in dict.fromkeys(line.family for line in lines):
        parts.append(f"### {_capital(family)}\n")
        chosen = [line for line in lines if line.family == family]
        for situation in dict.fromkeys(line.situation for line in chosen):
            rows = [line for line in chosen if line.situation == situation]
            parts.append(_table(situation, rows))
    return "\n".join(parts)


def brief(lines: Sequence[Line]) -> str:
    """Two tables: each rule by what the store holds, and the gate by family."""
    first, *families = dict.fromkeys(line.family for line in lines)
    heads = ["unchanged", *(f"{_percent(loss)} lost" for loss in LOSSES[1:])]
    out = _heading(("store", "rule"), heads)
    for situation, store in STORES.items():
        for line in lines:
            if (line.family, line.situation) == (first, situation):
                cells = _row(
                    RULE_NAMES.get(line.rule, line.rule), line, ("red",)
                )
                out.append(f"| {store} {cells}")
                store = " "
    heads.append("5 % lost and PASSED")
    out += ["", *_heading(("family", "store"), heads)]
    for family in families:
        label = _capital(family)
        for situation, store in SHORT_STORES.items():
            for line in lines:
                place = (line.family, line.situation, line.rule)
                if place == (family, situation, "perfgate"):
                    out.append(
                        f"| {label} {_row(store, line, ('red',))} {_missed(line)} |"
                    )
                    label = " "
    return "\n".join(out) + "\n"


def _heading(names: Sequence[str], figures: Sequence[str]) -> list[str]:
    """The two lines above a table: columns of text, and columns of figures."""
    titles = " | ".join([*names, *figures])
    return [f"| {titles} |", "|" + "---|" * len(names) + "--:|" * len(figures)]


def _missed(line: Line) -> str:
    """How often a loss of 5 % passes."""
    shares = [cell.shares for cell in line.cells if cell.loss == 0.05]
    return _percent(shares[0].get("passed", 0.0)).removesuffix(" %")


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _table(situation: str, lines: Sequence[Line]) -> str:
    losses = [cell.loss for cell in lines[0].cells]
    heads = ["false alarms"]
    heads += [f"{_percent(loss)} lost" for loss in losses[1:]]
    series, gates = lines[0].places, lines[0].gates
    out = [
        f"{_capital(situation)} ({series} series on a machine, {gates} gates), "
        "% of gates that are red:\n",
        *_heading(("rule",), heads),
    ]
    for line in lines:
        out.append(_row(line.rule, line, ("red",)))
        if line.rule != "perfgate":
            continue
        out.append(_row("perfgate: asks for launches", line, ("asks",)))
        out.append(_row("perfgate: not excluded", line, ("not excluded",)))
        out.append(_row("perfgate: passed", line, ("passed",)))
        out.append(_row("perfgate: not judged", line, ("undecided",)))
    return "\n".join(out) + "\n"


def _row(name: str, line: Line, states: Sequence[str]) -> str:
    cells = []
    for cell in line.cells:
        share = sum(cell.shares.get(state, 0.0) for state in states)
        cells.append(_percent(share).removesuffix(" %"))
    return f"| {name} | " + " | ".join(cells) + " |"


def _percent(fraction: float) -> str:
    percent = 100 * fraction
    if 0 < percent < 9.95:
        text = f"{percent:.1f}".removesuffix(".0")
        return f"{text} %"
    return f"{percent:.0f} %"


@click.command()
@click.argument(
    "folder",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    default=RUNS,
)
@click.option(
    "--by-family", is_flag=True, help="Also a table for each family of metrics."
)
@click.option(
    "--brief",
    "is_brief",
    is_flag=True,
    help="Two tables in place of one for each situation.",
)
@click.option("--seed", default=SEED, show_default=True)
@click.option(
    "--json",
    "json_path",
    type=click.Path(path_type=Path),
    help="Write the shares here as well.",
)
def main(
    folder: Path,
    by_family: bool,
    is_brief: bool,
    seed: int,
    json_path: Path | None,
) -> None:
    """Compare the gate with simpler rules on the launches recorded below FOLDER."""
    families = dict(itertools.islice(FAMILIES.items(), 1))
    if by_family or is_brief:
        families = dict(FAMILIES)
    try:
        lines = compare(read_all(folder), families, seed=seed)
    except Failure as failure:
        raise click.ClickException(str(failure)) from failure
    if is_brief:
        click.echo(brief(lines))
    else:
        click.echo(markdown(lines))
    if importlib.util.find_spec("otava") is None:
        click.echo(
            "Otava is not installed: `pip install -e '.[history]'` adds its row."
        )
    if json_path is not None:
        json_path.write_text(rundata.to_json(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
