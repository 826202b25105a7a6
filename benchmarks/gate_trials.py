"""Gate trials: simulated launches, decided by the code of the gate.

A trial is a baseline and the launches of a run. `perfgate.judge.recorded.Comparison`
decides it as in `perfgate.judge.gate`, which adds text: the first launch, and all three
where the gate asks for more. A test compares both.
"""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.simulated_launches import Array, Draws, Source
from perfgate.cases import Case
from perfgate.judge.baseline_schema import MetricBaseline
from perfgate.judge.baseline_store import Recorded
from perfgate.judge.gate import judge
from perfgate.judge.machine_scope import narrow_to
from perfgate.judge.noise import log_loss
from perfgate.judge.noise_table import GroupNoise
from perfgate.judge.observation import Observation
from perfgate.judge.policy import Policy, policy_for
from perfgate.judge.recorded import Comparison
from perfgate.judge.verdict import Outcome
from perfgate.load.metrics import METRICS
from perfgate.results.samples import Sample

SILENT = ("all streams fell silent",)
HERE = "here"  # the machine of the run


@dataclass(frozen=True)
class Subject:
    """What is judged.

    Attributes:
        label: of the hardware, "h200x1".
        group: what the store knows of its noise; None where it knows nothing.
        reference: value of a launch without noise, in the metric's unit.
        judged_rows: of the run, which share its false alarms.
    """

    case: Case
    label: str = "h200x1"
    group: GroupNoise | None = None
    reference: float = 1000.0
    judged_rows: int = 1

    @functools.cached_property
    def policy(self) -> Policy:
        """The policy of its metric on that hardware."""
        return policy_for(self.label, self.case.metric, self.case.is_ratio)

    @property
    def higher(self) -> bool:
        """Whether a larger value is better."""
        return METRICS[self.case.metric].better == "higher"

    def sample(self, run: str, launch: int, loss: float) -> Sample:
        """A launch with this loss (log); one without a value where it is NaN."""
        if math.isnan(loss):
            return Sample(run=run, launch=launch, value=None, invalid=SILENT)
        value = self.reference * math.exp(self._sign * loss)
        return Sample(run=run, launch=launch, value=value)

    def ratio_sample(
        self, run: str, launch: int, numerator: float, denominator: float
    ) -> Sample:
        """A launch of a ratio whose sides have these losses (log)."""
        top = self.reference * math.exp(self._sign * numerator)
        bottom = math.exp(self._sign * denominator)
        return Sample(
            run=run,
            launch=launch,
            value=top / bottom,
            numerator=top,
            denominator=bottom,
        )

    @property
    def _sign(self) -> int:
        if self.higher:
            return -1
        return 1

    def baseline(
        self,
        launches: Sequence[Sample],
        machines: Mapping[str, str] | None = None,
    ) -> Recorded:
        """A baseline of these launches.

        Args:
            machines: run -> machine; None where none is known.
        """
        definition = METRICS[self.case.metric]
        floor = self.policy.floor
        if self.case.is_ratio:
            floor = 0.0
        metric = MetricBaseline(
            unit=definition.unit,
            better=definition.better,
            definition=definition.definition,
            gate="hard",
            floor=floor,
            launches=tuple(launches),
        )
        return Recorded(
            path=Path("simulated"),
            identity={},
            context={},
            metric=metric,
            machines=machines or {},
            group=self.group,
        )

    def observation(self, launches: Sequence[Sample]) -> Observation:
        """What the run measured."""
        return Observation(
            run="now",
            hardware_label=self.label,
            identity={},
            context={},
            samples=tuple(launches),
            machine=HERE,
            judged_rows=self.judged_rows,
        )


@dataclass(frozen=True)
class Result:
    """How a trial ended.

    Attributes:
        launches: of the run, that decided.
    """

    outcome: Outcome
    launches: int


def decide(
    subject: Subject, baseline: Recorded, current: Sequence[Sample]
) -> Result:
    """The outcome by the product's comparison.

    Args:
        current: launches that all count: the first, and those that may be asked for.
    """
    narrowed = narrow_to(baseline, HERE, subject.policy)
    noise = narrowed.noise(subject.policy)
    outcome = Outcome.INVALID
    for count in (1, len(current)):
        observation = subject.observation(current[:count])
        comparison = Comparison(
            subject.case, observation, narrowed, noise, subject.policy
        )
        outcome = comparison.judgement(None).outcome
        if not comparison.needs_launches(outcome):
            return Result(outcome, count)
    return Result(outcome, len(current))


def decide_by_gate(
    subject: Subject, baseline: Recorded, current: Sequence[Sample]
) -> Result:
    """The outcome by the whole gate, for launches of which some do not count."""
    outcome = Outcome.INVALID
    for count in (1, len(current)):
        decision = judge(
            subject.case,
            subject.observation(current[:count]),
            baseline,
            subject.policy,
        )
        outcome = decision.outcome
        if not decision.needs_launches:
            return Result(outcome, count)
    return Result(outcome, len(current))


def samples(
    subject: Subject, losses: Iterable[float], run: str | None = None
) -> list[Sample]:
    """Launches with these losses, of one run, or else of a run each."""
    rows = []
    for number, loss in enumerate(losses):
        if run is None:
            name = f"run-{number:02}"
            rows.append(subject.sample(name, 0, float(loss)))
        else:
            rows.append(subject.sample(run, number, float(loss)))
    return rows


def judged(subject: Subject, draws: Draws, loss: float) -> Iterator[Result]:
    """The result of each trial at this true loss, as a fraction."""
    shift = log_loss(loss, subject.higher)
    has_gaps = bool(np.isnan(draws.current).any())
    for recorded, current in zip(draws.recorded, draws.current, strict=True):
        past = samples(subject, _without_gaps(recorded))
        baseline = subject.baseline(past)
        now = samples(subject, current + shift, "now")
        if has_gaps:
            yield decide_by_gate(subject, baseline, now)
        else:
            yield decide(subject, baseline, now)


def _without_gaps(losses: Array) -> Array:
    """Launches that do not count are not recorded."""
    return np.asarray(losses[~np.isnan(losses)])


@dataclass(frozen=True)
class Rates:
    """Shares of trials, as fractions.

    Attributes:
        outcomes: share of each outcome that occurred.
        again: trials in which more launches were asked for.
    """

    trials: int
    outcomes: Mapping[Outcome, float] = field(default_factory=dict)
    again: float = 0.0

    @property
    def red(self) -> float:
        """REGRESSED."""
        return self.outcomes.get(Outcome.REGRESSED, 0.0)

    @property
    def not_excluded(self) -> float:
        """NOT_EXCLUDED."""
        return self.outcomes.get(Outcome.NOT_EXCLUDED, 0.0)


def rates(results: Iterable[Result]) -> Rates:
    """How often each outcome occurs."""
    counts: Counter[Outcome] = Counter()
    repeated = 0
    for result in results:
        counts[result.outcome] += 1
        repeated += result.launches > 1
    trials = counts.total()
    shares = {outcome: count / trials for outcome, count in counts.items()}
    return Rates(trials, shares, repeated / trials)


def gate_rates(
    rng: np.random.Generator,
    subject: Subject,
    source: Source,
    recorded: int,
    loss: float,
    trials: int,
) -> Rates:
    """How often each outcome occurs at this true loss, as a fraction.

    Args:
        recorded: launches, one of each run.
    """
    draws = source.draw(rng, trials, recorded)
    return rates(judged(subject, draws, loss))
