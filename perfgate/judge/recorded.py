"""How does this run stand beside the recorded launches?

The last step of a judgement: the case is measured, comparable, and has a recorded
baseline.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Sequence
from dataclasses import dataclass

from perfgate import formatting as wording
from perfgate.cases import Case
from perfgate.judge import ratio
from perfgate.judge.baseline_schema import Known
from perfgate.judge.baseline_store import Recorded
from perfgate.judge.observation import Observation
from perfgate.judge.policy import (
    DECISION_LAUNCHES,
    ESTABLISHED_LAUNCHES,
    ESTABLISHED_RUNS,
    Noise,
    Policy,
    alarm_line,
    clear_line,
    coefficient_of_variation,
    fraction_of,
    launches_needed,
    log_loss,
)
from perfgate.judge.verdict import DEMOTED, GREEN, Outcome

# Launches of one run that vary this many times as much as the baseline's tell nothing.
UNSTEADY = 3.0


@dataclass(frozen=True)
class Comparison:
    """The estimate, the lines it is held against, and what follows. Losses are logarithms, positive if worse."""

    case: Case
    seen: Observation
    baseline: Recorded
    noise: Noise

    @property
    def higher(self) -> bool:
        """Whether a larger value is better."""
        return self.baseline.metric.better == "higher"

    @property
    def loss(self) -> float:
        """By how much it is worse; for two-sided cases by how much it moved."""
        change = math.log(self.seen.value / self.noise.reference)
        if self.case.two_sided:
            return abs(change)
        if self.case.over is None:
            return -change if self.higher else change
        moved = ratio.moves(
            self.seen.sides, ratio.recorded(self.baseline.metric.launches)
        )
        return ratio.loss(change, moved, self.higher, self.line / 2)

    @property
    def line(self) -> float:
        """The alarm line for as many launches as there are."""
        return alarm_line(
            self.baseline.metric.target_effect,
            self.noise,
            len(self.seen.values),
            self.higher,
        )

    @property
    def clear_line(self) -> float:
        """A first launch up to this is clearly fine."""
        return clear_line(self.baseline.metric.target_effect, self.noise, self.higher)

    @property
    def detectable(self) -> float:
        """The smallest loss that so many launches detect."""
        return self.noise.detectable(self.higher, len(self.seen.values))

    def outcome(self, today: datetime.date | None) -> tuple[Outcome, str]:
        """The outcome and, where a known regression decided, what about it."""
        above_floor = (
            abs(self.seen.value - self.noise.reference) > self.baseline.metric.floor
        )
        plain = Outcome.PASSED
        if self.loss > self.line and above_floor:
            plain = Outcome.INCONCLUSIVE if self.unsteady else Outcome.REGRESSED
        elif self.loss < -self.line and above_floor:
            plain = Outcome.IMPROVED
        return self._with_known(plain, today)

    @property
    def unsteady(self) -> bool:
        """Whether the launches of this run contradict each other by more than the baseline's noise explains."""
        cv = coefficient_of_variation(self.seen.values)
        return len(self.seen.values) >= DECISION_LAUNCHES and cv > max(
            UNSTEADY * self.noise.sigma, self.line
        )

    def _with_known(
        self, plain: Outcome, today: datetime.date | None
    ) -> tuple[Outcome, str]:
        known = self.baseline.metric.known
        if known is None:
            return plain, ""
        until = datetime.date.fromisoformat(known.until)
        about = (
            f"known to be worse by {wording.percent(known.worse_by)}, accepted until "
            f"{known.until}: {known.reason}"
        )
        if self.loss <= self.line / 2:
            return (
                Outcome.INVALID,
                f"{about}; it is gone, so the baseline's entry is out of date",
            )
        if plain is not Outcome.REGRESSED:
            return plain, about
        over = (
            "that day has passed"
            if (today or datetime.date.today()) > until
            else self._is_another_loss(known)
        )
        return (
            (Outcome.REGRESSED, f"{about}; {over}") if over else (Outcome.PASSED, about)
        )

    def _is_another_loss(self, known: Known) -> str:
        """What is wrong with taking this loss for the one that was accepted, or nothing."""
        change = self.seen.value / self.noise.reference - 1
        if known.change is not None and (change > 0) != (known.change > 0):
            return "it moved the other way now"
        return (
            "it is now worse than that"
            if self.loss > log_loss(known.worse_by, self.higher) + self.line
            else ""
        )

    def demoted(self, policy: Policy, outcome: Outcome) -> str:
        """Why a case that the suite would judge is only reported, or nothing; nobody must take it for passed."""
        metric = self.baseline.metric
        if metric.gate != "hard":
            return metric.reason or "so its baseline says"
        wide = (
            not metric.reason
            and max(metric.target_effect, self.detectable) > policy.without_reason
        )
        # What loses even more than the noise hides is red all the same.
        return DROWNED if wide and outcome in GREEN else ""

    def needs_launches(self, outcome: Outcome) -> int:
        """Two after a single launch that is not clearly fine, else none: escalated once, never until green."""
        if len(self.seen.values) != 1:
            return 0
        doubtful = self.loss > self.clear_line
        if self.baseline.metric.known is not None:
            doubtful = outcome in (Outcome.REGRESSED, Outcome.INVALID)
        moved_enough = (
            2 * abs(self.seen.value - self.noise.reference) > self.baseline.metric.floor
        )
        return DECISION_LAUNCHES - 1 if doubtful and moved_enough else 0

    def told(
        self, tried: str, outcome: Outcome, about: str, unit: str, demoted: str = ""
    ) -> str:
        """The message: what was seen, what qualifies it, what to do next.

        Args:
            about: of a known regression that decided. demoted: why it is only reported.
        """
        metric = self.baseline.metric
        text = (
            f"{wording.moved(self.seen.value / self.noise.reference - 1)}; "
            f"baseline {wording.number(self.noise.reference, unit)} "
            f"({self._recorded_on()}), "
            f"alarm line {wording.percent(fraction_of(self.line, self.higher))}"
            f"{' either way' if self.case.two_sided else ''}, {self._promise()}"
        )
        more = [about] if about else []
        more += ratio.sides(
            self.case, metric.unit, self.seen.sides, ratio.recorded(metric.launches)
        )
        last = [f"{DEMOTED} {demoted}"] if demoted else []
        return wording.told(
            tried,
            text,
            self._advice(outcome, bool(about)),
            [*more, *self._qualified(), *last],
        )

    def _promise(self) -> str:
        """Which loss is caught; a provisional baseline promises no more than its launches can hold."""
        promised, detectable = (
            wording.percent(self.baseline.metric.target_effect),
            wording.percent(self.detectable),
        )
        if (
            self.noise.established
            or self.detectable <= self.baseline.metric.target_effect
        ):
            return f"promised to be caught {promised}, detectable {detectable}"
        return f"to be caught {promised} once more launches are recorded, until then {detectable}"

    def _recorded_on(self) -> str:
        """How much the baseline rests on, and on which machines."""
        others, here = self.baseline.counted_machines, self.seen.machine
        if others:
            return (
                f"{wording.count(others, 'machine')}, each counted once; {here} has "
                "too few launches of its own"
            )
        only = f", all on this machine, {here}" if self.baseline.only_machine else ""
        pooled = wording.count(self.noise.pooled_machines, "other machine")
        more = (
            f"; launch-to-launch variation pooled with {pooled}"
            if self.noise.pooled_machines
            else ""
        )
        return (
            f"{wording.count(self.noise.launches, 'launch')} of "
            f"{wording.count(self.noise.runs, 'run')}{only}{more}"
        )

    def _qualified(self) -> list[str]:
        lines = []
        if not self.noise.established:
            where = (
                " on this machine"
                if self.baseline.only_machine or self.baseline.counted_machines
                else ""
            )
            lines.append(
                f"provisional: the line is widened until {ESTABLISHED_LAUNCHES} "
                f"launches of {ESTABLISHED_RUNS} runs "
                f"are recorded{where}"
            )
        if self.unsteady:
            lines.append(
                "launch-to-launch variation (CV) "
                f"{wording.percent(coefficient_of_variation(self.seen.values))}: "
                f"{_row(self.seen.values)}"
            )
        if self.seen.invalid:
            lines.append(f"not counted: {wording.listed(self.seen.invalid)}")
        changed = wording.differences(self.seen.context, self.baseline.context)
        return [*lines, f"context: {wording.listed(changed)}"] if changed else lines

    def _advice(self, outcome: Outcome, known: bool) -> str:
        only = f"--only {self.case.id}"
        if known and outcome is Outcome.INVALID:
            return (
                "record it anew, which removes the entry: `perfgate accept RUN "
                f"{only} --reason WHY`"
            )
        if outcome is Outcome.INCONCLUSIVE:
            needed = launches_needed(
                self.noise, self.baseline.metric.target_effect, self.higher
            )
            enough = (
                f"; {needed} recorded launches would carry this promise"
                if needed
                else ""
            )
            return f"find what else ran on the machine, then measure again{enough}"
        return ADVICE[outcome].format(only=only)


DROWNED = (
    "too few launches, or too noisy ones; only a loss beyond the alarm line is red"
)
ADVICE = {
    Outcome.PASSED: "nothing",
    Outcome.IMPROVED: "keep it: `perfgate accept RUN {only}`",
    Outcome.REGRESSED: "find what changed (context, server log, the engine's commits); where the "
    "loss is meant, "
    "`perfgate accept RUN {only} --reason WHY`, for a while only with --known-until DAY",
    Outcome.INVALID: "remove the cause, then measure again",
}


def _row(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)
