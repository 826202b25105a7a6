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
from perfgate.judge.answers import context_differences
from perfgate.judge.baseline_schema import Known
from perfgate.judge.baseline_store import Recorded
from perfgate.judge.machine_scope import target_effect_of
from perfgate.judge.mixture import Mixture, mixture
from perfgate.judge.noise import (
    DECISION_LAUNCHES,
    EXCLUSION,
    Noise,
    coefficient_of_variation,
    fast_pass_threshold,
    fraction_of,
    launches_needed,
    launches_to_exclude,
    log_loss,
    loss_of,
    loss_threshold,
    row_alpha,
    t_quantile,
)
from perfgate.judge.observation import Observation
from perfgate.judge.policy import Policy
from perfgate.judge.portable import ANY_CPU
from perfgate.judge.verdict import Outcome
from perfgate.results.samples import Side, sides_of

# Launches of one run that vary this many times as much as the baseline's are unsteady.
UNSTEADY = 3.0
# Chance that unsteady launches of unchanged code show a loss beyond the threshold.
DOUBT = 0.005
# Of a rate, as a fraction: a floor may be larger than the recorded value.
LARGEST_LOSS = 0.999


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
    policy: Policy

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
        value, reference = self.observation.value, self.noise.reference
        if self.case.is_ratio and not self.case.two_sided:
            change = math.log(value / reference)
            moved = ratio.moves(self.observation.sides, self.recorded_sides)
            return ratio.loss(change, moved, self.higher, self.threshold / 2)
        loss = loss_of(value, reference, self.higher)
        if self.case.two_sided:
            return abs(loss)
        return loss

    @property
    def _open_loss(self) -> float:
        """The loss from which the margin counts: a ratio's gain may hide that of a side."""
        if not self.case.is_ratio or self.loss > 0:
            return self.loss
        change = math.log(self.observation.value / self.noise.reference)
        moved = ratio.moves(self.observation.sides, self.recorded_sides)
        return ratio.left_open(change, moved, self.higher)

    @property
    def target_effect(self) -> float:
        """The loss to catch, as a fraction."""
        return target_effect_of(self.baseline, self.policy)

    @property
    def ceiling(self) -> float:
        """The largest loss, as a fraction, that may pass: the policy's or the owner's."""
        return max(self.policy.fail_over, self.target_effect)

    @property
    def alpha(self) -> float:
        """False alarms that the threshold allows; a ratio may move in two directions."""
        alpha = row_alpha(self.observation.judged_rows)
        if self.case.is_ratio or self.case.two_sided:
            return alpha / 2
        return alpha

    @property
    def threshold(self) -> float:
        """The loss beyond which it is a regression, on as many launches as there are."""
        return self.threshold_of(len(self.observation.values))

    def threshold_of(self, launches: int) -> float:
        """The threshold with so many launches."""
        return loss_threshold(
            self.target_effect,
            self.noise,
            launches,
            self.higher,
            self.alpha,
            self.ceiling,
        )

    @property
    def fast_pass_threshold(self) -> float:
        """The loss up to which a first launch passes alone."""
        return fast_pass_threshold(
            self.target_effect,
            self.noise,
            self.higher,
            self.alpha,
            self.ceiling,
        )

    @property
    def margin(self) -> float:
        """What the loss may be larger than it looks.

        Launches that vary by more than the noise explains say themselves how far their
        mean may be off.
        """
        margin = self.noise.margin(len(self.observation.values))
        if not self.is_unsteady:
            return margin
        return max(margin, self._own_bound(EXCLUSION))

    @property
    def mde(self) -> float:
        """Minimum detectable effect of as many launches, as a fraction."""
        return fraction_of(self.threshold + self.margin, self.higher)

    @property
    def excluded(self) -> float:
        """The smallest loss that is excluded, as a fraction; 0 where any is."""
        return max(0.0, fraction_of(self._open_loss + self.margin, self.higher))

    @property
    def _floor_loss(self) -> float:
        """The loss of which the floor is the difference, on the side where the value is."""
        share = self.baseline.metric.floor / self.noise.reference
        falls = self.higher
        if self.case.is_ratio or self.case.two_sided:
            falls = self.change < 0
        if falls:
            share = min(share, LARGEST_LOSS)
        return log_loss(share, falls)

    @property
    def allowed(self) -> float:
        """The loss beyond which it cannot pass: of threshold and ceiling the smaller one.

        Never below the floor.
        """
        ceiling = log_loss(self.ceiling, self.higher)
        return max(min(self.threshold, ceiling), self._floor_loss)

    @property
    def _limit(self) -> float:
        """The loss that must be excluded: the ceiling, or the floor where that is more."""
        return max(log_loss(self.ceiling, self.higher), self._floor_loss)

    @property
    def fail_over(self) -> float:
        """The loss that must be excluded, as a fraction."""
        return fraction_of(self._limit, self.higher)

    @property
    def is_excluded(self) -> bool:
        """Whether a loss above the ceiling, or of more than the floor, is excluded."""
        return self._open_loss + self.margin <= self._limit

    @property
    def is_above_floor(self) -> bool:
        """Whether the difference, in the metric's unit, is large enough to count."""
        return self._difference > self.baseline.metric.floor

    @property
    def _difference(self) -> float:
        return abs(self.observation.value - self.noise.reference)

    @property
    def is_unsteady(self) -> bool:
        """Whether the launches of this run vary by more than the noise explains.

        Of two starts one may be cold, and the other warm: that is no contradiction.
        """
        values = self.observation.values
        if self.policy.fixed_cv is not None and len(values) < DECISION_LAUNCHES:
            return False
        limit = max(UNSTEADY * self.noise.sigma, self.threshold)
        return coefficient_of_variation(values) > limit

    @property
    def is_clear(self) -> bool:
        """Whether these launches show the loss by themselves, however much they vary."""
        return self.loss - self._own_bound(1 - DOUBT) > self.threshold

    def _own_bound(self, confidence: float) -> float:
        """How far (log) the mean of these launches may be off, as they alone tell."""
        values = self.observation.values
        error = coefficient_of_variation(values) / math.sqrt(len(values))
        return t_quantile(len(values) - 1, confidence) * error

    @property
    def mixed(self) -> Mixture | None:
        """Slow launches beside launches that match the baseline; None without a mixture."""
        if not self.is_unsteady or self.case.is_ratio or self.case.two_sided:
            return None
        return mixture(
            self.observation.values,
            self.noise.reference,
            self.threshold_of(1),
            self.higher,
        )

    @property
    def is_slow_throughout(self) -> bool:
        """Whether each launch alone is beyond the threshold, however much they differ."""
        if self.case.is_ratio or self.case.two_sided:
            return False
        threshold = self.threshold_of(1)
        return all(
            loss_of(value, self.noise.reference, self.higher) > threshold
            for value in self.observation.values
        )

    def judgement(self, today: datetime.date | None) -> Judgement:
        """The outcome, with regard to a loss that is accepted until a day."""
        plain = self._plain_outcome()
        known = self.baseline.metric.known
        if known is None:
            return Judgement(plain)
        if self._is_gone(known):
            return Judgement(Outcome.INVALID, known)
        if plain is not Outcome.REGRESSED:
            return Judgement(plain, known)
        objection = self._objection(known, today)
        if objection:
            return Judgement(Outcome.REGRESSED, known, objection)
        return Judgement(Outcome.PASSED, known)

    def _plain_outcome(self) -> Outcome:
        if self.is_above_floor and self.loss > self.threshold:
            is_doubtful = self.is_unsteady and not self.is_clear
            is_seen = self.mixed is not None or self.is_slow_throughout
            if is_doubtful and not is_seen:
                return Outcome.INCONCLUSIVE
            return Outcome.REGRESSED
        is_in_doubt = self.is_unsteady and not self.is_excluded
        is_gain = self.is_above_floor and self.loss < -self.threshold
        if is_gain and not is_in_doubt:
            return Outcome.IMPROVED
        if not self.is_excluded:
            return Outcome.NOT_EXCLUDED
        return Outcome.PASSED

    def _is_gone(self, known: Known) -> bool:
        """Whether the accepted loss is no longer there.

        Where machines are compared, half of the threshold may be more than that loss.
        """
        if self.loss > self.threshold / 2:
            return False
        accepted = log_loss(known.worse_by, self.higher)
        return self.loss + self.margin < accepted

    def _objection(self, known: Known, today: datetime.date | None) -> str:
        """Why the accepted loss does not excuse this one; "" where it does."""
        if known.is_over(today):
            return wording.KNOWN_EXPIRED
        if known.is_other_way(self.change > 0):
            return wording.KNOWN_OTHER_WAY
        if self.loss > log_loss(known.worse_by, self.higher) + self.threshold:
            return wording.KNOWN_WORSE
        return ""

    @property
    def report_only_reason(self) -> str:
        """Why a case that the study judges is report-only here; "" where it is judged."""
        metric = self.baseline.metric
        if metric.gate == "hard":
            return ""
        return metric.reason or wording.SET_IN_BASELINE

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
        limits = wording.limits(self.threshold, self.higher, self.case.is_ratio)
        extra = formatting.extra_digits(self.change, limits)
        fields = {
            "change": formatting.change(self.change, extra),
            "baseline": formatting.number(self.noise.reference, unit),
        }
        known = judgement.known
        if known is not None and judgement.outcome is Outcome.INVALID:
            worse_by = formatting.percent(known.worse_by)
            return wording.KNOWN_GONE.format(worse_by=worse_by, **fields)
        fields["threshold"] = wording.threshold(limits, extra)
        template = wording.AGAINST_RECORDED
        if judgement.outcome is Outcome.PASSED and known is None:
            template = wording.PASSED
        elif judgement.outcome is Outcome.NOT_EXCLUDED:
            template = wording.NOT_EXCLUDED
        extra = formatting.extra_digits(self.excluded, [self.fail_over])
        text = template.format(
            excluded=formatting.percent(self.excluded, extra),
            ceiling=formatting.percent(self.fail_over, extra),
            **fields,
        )
        if judgement.outcome is Outcome.REGRESSED and self.mixed is not None:
            text += f"; {self.mixed.sentence(self.higher)}"
        if known is not None and self._plain_outcome() is Outcome.REGRESSED:
            return wording.with_known(
                text, "loss", known.worse_by, known.until, judgement.objection
            )
        return text

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
        lines.append(self._about_noise())
        if self.noise.is_widened:
            lines.append(self._about_repetitions())
        lines.append(self._about_effect())
        lines += self._about_ceiling()
        if self.loss > self.threshold and not self.is_above_floor:
            floor = formatting.number(metric.floor, metric.unit)
            lines.append(wording.BELOW_FLOOR.format(floor=floor))
        if self.is_unsteady:
            lines.append(self._about_variation())
        if self.observation.invalid:
            reasons = formatting.listed(self.observation.invalid)
            lines.append(wording.NOT_COUNTED.format(reasons=reasons))
        changed = context_differences(
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
        if self.observation.hardware_label == ANY_CPU:
            template = wording.BASELINE_ANY_CPU
        launches = formatting.count(self.noise.launches, "launch")
        runs = formatting.count(self.noise.runs, "run")
        lines = [template.format(launches=launches, runs=runs, machine=machine)]
        if self.noise.pooled_machines:
            pooled = formatting.count(
                self.noise.pooled_machines, "other machine"
            )
            lines.append(wording.POOLED.format(machines=pooled))
        return lines

    def _about_noise(self) -> str:
        """How much launches vary, or machines, and from what that is known."""
        what, within = "Launches", ""
        if self.baseline.counted_machines:
            what = "Machines"
        if self.noise.within:
            variation = formatting.percent(math.sqrt(self.noise.within))
            within = wording.NOISE_WITHIN.format(within=variation)
        fields = {
            "what": what,
            "noise": formatting.percent(self.noise.sigma),
            "freedom": formatting.number(self.noise.degrees_of_freedom),
        }
        template = wording.NOISE
        if self.noise.prior is not None:
            fields["prior"] = formatting.percent(self.noise.prior.cv)
            template = wording.NOISE_LEARNED
        elif not self.noise.established:
            fields["assumed"] = formatting.percent(self.policy.assumed_cv)
            template = wording.NOISE_ASSUMED
        return template.format(**fields) + within

    def _about_repetitions(self) -> str:
        """That repetitions scatter by more than launches usually do."""
        deviation = math.sqrt(self.noise.repetition_variance)
        return wording.REPETITIONS_SCATTER.format(
            deviation=formatting.percent(deviation)
        )

    def _about_effect(self) -> str:
        """Which loss is to be caught, and which one would be."""
        return wording.EFFECT.format(
            target=formatting.percent(self.target_effect),
            mde=formatting.percent(self.mde),
            alarms=f"{100 * self.alpha:.2g} %",
        )

    def _about_ceiling(self) -> list[str]:
        """Where target effect, floor or noise leave the ceiling without effect."""
        ceiling = formatting.percent(self.fail_over)
        lines = []
        if self.fail_over > self.ceiling:
            metric = self.baseline.metric
            floor = formatting.number(metric.floor, metric.unit)
            lines.append(
                wording.CEILING_OF_FLOOR.format(floor=floor, ceiling=ceiling)
            )
        elif self.policy.fail_over < self.target_effect:
            lines.append(wording.CEILING_RAISED.format(ceiling=ceiling))
        threshold = fraction_of(self.threshold, self.higher)
        if threshold > self.fail_over:
            lines.append(
                wording.CEILING_HIDDEN.format(
                    ceiling=ceiling, threshold=formatting.percent(threshold)
                )
            )
        return lines

    def _about_variation(self) -> str:
        values = self.observation.values
        texts = [formatting.number(value) for value in values]
        variation = coefficient_of_variation(values)
        return wording.UNSTEADY.format(
            variation=formatting.percent(variation), values=", ".join(texts)
        )

    def advice(self, judgement: Judgement) -> str:
        """What to do next; "" where nothing is."""
        templates = {
            Outcome.INVALID: wording.ACCEPT_ANEW,
            Outcome.IMPROVED: wording.ACCEPT_GAIN,
            Outcome.REGRESSED: wording.ACCEPT_LOSS,
        }
        outcome = judgement.outcome
        if outcome in templates:
            return templates[outcome].format(case=self.case.id)
        if outcome is Outcome.NOT_EXCLUDED:
            return self._advice_to_see()
        if outcome is Outcome.INCONCLUSIVE:
            return self._advice_to_quiet()
        return ""

    def _advice_to_quiet(self) -> str:
        """What would make the launches agree."""
        launches = launches_needed(self.noise, self.target_effect, self.higher)
        if launches is None:
            return wording.QUIET_MACHINE
        count = formatting.count(launches, "recorded launch")
        return wording.QUIET_MACHINE_LAUNCHES.format(launches=count)

    def _advice_to_see(self) -> str:
        """What would exclude a loss above the ceiling."""
        if self.is_unsteady:
            return self._advice_to_quiet()
        needed = launches_to_exclude(self.noise, self._limit)
        fields = {"ceiling": formatting.percent(self.fail_over)}
        if needed is None:
            return wording.TOO_NOISY.format(**fields)
        recorded, current = needed
        if recorded > self.noise.launches:
            more = recorded - self.noise.launches
            count = formatting.count(more, "more launch")
            return wording.RECORD_MORE.format(launches=count, **fields)
        launched = len(self.observation.values)
        if launched >= DECISION_LAUNCHES:
            # As many would do for an unchanged value: the loss itself leaves it open.
            return wording.CLOSE_TO_CEILING.format(**fields)
        if current <= launched:
            current = DECISION_LAUNCHES
        return wording.LAUNCH_MORE.format(launches=current, **fields)


def _about_known(known: Known) -> str:
    worse_by = formatting.percent(known.worse_by)
    return wording.KNOWN.format(
        worse_by=worse_by, until=known.until, reason=known.reason
    )
