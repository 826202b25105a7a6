"""Measured case: what was measured of one case, compared with each kind of baseline.

Metrics, published figures, shares of experts, answers and facts are compared each in
their own way; `perfgate.judge.gate` chooses the baseline.
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from perfgate import formatting
from perfgate.cases import Case, GateMode
from perfgate.errors import Failure
from perfgate.judge import (
    answer_shift,
    facts,
    portable,
    ratio,
    routing_shift,
    wording,
)
from perfgate.judge.answers import context_differences
from perfgate.judge.baseline_schema import MetricBaseline
from perfgate.judge.baseline_store import Baseline, Published, Recorded
from perfgate.judge.machine_scope import narrow_to, target_effect_of
from perfgate.judge.noise import (
    DECISION_LAUNCHES,
    fraction_of,
    log_loss,
    loss_of,
)
from perfgate.judge.observation import Observation
from perfgate.judge.policy import Policy
from perfgate.judge.recorded import Comparison
from perfgate.judge.verdict import Decision, Outcome
from perfgate.load.metrics import METRICS, Metric, family_of, is_exact
from perfgate.results.facts import SETTINGS
from perfgate.results.verdict import unit_of


class UnknownMetric(Failure):
    """A case asks for a metric that is not defined."""


def metric_of(case: Case) -> Metric:
    """The definition of the case's metric.

    Raises:
        UnknownMetric: no metric has that name.
    """
    try:
        return METRICS[case.metric]
    except KeyError:
        raise UnknownMetric(
            tried=f"judging {case.id}",
            seen=f"no metric is called {case.metric!r}",
            remedy=f"use one of {', '.join(sorted(METRICS))}",
        ) from None


def gate_mode(
    case: Case, policy: Policy, baseline_gate: GateMode = "hard"
) -> GateMode:
    """A metric is hard only where the case, the platform and the baseline all say so."""
    if (case.gate, policy.gate, baseline_gate) == ("hard", "hard", "hard"):
        return "hard"
    return "report"


@dataclass(frozen=True)
class MeasuredCase:
    """One case, what was measured of it, and the verdict by each kind of baseline.

    Losses are logarithms, positive if worse.
    """

    case: Case
    metric: Metric
    observation: Observation
    policy: Policy

    @property
    def higher(self) -> bool:
        """Whether more is better."""
        return self.metric.better == "higher"

    @property
    def unit(self) -> str:
        """Unit of the values; "x" for a ratio."""
        return unit_of(self.case.id, self.case.metric)

    @property
    def gate(self) -> GateMode:
        """Whether it can fail the run, by case and platform."""
        return gate_mode(self.case, self.policy)

    @property
    def valid_launches(self) -> int:
        """How many launches have a value."""
        return len(self.observation.values)

    def escalation(
        self, gate: GateMode, launches: int = DECISION_LAUNCHES - 1
    ) -> int:
        """How many launches to ask for; none where more of them would not say more.

        The same prompts go to the same experts on every launch, and take the same work.
        """
        if gate != "hard" or self.case.numerator.asks_routing:
            return 0
        if is_exact(self.case.metric):
            return 0
        return launches

    def loss(self, reference: float) -> float:
        """The loss (log) against a reference; for two-sided cases the size of the change."""
        loss = loss_of(self.observation.value, reference, self.higher)
        if self.case.two_sided:
            return abs(loss)
        return loss

    def decision(
        self,
        outcome: Outcome,
        gate: GateMode,
        summary: str,
        advice: str,
        details: Sequence[str] = (),
        **fields: object,
    ) -> Decision:
        """A verdict with what is the same for every outcome."""
        launches = formatting.count(self.valid_launches, "launch")
        run = self.observation.run
        source = wording.MEASURED_ON.format(launches=launches, run=run)
        if outcome is Outcome.INVALID and not self.valid_launches:
            source = wording.INVALID_RUN.format(run=run)
        if self.observation.injected and outcome is not Outcome.INVALID:
            advice = wording.INJECTED
        common = {
            "case": self.case.id,
            "experiment": self.case.experiment,
            "metric": self.case.metric,
            "outcome": outcome,
            "gate": gate,
            "unit": self.unit,
            "value": self.observation.value if self.valid_launches else None,
            "launches": self.valid_launches,
            "injected": self.observation.injected,
            "summary": summary,
            "details": [source, *details],
            "advice": advice,
        }
        return msgspec.convert(common | fields, Decision)

    def invalid(self) -> Decision | None:
        """The verdict if too little of what was measured is valid, else None."""
        readings = self.observation.samples
        if 2 * self.valid_launches > len(readings):
            return None
        if not readings:
            reason, remedy = self.observation.unmeasured
            summary = wording.UNMEASURED.format(reason=reason)
            advice = wording.UNMEASURED_ADVICE.format(remedy=remedy)
            return self.decision(Outcome.INVALID, self.gate, summary, advice)
        launches = formatting.count(len(readings), "launch")
        summary = wording.VALID_LAUNCHES.format(
            valid=self.valid_launches, launches=launches
        )
        details = []
        if self.observation.invalid:
            reasons = formatting.listed(self.observation.invalid)
            details = [wording.INVALID_REASONS.format(reasons=reasons)]
        was_repeated = any(reading.launch for reading in readings)
        is_first = self.valid_launches > 0 or not was_repeated
        needs_launches = 0
        if is_first and len(readings) < DECISION_LAUNCHES:
            needs_launches = self.escalation(self.gate)
        advice = wording.MEASURE_AGAIN
        if self.observation.was_cut_off:
            advice = wording.RESUME
        return self.decision(
            Outcome.INVALID,
            self.gate,
            summary,
            advice,
            details,
            needs_launches=needs_launches,
        )

    def collapsed(self) -> Decision | None:
        """The verdict if tokens go to hardly any experts, whatever was recorded; else None."""
        summary = routing_shift.collapse(
            self.case.metric, self.observation.shares
        )
        if summary is None:
            return None
        return self.decision(
            Outcome.REGRESSED, self.gate, summary, wording.ROUTER_WEIGHTS
        )

    def against(
        self, baseline: Baseline | None, today: datetime.date | None
    ) -> Decision:
        """The verdict by value alone."""
        if baseline is None:
            return self.no_baseline()
        if isinstance(baseline, Published):
            return self.against_published(baseline)
        return self.against_recorded(baseline, today)

    def no_baseline(self) -> Decision:
        """The verdict where nothing is recorded or published."""
        summary = wording.NO_BASELINE.format(
            label=self.observation.hardware_label
        )
        return self.decision(
            Outcome.NO_BASELINE, self.gate, summary, wording.ACCEPT
        )

    def against_published(self, baseline: Published) -> Decision:
        """A guard where the figure holds and was measured on the same; else a comparison."""
        figure = baseline.figure
        loss = self.loss(figure.value)
        threshold = log_loss(figure.tolerance, self.higher)
        change = self.observation.value / figure.value - 1
        numbers: dict[str, object] = {
            "reference": "published",
            "baseline": figure.value,
            "change": change,
            "worse_by": fraction_of(loss, self.higher),
            "threshold": figure.tolerance,
        }
        fields = {
            "change": formatting.change(change),
            "baseline": formatting.number(figure.value, self.unit),
            "source": figure.source,
            "tolerance": formatting.percent(figure.tolerance),
        }
        differences = formatting.listed(self.unlike_published(baseline))
        if differences and self.gate == "hard":
            label = self.observation.hardware_label
            summary = wording.PUBLISHED_UNLIKE.format(
                label=label, differences=differences, **fields
            )
            return self.decision(
                Outcome.NO_BASELINE,
                self.gate,
                summary,
                wording.ACCEPT,
                (),
                **numbers,
            )
        details = [wording.PUBLISHED_NOTE.format(note=figure.note)]
        if differences:
            details.append(
                wording.COMPARISON_ONLY.format(differences=differences)
            )
        outcome = Outcome.PASSED
        advice = wording.RECORD_OWN.format(case=self.case.id)
        if loss > threshold:
            outcome, advice = Outcome.REGRESSED, wording.PUBLISHED_LOSS
        elif loss < -threshold:
            outcome = Outcome.IMPROVED
        needs_launches = 0
        if outcome is Outcome.REGRESSED and self.valid_launches == 1:
            needs_launches = self.escalation(self.gate)
        return self.decision(
            outcome,
            self.gate,
            wording.PUBLISHED.format(**fields),
            advice,
            details,
            needs_launches=needs_launches,
            **numbers,
        )

    def unlike_published(self, baseline: Published) -> list[str]:
        """Why the published figure does not apply to what was measured."""
        published = dict(baseline.identity)
        known = {**self.observation.chosen, **self.observation.identity}
        identity = {}
        for name in published:
            identity[name] = known.get(name, "(none)")
        differences = formatting.differences(identity, published)
        if not baseline.figure.holds:
            differences.append(wording.DOES_NOT_HOLD)
        return differences

    def report_only_reason(self, comparison: Comparison) -> str:
        """Why a case that the study judges is report-only here; "" where it is judged."""
        if self.case.gate != "hard":
            return ""
        if self.policy.gate == "hard":
            return comparison.report_only_reason
        return wording.FAMILY_NOT_JUDGED.format(
            family=family_of(self.case.metric),
            label=self.observation.hardware_label,
        )

    def against_recorded(
        self, baseline: Recorded, today: datetime.date | None
    ) -> Decision:
        """The tight gate."""
        gate = gate_mode(self.case, self.policy, baseline.metric.gate)
        differences = self.incomparable(baseline)
        if differences:
            return self.against_another(baseline, gate, differences)
        if self.case.metric == routing_shift.SHARES:
            return self.against_shares(baseline, gate, today)
        if self.case.metric == answer_shift.METRIC:
            return self.against_answers(baseline, gate)
        if facts.is_judged_by_facts(self.case.metric):
            return self.against_facts(baseline, gate)
        baseline = narrow_to(baseline, self.observation.machine, self.policy)
        noise = dataclasses.replace(
            baseline.noise(self.policy),
            repetition_variance=self.observation.repetition_variance,
        )
        comparison = Comparison(
            self.case, self.observation, baseline, noise, self.policy
        )
        judgement = comparison.judgement(today)
        outcome = judgement.outcome
        needs_launches = self.escalation(
            gate, comparison.needs_launches(outcome)
        )
        return self.decision(
            outcome,
            gate,
            comparison.summary(judgement, self.unit),
            comparison.advice(judgement),
            [*self.operator_details(baseline), *comparison.details(judgement)],
            reference="recorded",
            baseline=noise.reference,
            change=comparison.change,
            worse_by=fraction_of(comparison.loss, self.higher),
            threshold=fraction_of(comparison.threshold, self.higher),
            target_effect=comparison.target_effect,
            mde=comparison.mde,
            excluded=comparison.excluded,
            allowed=fraction_of(comparison.allowed, self.higher),
            fail_over=comparison.fail_over,
            noise=noise.sigma,
            moved=ratio.moved_side(
                self.observation.sides, comparison.recorded_sides
            ),
            report_only_reason=self.report_only_reason(comparison),
            needs_launches=needs_launches,
        )

    def against_another(
        self, baseline: Recorded, gate: GateMode, differences: Sequence[str]
    ) -> Decision:
        """Both values, and no judgement: the baseline has another configuration."""
        summary = wording.INCOMPARABLE.format(
            file=baseline.path.name, differences=formatting.listed(differences)
        )
        advice = wording.ACCEPT_REPLACE.format(case=self.case.id)
        recorded_metric = baseline.metric
        numbers: Mapping[str, object] = {"reference": "recorded"}
        details = []
        is_same_metric = (self.metric.unit, self.metric.definition) == (
            recorded_metric.unit,
            recorded_metric.definition,
        )
        if is_same_metric:
            value = baseline.noise(self.policy).reference
            numbers = self.recorded_numbers(baseline)
            line = wording.VALUE_ALONE.format(
                change=formatting.change(self.observation.value / value - 1),
                baseline=formatting.number(value, self.unit),
            )
            details.append(line)
        return self.decision(
            Outcome.INCOMPARABLE, gate, summary, advice, details, **numbers
        )

    def recorded_numbers(self, baseline: Recorded) -> dict[str, object]:
        """Fields of a verdict: the recorded value, and the change from it as a fraction."""
        value = baseline.noise(self.policy).reference
        return {
            "reference": "recorded",
            "baseline": value,
            "change": self.observation.value / value - 1,
        }

    def against_shares(
        self, baseline: Recorded, gate: GateMode, today: datetime.date | None
    ) -> Decision:
        """Where the tokens went, layer by layer.

        The same prompts are sent each time, so one launch decides.
        """
        numbers = self.recorded_numbers(baseline)
        numbers["target_effect"] = target_effect_of(baseline, self.policy)
        shift = routing_shift.compare(
            self.observation.shares, baseline.metric, today
        )
        if shift is None:
            summary = wording.SHIFT_SHAPE.format(file=baseline.path.name)
            advice = wording.ACCEPT_SHAPE.format(case=self.case.id)
            return self.decision(
                Outcome.INCOMPARABLE, gate, summary, advice, (), **numbers
            )
        numbers |= {
            "worse_by": shift.drift.distance,
            "threshold": shift.drift.threshold,
        }
        return self.decision(
            shift.outcome,
            gate,
            shift.summary,
            shift.advice,
            shift.details,
            **numbers,
        )

    def against_answers(self, baseline: Recorded, gate: GateMode) -> Decision:
        """What the model answers to the fixed prompts; one launch decides."""
        numbers = self.recorded_numbers(baseline)
        shift = answer_shift.compare(
            answer_shift.of_samples(self.observation.samples),
            answer_shift.of_samples(baseline.metric.launches),
        )
        if shift is None:
            summary = wording.ANSWERS_UNKNOWN.format(file=baseline.path.name)
            advice = wording.ACCEPT_ANSWERS.format(case=self.case.id)
            return self.decision(
                Outcome.INCOMPARABLE, gate, summary, advice, (), **numbers
            )
        if shift.outcome is Outcome.REGRESSED:
            numbers |= {"worse_by": shift.share, "threshold": shift.allowed}
        return self.decision(
            shift.outcome, gate, shift.summary, shift.advice, (), **numbers
        )

    def compared_facts(self, baseline: Recorded) -> facts.Comparison | None:
        """The facts of this run against the recorded ones; None without any."""
        samples = self.observation.samples
        current: Sequence[facts.Facts] = [
            row.facts for row in samples if row.value is not None
        ]
        recorded = [row.facts for row in baseline.metric.launches]
        if self.case.metric == SETTINGS:
            current = facts.of_known_names(current, recorded)
        return facts.compare(current, recorded)

    def against_facts(self, baseline: Recorded, gate: GateMode) -> Decision:
        """Which of the launch's facts are not the recorded ones: one launch decides."""
        numbers = self.recorded_numbers(baseline)
        comparison = self.compared_facts(baseline)
        if comparison is None:
            summary = wording.FACTS_UNKNOWN.format(file=baseline.path.name)
            advice = wording.ACCEPT_REPLACE.format(case=self.case.id)
            return self.decision(
                Outcome.INCOMPARABLE, gate, summary, advice, (), **numbers
            )
        advice = ""
        if comparison.changes:
            advice = wording.LOOK_AT_FACTS.format(case=self.case.id)
        return self.decision(
            comparison.outcome,
            gate,
            comparison.summary,
            advice,
            [_baseline_of_facts(baseline), *self.context_details(baseline)],
            **numbers,
        )

    def context_details(self, baseline: Recorded) -> list[str]:
        """What is not as it was recorded, and may be otherwise: versions, machine."""
        changed = context_differences(
            self.observation.context, baseline.context
        )
        if not changed:
            return []
        return [wording.CONTEXT.format(changes=formatting.listed(changed))]

    def operator_details(self, baseline: Recorded) -> list[str]:
        """Which operators were called more or less often, where they were counted."""
        if self.case.metric == "work_instructions":
            return [wording.INSTRUCTIONS_ARE_NO_TIME]
        comparison = self.compared_facts(baseline)
        if comparison is None:
            return []
        if not comparison.changes:
            return [wording.SAME_OPERATORS]
        changes = comparison.changes_text
        return [wording.OPERATORS.format(changes=changes)]

    def incomparable(self, baseline: Recorded) -> list[str]:
        """Differences that forbid the comparison."""
        differences = formatting.differences(
            self.observation.identity, baseline.identity
        )
        differences += formatting.differences(
            _definition(self.metric), _definition(baseline.metric)
        )
        differences += formatting.differences(
            portable.python_of(self.case.metric, self.observation.context),
            portable.python_of(self.case.metric, baseline.context),
        )
        return differences


def _baseline_of_facts(baseline: Recorded) -> str:
    """How many launches the facts were recorded on."""
    metric = baseline.metric
    return wording.BASELINE.format(
        launches=formatting.count(len(metric.launches), "launch"),
        runs=formatting.count(metric.runs, "run"),
    )


def _definition(metric: Metric | MetricBaseline) -> Mapping[str, str]:
    return {
        "unit": metric.unit,
        "better": metric.better,
        "definition": metric.definition,
    }
