"""Duel: a candidate judged against a base build by launches that took turns on one core.

Both builds are alive at once and answer the same batches alternately
(`perfgate.load.turns`). No baseline is needed, so a machine can be judged the first time.

The unit is the launch. Two launches of one build differ by where their memory lies, and
no number of turns averages that out. A few launches tell little about that variation, so
the policy's assumed variation counts as ASSUMED_FREEDOM more of them. The error of the
loss is at least what the cycles of these launches say. A loss counts once each build has
LAUNCHES_OF_A_LOSS launches. A launch is compared only with those that were alive at the
same time, because the machine may be faster minutes later.
"""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from perfgate import formatting
from perfgate.cases import Case
from perfgate.judge import choices, paired, wording
from perfgate.judge.noise import (
    EXCLUSION,
    THRESHOLD_SHARE,
    fraction_of,
    log_loss,
    t_quantile,
)
from perfgate.judge.observation import RunReader
from perfgate.judge.paired import differences_of, reasons_not_counted
from perfgate.judge.policy import Policy, policy_for
from perfgate.judge.verdict import Decision, Outcome
from perfgate.load.turns import GROUP, LaunchTime
from perfgate.results.samples import mean_of
from perfgate.results.verdict import unit_of

FEWEST_LAUNCHES = 2  # of each build
# Of each build, for a regression. Where the memory of processes lies once made two
# launches 3.6 % slower than two others of the same build.
LAUNCHES_OF_A_LOSS = 4
# Weight of the policy's assumed variation, in degrees of freedom.
ASSUMED_FREEDOM = 4
# One-sided: so many unchanged cases at most are called slower by their error alone.
DOUBT = 0.01
POWER = 0.95


def first_launches(asked: int) -> int:
    """Launches of each build for a first verdict, where so many are asked for."""
    return max(FEWEST_LAUNCHES, asked)


def judge_duel(reader: RunReader, case: Case) -> Decision:
    """Judge a case of a run by the launches of both builds that took turns."""
    candidate = reader.observe(case.candidate)
    base = reader.observe(case.base)
    policy = policy_for(candidate.hardware_label, case.metric, ratio=False)
    target_effect = reader.results.target_effect or policy.paired
    details = _details(reader, case, differences_of(candidate, base))
    duel = Duel(
        base=_times(reader, case.base),
        candidate=_times(reader, case.candidate),
        policy=policy,
        target_effect=target_effect,
    )
    if min(len(duel.base), len(duel.candidate)) < FEWEST_LAUNCHES:
        decision = too_few(case, reasons_not_counted(candidate, base), details)
    else:
        decision = decide(case, duel, details)
    decision = msgspec.structs.replace(decision, injected=candidate.injected)
    return choices.explained(decision, candidate, base.chosen)


def _times(reader: RunReader, case: Case) -> list[LaunchTime]:
    """The launches of one build that count, each with its error."""
    (load,) = case.loads
    times = []
    for row in reader.index.valid_measurements(
        load.server.key, load.workload_name
    ):
        for repetition in row.repetitions:
            value_ms = repetition.values[case.metric]
            interval_ms = row.intervals[case.metric]
            group = repetition.client_values.get(GROUP, 0.0)
            time = LaunchTime.of_interval(value_ms, interval_ms, group)
            times.append(time)
    return times


def _details(
    reader: RunReader, case: Case, differences: Sequence[str]
) -> list[str]:
    """Which build the base is, how both differ, and how busy the machine was."""
    (load,) = case.base.loads
    lines = []
    server = reader.results.servers.get(load.server.key)
    if server is not None:
        lines.append(wording.DUEL_BASE.format(base=server.python_label))
    if differences:
        text = formatting.listed(differences)
        lines.append(wording.PAIRED_DIFFER.format(differences=text))
    elif server is not None:
        lines.append(wording.DUEL_SAME)
    shares = []
    for build in (case.base, case.candidate):
        (load,) = build.loads
        for repetition in reader.index.repetitions(
            load.server.key, load.workload_name
        ):
            shares.append(repetition.client_values["waiting_share"])
    if shares:
        share = formatting.percent(statistics.fmean(shares))
        lines.append(wording.DUEL_WAITED.format(share=share))
    return lines


@dataclass(frozen=True)
class Group:
    """Launches that were alive at once."""

    base: Sequence[LaunchTime]
    candidate: Sequence[LaunchTime]

    @property
    def sides(self) -> tuple[Sequence[LaunchTime], Sequence[LaunchTime]]:
        """Both of them."""
        return self.base, self.candidate

    @property
    def loss(self) -> float:
        """How much slower (log) the candidate's are."""
        return _mean_log(self.candidate) - _mean_log(self.base)

    @property
    def variance(self) -> float:
        """Of the loss, over that of a launch."""
        return 1 / len(self.base) + 1 / len(self.candidate)


@dataclass(frozen=True)
class Duel:
    """The launches of both builds, and the loss that they show. Losses are logarithms.

    Attributes:
        target_effect: the loss, as a fraction, that must be caught.
    """

    base: Sequence[LaunchTime]
    candidate: Sequence[LaunchTime]
    policy: Policy
    target_effect: float

    @functools.cached_property
    def groups(self) -> Sequence[Group]:
        """Those with launches of both builds; all launches where there is none."""
        groups = []
        for name in dict.fromkeys(time.group for time in self.candidate):
            base = [time for time in self.base if time.group == name]
            candidate = [time for time in self.candidate if time.group == name]
            if base:
                groups.append(Group(base, candidate))
        return groups or [Group(self.base, self.candidate)]

    @property
    def _weights(self) -> list[float]:
        """Of the groups, by how well each knows the loss; they add up to one."""
        precisions = [1 / group.variance for group in self.groups]
        total = math.fsum(precisions)
        return [precision / total for precision in precisions]

    @property
    def loss(self) -> float:
        """How much slower the candidate is."""
        return math.fsum(
            weight * group.loss
            for weight, group in zip(self._weights, self.groups, strict=True)
        )

    @property
    def freedom(self) -> int:
        """Degrees of freedom with which the error is known."""
        freedom = ASSUMED_FREEDOM
        for group in self.groups:
            freedom += len(group.base) + len(group.candidate) - 2
        return freedom

    @property
    def error(self) -> float:
        """Standard error of the loss, by launches and by cycles, whichever is larger."""
        squares = ASSUMED_FREEDOM * self.policy.assumed_cv**2
        shares = within = 0.0
        for weight, group in zip(self._weights, self.groups, strict=True):
            shares += weight**2 * group.variance
            for side in group.sides:
                within += weight**2 * _mean_square(side)
                center = _mean_log(side)
                for time in side:
                    squares += (math.log(time.value_ms) - center) ** 2
        by_launches = math.sqrt(squares / self.freedom * shares)
        return max(by_launches, math.sqrt(within))

    @property
    def target(self) -> float:
        """The target effect as a logarithm."""
        return log_loss(self.target_effect, higher_is_better=False)

    @property
    def threshold(self) -> float:
        """The loss beyond which it is a regression, if it is certain."""
        return THRESHOLD_SHARE * self.target

    @property
    def bound(self) -> float:
        """The loss that unchanged code exceeds with probability DOUBT."""
        return t_quantile(self.freedom, 1 - DOUBT) * self.error

    @property
    def excluded(self) -> float:
        """A larger loss than this is excluded with confidence EXCLUSION."""
        margin = t_quantile(self.freedom, EXCLUSION) * self.error
        return max(0.0, self.loss + margin)

    @property
    def mde(self) -> float:
        """The smallest loss that is called one with probability POWER."""
        smallest = max(self.threshold, self.bound)
        return smallest + t_quantile(self.freedom, POWER) * self.error

    def outcome(self) -> Outcome:
        """What the launches show."""
        if self.loss > self.threshold:
            if self.loss > self.bound:
                return Outcome.REGRESSED
            is_target_hidden = self.bound > self.target
            if is_target_hidden:
                return Outcome.NOT_EXCLUDED
            return Outcome.INCONCLUSIVE
        if self.loss < -max(self.threshold, self.bound):
            return Outcome.IMPROVED
        if self.excluded > self.target:
            return Outcome.NOT_EXCLUDED
        return Outcome.PASSED


def decide(case: Case, duel: Duel, details: Sequence[str] = ()) -> Decision:
    """The verdict of a duel.

    Args:
        details: sentences of the verdict besides those of the launches.
    """
    unit = unit_of(case.id, case.metric)
    base = mean_of(time.value_ms for time in duel.base)
    new = base * math.exp(duel.loss)
    outcome = duel.outcome()
    launches = formatting.count(len(duel.candidate), "launch")
    needed = 0
    if outcome is Outcome.REGRESSED:
        needed = max(0, LAUNCHES_OF_A_LOSS - len(duel.candidate))
    lines = [
        wording.DUEL_LAUNCHES.format(launches=launches),
        wording.DUEL_ERROR.format(
            error=formatting.percent(duel.error),
            mde=formatting.percent(_fraction(duel.mde)),
            target=formatting.percent(duel.target_effect),
        ),
        *details,
    ]
    return Decision(
        case=case.id,
        experiment=case.experiment,
        metric=case.metric,
        outcome=outcome,
        gate=case.gate,
        reference="paired",
        value=new,
        unit=unit,
        baseline=base,
        change=new / base - 1,
        worse_by=_fraction(duel.loss),
        threshold=_fraction(duel.threshold),
        target_effect=duel.target_effect,
        mde=_fraction(duel.mde),
        excluded=_fraction(duel.excluded),
        fail_over=duel.target_effect,
        noise=duel.error,
        launches=len(duel.candidate),
        summary=_summary(duel, base, new, unit),
        details=tuple(lines),
        advice=wording.DUEL_ADVICE[outcome],
        needs_launches=needed,
    )


def too_few(
    case: Case, reasons: Sequence[str], details: Sequence[str] = ()
) -> Decision:
    """The verdict where a build has too few launches that count."""
    text = formatting.listed(reasons) or "none was measured"
    summary = wording.DUEL_FEW.format(needed=FEWEST_LAUNCHES, reasons=text)
    return paired.invalid(
        case, summary, details, wording.DUEL_ADVICE[Outcome.INVALID]
    )


def _summary(duel: Duel, base: float, new: float, unit: str) -> str:
    change = new / base - 1
    limits = wording.limits(
        duel.threshold, higher_is_better=False, either_way=False
    )
    extra = formatting.extra_digits(change, limits)
    return wording.DUEL.format(
        change=formatting.change(change, extra),
        baseline=formatting.number(base, unit),
        threshold=wording.threshold(limits, extra),
        excluded=formatting.percent(_fraction(duel.excluded)),
    )


def _fraction(loss: float) -> float:
    return fraction_of(loss, higher_is_better=False)


def _mean_log(times: Sequence[LaunchTime]) -> float:
    return statistics.fmean(math.log(time.value_ms) for time in times)


def _mean_square(times: Sequence[LaunchTime]) -> float:
    """Square of the error of their mean, by their cycles."""
    return sum(time.error**2 for time in times) / len(times) ** 2
