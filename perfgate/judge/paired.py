"""Paired comparison (A/B): a candidate against a base build, launched in turn.

For those who change an engine: the base build and the candidate are launched in turn in
one session (ABBAAB) and judged in pairs. What the machine does that day falls on both
and cancels, so no stored baseline is needed, and less noise is left than in any
comparison with one. The threshold follows the target effect, not the noise of this
machine: a loss beyond it counts only where the variation of the pairs leaves little
doubt that there is one at all, and a case has passed only where it leaves as little
that the target effect is not there. Three pairs know their own variation badly: where
they happen to agree, the assumed variation of the metric counts as one more pair, and a
loss that they leave in doubt is worth three more, once; then all six decide.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from perfgate import formatting
from perfgate.cases import Case
from perfgate.judge import answer_shift, choices, plausibility, ratio, wording
from perfgate.judge.answers import context_differences
from perfgate.judge.noise import (
    THRESHOLD_SHARE,
    fraction_of,
    log_loss,
    loss_of,
    t_quantile,
)
from perfgate.judge.observation import (
    NOT_MEASURED,
    NOT_REACHED,
    Observation,
    RunReader,
)
from perfgate.judge.policy import Policy, policy_for
from perfgate.judge.verdict import Decision, Outcome
from perfgate.load.metrics import METRICS, Metric
from perfgate.results.samples import mean_of
from perfgate.results.verdict import unit_of

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]

PAIRS = 3
# One-sided: so many unchanged cases at most are called slower, however noisy the
# machine is.
DOUBT = 0.05
ASSUMED_PAIRS = 1  # weight of the assumed variation, in pairs
Pair = tuple[float, float]


def judge_paired(reader: RunReader, case: Case) -> Decision:
    """Judge a case of a run in which base and candidate were launched in turn."""
    candidate, base = reader.observe(case), reader.observe(case.base)
    target_effect = reader.results.target_effect
    return _judge_builds(case, candidate, base, target_effect)


def judge_pooled(
    pooled: RunReader, machines: Sequence[RunReader], case: Case
) -> Decision:
    """Judge a case of several machines together; each pair is of one of them.

    Args:
        pooled: their runs as one. machines: the run of each.
    """
    candidate, base = pooled.observe(case), pooled.observe(case.base)
    pairs: list[Pair] = []
    for reader in machines:
        pairs += pairs_of(reader.observe(case.base), reader.observe(case))
    target_effect = pooled.results.target_effect
    return _judge_builds(case, candidate, base, target_effect, pairs=pairs)


def judge_candidate(
    reader: RunReader, case: Case, target_effect: float | None
) -> Decision:
    """Judge a suspect case of a screened run by the pairs that it was launched in.

    A ratio is judged by the direction in which one of its sides lost something. A pass
    that leaves the target effect possible is no pass: the screen did not clear it.

    Args:
        target_effect: the loss to be caught; None: the policy's.
    """
    candidate, base = reader.observe(case.candidate), reader.observe(case.base)
    metric = _directed(case, candidate, base, target_effect)
    decision = _judge_builds(case, candidate, base, target_effect, metric)
    if decision.outcome is Outcome.NOT_EXCLUDED and decision.gate == "hard":
        decision = _worth_more_pairs(decision)
    if not case.is_ratio:
        return decision
    moved = ratio.moved_side(candidate.sides, base.sides)
    return msgspec.structs.replace(decision, moved=moved)


def _worth_more_pairs(decision: Decision) -> Decision:
    """What leaves a loss of the target size possible is worth more pairs, once."""
    needs_launches = 0
    if decision.launches == PAIRS:
        needs_launches = PAIRS
    return msgspec.structs.replace(
        decision, advice=wording.MORE_PAIRS, needs_launches=needs_launches
    )


def _policy_of_builds(case: Case, hardware_label: str) -> Policy:
    """The policy of one build over another."""
    arrivals = case.numerator.arrivals
    return policy_for(
        hardware_label, case.metric, ratio=True, arrivals=arrivals
    )


def _directed(
    case: Case,
    candidate: Observation,
    base: Observation,
    target_effect: float | None,
) -> Metric:
    """The metric, for a ratio with the direction in which a side lost something."""
    metric = METRICS[case.metric]
    if not case.is_ratio or not candidate.values or not base.values:
        return metric
    if target_effect is None:
        label = candidate.hardware_label
        target_effect = _policy_of_builds(case, label).paired
    is_higher = metric.better == "higher"
    tolerance = THRESHOLD_SHARE * log_loss(target_effect, is_higher) / 2
    moved = None
    if not case.two_sided:
        moved = ratio.moves(candidate.sides, base.sides)
    change = math.log(candidate.value / base.value)
    loss = ratio.loss(change, moved, is_higher, tolerance)
    if (change < 0) == (loss > 0):
        return msgspec.structs.replace(metric, better="higher")
    return msgspec.structs.replace(metric, better="lower")


def _judge_builds(
    case: Case,
    candidate: Observation,
    base: Observation,
    target_effect: float | None,
    metric: Metric | None = None,
    pairs: Sequence[Pair] | None = None,
) -> Decision:
    policy = _policy_of_builds(case, candidate.hardware_label)
    if policy.gate != "hard":
        case = msgspec.structs.replace(case, gate="report")
    details = _details_of(candidate, base)
    if pairs is None:
        pairs = pairs_of(base, candidate)
    decision = judge_pairs(
        case, pairs, candidate.hardware_label, target_effect, details, metric
    )
    if case.metric == answer_shift.METRIC:
        decision = _by_answers(decision, candidate, base)
    decision = plausibility.checked(
        decision, case, candidate, plausibility.Reference(base.context)
    )
    decision = msgspec.structs.replace(decision, injected=candidate.injected)
    return choices.explained(decision, candidate, base.chosen)


def pairs_of(base: Observation, candidate: Observation) -> list[Pair]:
    """(base, candidate) of the launches that were neighbours, where both count.

    A launch that does not count takes its neighbour with it: beside another one, what
    the machine does from pair to pair would not cancel.
    """
    pairs = []
    for old, new in zip(_in_turn(base), _in_turn(candidate), strict=False):
        if old is not None and new is not None:
            pairs.append((old, new))
    return pairs


def _in_turn(observation: Observation) -> list[float | None]:
    """The value of each launch of a build, in order; None where it does not count.

    Without those that another launch took the place of.
    """
    values: dict[int, float | None] = {}
    for sample in observation.samples:
        if sample.value is not None:
            values[sample.launch] = sample.value
        elif sample.launch not in observation.cut_short:
            values.setdefault(sample.launch, None)
    return [values[launch] for launch in sorted(values)]


def _by_answers(
    decision: Decision, candidate: Observation, base: Observation
) -> Decision:
    """The decision by the answers of the two builds, where both have some."""
    shift = answer_shift.compare(
        answer_shift.of_samples(candidate.samples),
        answer_shift.of_samples(base.samples),
    )
    if shift is None:
        return decision
    return msgspec.structs.replace(
        decision,
        outcome=shift.outcome,
        summary=shift.summary,
        advice=shift.advice,
        needs_launches=0,
        report_only_reason="",
    )


def _details_of(candidate: Observation, base: Observation) -> list[str]:
    """How the two builds differ, and which of their launches do not count."""
    differences = differences_of(candidate, base)
    details = []
    if differences:
        text = formatting.listed(differences)
        details.append(wording.PAIRED_DIFFER.format(differences=text))
    lost = reasons_not_counted(candidate, base)
    if lost:
        reasons = formatting.listed(lost)
        details.append(wording.PAIRED_LOST.format(reasons=reasons))
    return details


def differences_of(candidate: Observation, base: Observation) -> list[str]:
    """How the two builds differ: settings, versions, environment."""
    differences = formatting.differences(candidate.identity, base.identity)
    differences += context_differences(candidate.context, base.context)
    return differences


def reasons_not_counted(candidate: Observation, base: Observation) -> list[str]:
    """Why launches of either build, or repetitions of them, do not count."""
    reasons = [f"base: {reason}" for reason in base.invalid]
    reasons += [f"candidate: {reason}" for reason in candidate.invalid]
    unmeasured = (base.unmeasured, candidate.unmeasured)
    for why in unmeasured:
        if why not in (NOT_MEASURED, NOT_REACHED):
            reasons.append(why[0])
    # A build that failed is why the other one was not reached.
    if not reasons and NOT_REACHED in unmeasured:
        reasons.append(NOT_REACHED[0])
    return reasons


def judge_pairs(
    case: Case,
    pairs: Sequence[Pair],
    hardware_label: str,
    target_effect: float | None = None,
    details: Sequence[str] = (),
    metric: Metric | None = None,
) -> Decision:
    """Judge a candidate by (base, candidate) values of neighbouring launches.

    Args:
        case: the metric and the load; both builds run the same.
        pairs: at least three, each value positive.
        hardware_label: "h200x2", "cpu-...": which row of the policy applies.
        target_effect: the loss to be caught; None: the policy's.
        details: sentences of the verdict besides those of the decision.
        metric: the case's, with another direction; None: as it is registered.

    """
    is_directed = case.is_ratio and metric is not None
    metric = metric or METRICS[case.metric]
    policy = _policy_of_builds(case, hardware_label)
    if target_effect is None:
        target_effect = policy.paired
    values = [value for pair in pairs for value in pair]
    is_possible = all(math.isfinite(value) and value > 0 for value in values)
    if len(pairs) < PAIRS or not is_possible:
        return _too_few(case, pairs, details)
    doubt = DOUBT
    if is_directed:
        doubt = DOUBT / 2  # either direction may have been the loss
    judged = _JudgedPairs(case, metric, policy, pairs, target_effect, doubt)
    return judged.decision(details)


@dataclass(frozen=True)
class _JudgedPairs:
    """Pairs of launches and the loss they show. Losses are logarithms.

    Attributes:
        doubt: share of unchanged cases, at most, that are called slower.
    """

    case: Case
    metric: Metric
    policy: Policy
    pairs: Sequence[Pair]
    target_effect: float
    doubt: float = DOUBT

    @property
    def higher(self) -> bool:
        return self.metric.better == "higher"

    @property
    def unit(self) -> str:
        return unit_of(self.case.id, self.case.metric)

    @property
    def target(self) -> float:
        return log_loss(self.target_effect, self.higher)

    @property
    def threshold(self) -> float:
        return THRESHOLD_SHARE * self.target

    @property
    def floor(self) -> float:
        """The smallest loss that counts; latencies alone have one."""
        if self.case.is_ratio:
            return 0.0
        return math.log1p(self.policy.floor / _mean(self.pairs, 0))

    @property
    def allowed(self) -> float:
        """The loss beyond which it does not pass: the threshold, or the floor."""
        return max(self.threshold, self.floor)

    @property
    def losses(self) -> list[float]:
        return [loss_of(new, base, self.higher) for base, new in self.pairs]

    @property
    def loss(self) -> float:
        return statistics.fmean(self.losses)

    @property
    def error(self) -> float:
        """Half of the interval of the loss."""
        deviation = statistics.stdev(self.losses)
        cv = self.policy.assumed_cv
        count, threshold = len(self.pairs), self.threshold
        return float(interval(deviation, count, cv, threshold, self.doubt))

    def outcome(self) -> Outcome:
        loss, error = self.loss, self.error
        if loss > self.allowed:
            return Outcome.REGRESSED if loss > error else Outcome.INCONCLUSIVE
        if loss < -max(self.threshold, error):
            return Outcome.IMPROVED
        if loss + error > max(self.target, self.floor):
            return Outcome.NOT_EXCLUDED
        return Outcome.PASSED

    def decision(self, details: Sequence[str]) -> Decision:
        outcome, gate = self.outcome(), self.case.gate
        lines = [*details, *self._details()]
        if outcome is Outcome.NOT_EXCLUDED:
            lines.append(wording.PAIRS_LEAVE_LOSS)
        elif outcome is Outcome.PASSED:
            lines += self._small_loss()
        is_in_doubt = self.loss > self.allowed
        is_in_doubt = is_in_doubt and self.error > self.threshold
        needs_launches = 0
        if is_in_doubt and gate == "hard" and len(self.pairs) == PAIRS:
            needs_launches = PAIRS
        base, new = _mean(self.pairs, 0), _mean(self.pairs, 1)
        return Decision(
            case=self.case.id,
            experiment=self.case.experiment,
            metric=self.case.metric,
            outcome=outcome,
            gate=gate,
            reference="paired",
            value=new,
            unit=self.unit,
            baseline=base,
            change=new / base - 1,
            worse_by=fraction_of(self.loss, self.higher),
            threshold=fraction_of(self.threshold, self.higher),
            allowed=fraction_of(self.allowed, self.higher),
            target_effect=self.target_effect,
            launches=len(self.pairs),
            summary=self._summary(base, new),
            details=tuple(lines),
            advice=wording.PAIRED_ADVICE[outcome],
            needs_launches=needs_launches,
        )

    def _summary(self, base: float, new: float) -> str:
        change = new / base - 1
        limits = wording.limits(self.allowed, self.higher, either_way=False)
        extra = formatting.extra_digits(change, limits)
        return wording.PAIRED.format(
            change=formatting.change(change, extra),
            baseline=formatting.number(base, self.unit),
            threshold=wording.threshold(limits, extra),
        )

    def _details(self) -> list[str]:
        pairs = formatting.count(len(self.pairs), "pair")
        low = fraction_of(self.loss - self.error, self.higher)
        high = fraction_of(self.loss + self.error, self.higher)
        interval_line = wording.PAIRED_INTERVAL.format(
            level=f"{100 * (1 - 2 * self.doubt):.0f} %",
            interval=formatting.signed_range(low, high),
            target=formatting.percent(self.target_effect),
        )
        return [wording.PAIRED_PAIRS.format(pairs=pairs), interval_line]

    def _small_loss(self) -> list[str]:
        """What to know of a loss that is there and passes."""
        if self.threshold < self.loss <= self.floor:
            floor = formatting.number(self.policy.floor, self.metric.unit)
            return [wording.BELOW_FLOOR.format(floor=floor)]
        if self.loss <= self.error:
            return []
        smallest = fraction_of(self.loss - self.error, self.higher)
        loss = formatting.percent(smallest)
        return [wording.PAIRED_SMALL_LOSS.format(loss=loss)]


def interval(
    deviation: float | Array,
    pairs: int,
    assumed_cv: float,
    threshold: float,
    doubt: float = DOUBT,
) -> Array:
    """Half of the interval of the loss, shaped like `deviation`.

    By so much the mean of so many pairs may be wrong.

    Args:
        deviation: standard deviation of the losses within pairs (logarithms).
        assumed_cv: of single launches of the metric. It counts as one more pair, but
            never so much that three pairs which agree could not tell the threshold.
        threshold: the loss (log) beyond which it is a regression.
        doubt: share of unchanged cases, at most, whose loss is called certain.

    """
    import numpy as np  # here: collecting tests must not wait for it

    own_freedom = pairs - 1
    freedom = own_freedom + ASSUMED_PAIRS
    smallest_freedom = PAIRS - 1 + ASSUMED_PAIRS
    quantile = t_quantile(smallest_freedom, 1 - doubt)
    weight = math.sqrt(PAIRS * smallest_freedom / ASSUMED_PAIRS)
    widest = threshold / quantile * weight
    assumed = min(math.sqrt(2) * assumed_cv, widest)
    squares = own_freedom * np.square(deviation) + ASSUMED_PAIRS * assumed**2
    pooled = np.sqrt(squares / freedom)
    by_pairs = t_quantile(own_freedom, 1 - doubt) * np.asarray(deviation)
    by_pooled = t_quantile(freedom, 1 - doubt) * pooled
    return np.asarray(np.maximum(by_pairs, by_pooled) / math.sqrt(pairs))


def _mean(pairs: Sequence[Pair], side: int) -> float:
    return mean_of(pair[side] for pair in pairs)


def _too_few(
    case: Case, pairs: Sequence[Pair], details: Sequence[str]
) -> Decision:
    values = [
        f"({formatting.number(base)}, {formatting.number(new)})"
        for base, new in pairs
    ]
    text = ", ".join(values) or "none"
    summary = wording.PAIRED_FEW.format(needed=PAIRS, pairs=text)
    return invalid(
        case, summary, details, wording.PAIRED_ADVICE[Outcome.INVALID]
    )


def invalid(
    case: Case, summary: str, details: Sequence[str], advice: str
) -> Decision:
    """The verdict where one of two builds has too few values that count."""
    return Decision(
        case=case.id,
        experiment=case.experiment,
        metric=case.metric,
        outcome=Outcome.INVALID,
        gate=case.gate,
        reference="paired",
        summary=summary,
        details=tuple(details),
        advice=advice,
    )
