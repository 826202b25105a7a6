"""Comparison with a recorded baseline: the loss, its threshold, and whether it is a regression.

The last step of a judgement: the case is measured, comparable, and has a recorded
baseline.
"""

from __future__ import annotations

import datetime
import math
from dataclasses import dataclass

from perfgate import formatting
from perfgate.cases import Case
from perfgate.judge import ratio, wording
from perfgate.judge.baseline_schema import Known
from perfgate.judge.baseline_store import Recorded
from perfgate.judge.noise import (
    DECISION_LAUNCHES,
    ESTABLISHED_LAUNCHES,
    ESTABLISHED_RUNS,
    Noise,
    coefficient_of_variation,
    fast_pass_threshold,
    launches_needed,
    log_loss,
    loss_threshold,
)
from perfgate.judge.observation import Observation
from perfgate.judge.policy import Policy
from perfgate.judge.verdict import GREEN, Outcome
from perfgate.results.samples import Side, sides_of

# Launches of one run that vary this many times as much as the baseline's are unsteady.
UNSTEADY = 3.0


@dataclass(frozen=True)
class Judgement:
    """The outcome, and the accepted loss that it depends on.

    Attributes:
        known: the accepted loss; None where the baseline has none.
        objection: why it does not excuse the loss of this run.
    """

    outcome: Outcome
    known: Known | None = None
    objection: str = ""


@dataclass(frozen=True)
class Comparison:
    """A run against recorded launches. Losses are logarithms, positive if worse."""

    case: Case
    observation: Observation
    baseline: Recorded
    noise: Noise

    @property
    def higher(self) -> bool:
        """Whether a larger value is better."""
        return self.baseline.metric.better == "higher"

    @property
    def change(self) -> float:
        """The value's change from the baseline, as a fraction."""
        return self.observation.value / self.noise.reference - 1

    @property
    def recorded_sides(self) -> list[Side]:
        """Both sides of a ratio on each recorded launch."""
        return sides_of(self.baseline.metric.launches)

    @property
    def loss(self) -> float:
        """The loss; for two-sided cases the size of the change."""
        change = math.log(self.observation.value / self.noise.reference)
        if self.case.two_sided:
            return abs(change)
        if self.case.is_ratio:
            moved = ratio.moves(self.observation.sides, self.recorded_sides)
            return ratio.loss(change, moved, self.higher, self.threshold / 2)
        if self.higher:
            return -change
        return change

    @property
    def threshold(self) -> float:
        """The loss beyond which it is a regression, on as many launches as there are."""
        target = self.baseline.metric.target_effect
        return loss_threshold(
            target, self.noise, len(self.observation.values), self.higher
        )

    @property
    def fast_pass_threshold(self) -> float:
        """The loss up to which a first launch passes alone."""
        return fast_pass_threshold(
            self.baseline.metric.target_effect, self.noise, self.higher
        )

    @property
    def mde(self) -> float:
        """Minimum detectable effect of as many launches, as a fraction."""
        return self.noise.mde(self.higher, len(self.observation.values))

    @property
    def is_above_floor(self) -> bool:
        """Whether the difference, in the metric's unit, is large enough to count."""
        return self._difference > self.baseline.metric.floor

    @property
    def _difference(self) -> float:
        return abs(self.observation.value - self.noise.reference)

    @property
    def is_unsteady(self) -> bool:
        """Whether the launches of this run vary by more than the noise explains."""
        values = self.observation.values
        limit = max(UNSTEADY * self.noise.sigma, self.threshold)
        if len(values) < DECISION_LAUNCHES:
            return False
        return coefficient_of_variation(values) > limit

    def judgement(self, today: datetime.date | None) -> Judgement:
        """The outcome, with regard to a loss that is accepted until a day."""
        plain = self._plain_outcome()
        known = self.baseline.metric.known
        if known is None:
            return Judgement(plain)
        if self.loss <= self.threshold / 2:
            return Judgement(Outcome.INVALID, known)
        if plain is not Outcome.REGRESSED:
            return Judgement(plain, known)
        objection = self._objection(known, today)
        if objection:
            return Judgement(Outcome.REGRESSED, known, objection)
        return Judgement(Outcome.PASSED, known)

    def _plain_outcome(self) -> Outcome:
        if not self.is_above_floor:
            return Outcome.PASSED
        if self.loss > self.threshold:
            if self.is_unsteady:
                return Outcome.INCONCLUSIVE
            return Outcome.REGRESSED
        if self.loss < -self.threshold:
            return Outcome.IMPROVED
        return Outcome.PASSED

    def _objection(self, known: Known, today: datetime.date | None) -> str:
        """Why the accepted loss does not excuse this one; "" where it does."""
        day = today or datetime.date.today()
        if day > datetime.date.fromisoformat(known.until):
            return wording.KNOWN_EXPIRED
        if known.change is not None and (self.change > 0) != (known.change > 0):
            return wording.KNOWN_OTHER_WAY
        if self.loss > log_loss(known.worse_by, self.higher) + self.threshold:
            return wording.KNOWN_WORSE
        return ""

    def report_only_reason(self, policy: Policy, outcome: Outcome) -> str:
        """Why a case that the study judges is report-only here; "" where it is judged."""
        metric = self.baseline.metric
        if metric.gate != "hard":
            return metric.reason or wording.SET_IN_BASELINE
        widest = max(metric.target_effect, self.mde)
        # A loss beyond the threshold is more than the noise hides, and fails the run.
        is_within_policy = widest <= policy.without_reason
        if metric.reason or is_within_policy or outcome not in GREEN:
            return ""
        return wording.TOO_NOISY

    def needs_launches(self, outcome: Outcome) -> int:
        """Two after a single launch that does not pass alone, else none: asked for once."""
        if len(self.observation.values) != 1:
            return 0
        is_doubtful = self.loss > self.fast_pass_threshold
        if self.baseline.metric.known is not None:
            is_doubtful = outcome in (Outcome.REGRESSED, Outcome.INVALID)
        is_large = 2 * self._difference > self.baseline.metric.floor
        if is_doubtful and is_large:
            return DECISION_LAUNCHES - 1
        return 0

    def summary(self, judgement: Judgement, unit: str) -> str:
        """What was decided, with change, baseline and threshold."""
        fields = {
            "change": formatting.change(self.change),
            "baseline": formatting.number(self.noise.reference, unit),
        }
        known = judgement.known
        if known is not None and judgement.outcome is Outcome.INVALID:
            worse_by = formatting.percent(known.worse_by)
            return wording.KNOWN_GONE.format(worse_by=worse_by, **fields)
        either_way = self.case.is_ratio
        limit = wording.threshold(self.threshold, self.higher, either_way)
        return wording.AGAINST_RECORDED.format(threshold=limit, **fields)

    def details(self, judgement: Judgement) -> list[str]:
        """What qualifies the decision, a sentence each."""
        metric = self.baseline.metric
        lines = []
        if judgement.known is not None:
            lines.append(_about_known(judgement.known))
        if judgement.objection:
            lines.append(judgement.objection)
        lines += ratio.side_details(
            self.case, metric.unit, self.observation.sides, self.recorded_sides
        )
        lines += self._about_baseline()
        lines.append(self._about_effect())
        if not self.noise.established:
            lines.append(self._about_provisional())
        if self.loss > self.threshold and not self.is_above_floor:
            floor = formatting.number(metric.floor, metric.unit)
            lines.append(wording.BELOW_FLOOR.format(floor=floor))
        if self.is_unsteady:
            lines.append(self._about_variation())
        if self.observation.invalid:
            reasons = formatting.listed(self.observation.invalid)
            lines.append(wording.NOT_COUNTED.format(reasons=reasons))
        changed = formatting.differences(
            self.observation.context, self.baseline.context
        )
        if changed:
            lines.append(
                wording.CONTEXT.format(changes=formatting.listed(changed))
            )
        return lines

    def _about_baseline(self) -> list[str]:
        """How many launches the baseline rests on, and on which machines."""
        machine = self.observation.machine
        counted_machines = self.baseline.counted_machines
        if counted_machines:
            line = wording.BASELINE_ELSEWHERE.format(
                machines=formatting.count(counted_machines, "machine"),
                machine=machine,
            )
            return [line]
        template = wording.BASELINE
        if self.baseline.only_machine:
            template = wording.BASELINE_HERE
        launches = formatting.count(self.noise.launches, "launch")
        runs = formatting.count(self.noise.runs, "run")
        lines = [template.format(launches=launches, runs=runs, machine=machine)]
        if self.noise.pooled_machines:
            pooled = formatting.count(
                self.noise.pooled_machines, "other machine"
            )
            lines.append(wording.POOLED.format(machines=pooled))
        return lines

    def _about_effect(self) -> str:
        """Which loss is caught; a provisional baseline detects no more than it can."""
        target = self.baseline.metric.target_effect
        template = wording.EFFECT
        if not self.noise.established and self.mde > target:
            template = wording.EFFECT_LATER
        return template.format(
            target=formatting.percent(target), mde=formatting.percent(self.mde)
        )

    def _about_provisional(self) -> str:
        template = wording.PROVISIONAL
        if self.baseline.only_machine or self.baseline.counted_machines:
            template = wording.PROVISIONAL_HERE
        return template.format(
            launches=ESTABLISHED_LAUNCHES, runs=ESTABLISHED_RUNS
        )

    def _about_variation(self) -> str:
        values = self.observation.values
        texts = [formatting.number(value) for value in values]
        variation = coefficient_of_variation(values)
        return wording.UNSTEADY.format(
            variation=formatting.percent(variation), values=", ".join(texts)
        )

    def advice(self, judgement: Judgement) -> str:
        """What to do next; "" where nothing is."""
        outcome = judgement.outcome
        if outcome is Outcome.INVALID:
            return wording.ACCEPT_ANEW.format(case=self.case.id)
        if outcome is Outcome.IMPROVED:
            return wording.ACCEPT_GAIN.format(case=self.case.id)
        if outcome is Outcome.REGRESSED:
            return wording.ACCEPT_LOSS.format(case=self.case.id)
        if outcome is not Outcome.INCONCLUSIVE:
            return ""
        launches = launches_needed(
            self.noise, self.baseline.metric.target_effect, self.higher
        )
        if launches is None:
            return wording.QUIET_MACHINE
        return wording.QUIET_MACHINE_LAUNCHES.format(launches=launches)


def _about_known(known: Known) -> str:
    worse_by = formatting.percent(known.worse_by)
    return wording.KNOWN.format(
        worse_by=worse_by, until=known.until, reason=known.reason
    )
