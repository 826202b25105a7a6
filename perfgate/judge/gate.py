"""Is it worse?

Pure: numbers in, verdicts out, so that every verdict can be decided again without a
GPU. The unit is the launch, each by the median of its valid repetitions; several
launches count by their geometric mean. The first launch decides alone only where it is
clearly fine; else two more are asked for, once, and all three decide. Nothing is ever
measured until it is green. `perfgate.judge.policy` has the sums, docs/gating.md the
error rates.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec

from perfgate import formatting as wording
from perfgate.cases import Case, GateMode
from perfgate.errors import Failure
from perfgate.judge import comparability as fairness
from perfgate.judge import ratio
from perfgate.judge import routing_shift as drift
from perfgate.judge.baseline_store import Baseline, Published, Recorded, Store
from perfgate.judge.machine_scope import narrow_to
from perfgate.judge.observation import Observation, RunReader, hardware_label
from perfgate.judge.paired import judge_beside
from perfgate.judge.policy import (
    DECISION_LAUNCHES,
    Policy,
    fraction_of,
    log_loss,
    policy_for,
)
from perfgate.judge.recorded import Comparison
from perfgate.judge.verdict import Outcome, Verdict
from perfgate.load.metrics import METRICS, Metric
from perfgate.machine.hardware import Hardware
from perfgate.results.schema import RunResults


class UnknownMetric(Failure):
    """A case asks for a metric that is not defined."""


def metric_of(case: Case) -> Metric:
    """The definition of the case's metric; a ratio has no unit."""
    try:
        return METRICS[case.metric]
    except KeyError:
        raise UnknownMetric(
            tried=f"judging {case.id}",
            seen=f"no metric is called {case.metric!r}",
            remedy=f"use one of {', '.join(sorted(METRICS))}",
        ) from None


def gate_mode(case: Case, policy: Policy, recorded: GateMode = "hard") -> GateMode:
    """A metric is hard only where the case, the platform and the baseline all say so."""
    return (
        "hard"
        if (case.gate, policy.gate, recorded) == ("hard", "hard", "hard")
        else "report"
    )


def judge(
    case: Case,
    observation: Observation,
    baseline: Baseline | None,
    policy: Policy | None = None,
    today: datetime.date | None = None,
) -> Verdict:
    """Decide one case.

    Args:
        policy: None takes the table's row for this hardware and metric.
        today: decides whether a known regression is still accepted; None asks the
            clock, and only where there is one.

    """
    row = policy or policy_for(
        observation.hardware_label, case.metric, case.over is not None
    )
    bench = _Bench(case, metric_of(case), observation, row)
    problem = bench.invalid() or bench.collapsed()
    if problem is not None:
        return problem
    if baseline is None:
        return bench.no_baseline()
    if isinstance(baseline, Published):
        return bench.against_published(baseline)
    return bench.against_recorded(baseline, today)


def judge_case(
    results: RunResults, case: Case, store: Store, today: datetime.date | None = None
) -> Verdict:
    """Decide one case of a run, beside its base build where the run has one."""
    return _judge_in(RunReader(results), case, store, today)


def judge_run(
    results: RunResults, store: Store, today: datetime.date | None = None
) -> list[Verdict]:
    """Decide every case of a run again, from the data alone."""
    reader = RunReader(results)
    return [_judge_in(reader, case, store, today) for case in results.cases]


def _judge_in(
    reader: RunReader, case: Case, store: Store, today: datetime.date | None
) -> Verdict:
    if reader.results.mode == "paired":
        return judge_beside(reader, case)
    seen = reader.observe(case)
    verdict = judge(case, seen, store.find(case, seen.hardware_label), today=today)
    told = fairness.beside(reader.results, case)
    return (
        msgspec.structs.replace(verdict, message="\n  ".join([verdict.message, *told]))
        if told
        else verdict
    )


def unused_baselines(
    expected: Iterable[Case], hardware: Hardware, store: Store
) -> list[str]:
    """Recorded metrics of the expected servers that no expected case asks for; to be shown after complete runs.

    Args:
        expected: every case of the suite on this hardware, selected or not: what was
            skipped is not unused.
    """
    cases = list(expected)
    servers = {load.server.key for case in cases for load in case.loads}
    labels = {hardware_label(hardware, case) for case in cases}
    recorded = {found for label in labels for found in store.recorded_ids(label)}
    mine = {
        found
        for found in recorded
        if set(found.split("/")[0].split("--over--")) <= servers
    }
    return sorted(mine - {case.id for case in cases})


@dataclass(frozen=True)
class _Bench:
    """One case and what was seen of it."""

    case: Case
    metric: Metric
    seen: Observation
    policy: Policy

    @property
    def higher(self) -> bool:
        return self.metric.better == "higher"

    @property
    def unit(self) -> str:
        return "" if self.case.over is not None else self.metric.unit

    def escalates(self, gate: GateMode) -> bool:
        """Whether more launches would say more: where the tokens of the same prompts go is no matter of speed."""
        return gate == "hard" and not self.case.of.asks_routing

    @property
    def have(self) -> int:
        return len(self.seen.values)

    def loss(self, reference: float) -> float:
        """By how much (log) it is worse than the reference; for two-sided cases by how much it moved."""
        loss = math.log(self.seen.value / reference) * (-1 if self.higher else 1)
        return abs(loss) if self.case.two_sided else loss

    def tried(self) -> str:
        value = wording.number(self.seen.value, self.unit)
        return (
            f"{ratio.name(self.case)}: {value} on "
            f"{wording.count(self.have, 'launch')} of run {self.seen.run}"
        )

    def verdict(
        self,
        outcome: Outcome,
        gate: GateMode,
        message: str,
        **more: float | int | str | None,
    ) -> Verdict:
        if self.seen.injected:
            message += (
                f"\n  injected: {self.seen.injected}; such a run becomes no baseline"
            )
        return msgspec.convert(
            {
                "case": self.case.id,
                "metric": self.case.metric,
                "outcome": outcome,
                "gate": gate,
                "message": message,
            }
            | {"launches": self.have, "value": self.seen.value if self.have else None}
            | more,
            Verdict,
        )

    def invalid(self) -> Verdict | None:
        """The verdict if too little of what was measured counts, else None."""
        samples = self.seen.samples
        if 2 * self.have > len(samples):
            return None
        seen = f"{self.have} of {wording.count(len(samples), 'launch')} gave a value that counts"
        reasons = [wording.listed(self.seen.invalid)] if self.seen.invalid else []
        do = (
            "remove the cause (it is named for each repetition in results.json), "
            "then measure again"
        )
        if not samples:
            seen, do = self.seen.unmeasured
        message = wording.told(
            f"{ratio.name(self.case)} in run {self.seen.run}", seen, do, reasons
        )
        gate = gate_mode(self.case, self.policy)
        first = self.have or not any(sample.launch for sample in samples)
        once = first and 0 < len(samples) < DECISION_LAUNCHES and self.escalates(gate)
        return self.verdict(
            Outcome.INVALID,
            gate,
            message,
            needs_launches=DECISION_LAUNCHES - 1 if once else 0,
        )

    def collapsed(self) -> Verdict | None:
        """The verdict if tokens go to hardly any experts, whatever was recorded; else None."""
        told = drift.collapse(self.case.metric, self.seen.shares)
        if told is None:
            return None
        do = (
            "look at the router's weights: it was trained without a load-balancing "
            "loss, or damaged since"
        )
        gate = gate_mode(self.case, self.policy)
        return self.verdict(
            Outcome.REGRESSED, gate, wording.told(self.tried(), told, do)
        )

    def no_baseline(
        self, why: str = "nothing was recorded for it on {label}", **numbers: float
    ) -> Verdict:
        """The verdict where there is nothing to judge by."""
        do = "`perfgate accept RUN` makes this run the baseline"
        message = wording.told(
            self.tried(), why.format(label=self.seen.hardware_label), do
        )
        return self.verdict(
            Outcome.NO_BASELINE, gate_mode(self.case, self.policy), message, **numbers
        )

    def against_published(self, baseline: Published) -> Verdict:
        """A guard where the figure holds and what it was measured on is the same; else a comparison."""
        figure = baseline.figure
        then = dict(baseline.identity)
        now = {field: self.seen.identity.get(field, "(none)") for field in then}
        apart = wording.differences(now, then)
        if not figure.holds:
            apart.append("the figure does not hold")
        loss, line = self.loss(figure.value), log_loss(figure.tolerance, self.higher)
        text = (
            f"{wording.moved(self.seen.value / figure.value - 1)} beside the published "
            f"{wording.number(figure.value, self.unit)} ({figure.source}), "
            f"tolerance {wording.percent(figure.tolerance)}"
        )
        numbers: dict[str, float] = {
            "baseline": figure.value,
            "change": self.seen.value / figure.value - 1,
            "worse_by": fraction_of(loss, self.higher),
            "alarm_line": figure.tolerance,
        }
        gate = gate_mode(self.case, self.policy)
        if apart and gate == "hard":
            why = (
                f"nothing was recorded for it on {{label}}; {text}, but that is no "
                f"guard here: {wording.listed(apart)}"
            )
            return self.no_baseline(why, **numbers)
        outcome = (
            Outcome.REGRESSED
            if loss > line
            else Outcome.IMPROVED
            if loss < -line
            else Outcome.PASSED
        )
        do = (
            PUBLISHED_ADVICE
            if outcome is Outcome.REGRESSED
            else "record a baseline of your own: it is the tighter gate"
        )
        more = [f"note: {figure.note}"] + (
            [f"comparison only: {wording.listed(apart)}"] if apart else []
        )
        escalates = (
            outcome is Outcome.REGRESSED and self.have == 1 and self.escalates(gate)
        )
        needs = DECISION_LAUNCHES - 1 if escalates else 0
        message = wording.told(self.tried(), text, do, more)
        return self.verdict(outcome, gate, message, needs_launches=needs, **numbers)

    def against_recorded(
        self, baseline: Recorded, today: datetime.date | None
    ) -> Verdict:
        """The tight gate."""
        gate = gate_mode(self.case, self.policy, baseline.metric.gate)
        apart = self.incomparable(baseline)
        if apart:
            return self.against_another(baseline, gate, apart)
        if self.case.metric == drift.SHARES:
            return self.against_shares(baseline, gate, today)
        baseline = narrow_to(baseline, self.seen.machine, self.policy)
        beside = Comparison(self.case, self.seen, baseline, baseline.noise(self.policy))
        outcome, about = beside.outcome(today)
        demoted = (
            beside.demoted(self.policy, outcome)
            if gate_mode(self.case, self.policy) == "hard"
            else ""
        )
        gate = "report" if demoted else gate
        return self.verdict(
            outcome,
            gate,
            beside.told(self.tried(), outcome, about, self.unit, demoted),
            baseline=beside.noise.reference,
            change=self.seen.value / beside.noise.reference - 1,
            worse_by=fraction_of(beside.loss, self.higher),
            alarm_line=fraction_of(beside.line, self.higher),
            delta=baseline.metric.target_effect,
            detectable=beside.detectable,
            noise=beside.noise.sigma,
            demoted=demoted,
            needs_launches=beside.needs_launches(outcome)
            if self.escalates(gate)
            else 0,
        )

    def against_another(
        self, baseline: Recorded, gate: GateMode, apart: Sequence[str]
    ) -> Verdict:
        """Both values, and no judgement: the baseline is of something else."""
        seen = (
            f"the baseline {baseline.path.name} was recorded of something else: "
            f"{wording.listed(apart)}"
        )
        numbers: dict[str, float] = {}
        if (self.metric.unit, self.metric.definition) == (
            baseline.metric.unit,
            baseline.metric.definition,
        ):
            reference = baseline.noise(self.policy).reference
            numbers = {"baseline": reference, "change": self.seen.value / reference - 1}
            seen += (
                f"; by its value alone {wording.moved(numbers['change'])} "
                f"({wording.number(reference, self.unit)})"
            )
        do = (
            "if that is meant, `perfgate accept RUN --replace` takes this run in "
            "its place; else run what the baseline "
            "was recorded of, or both builds beside each other: --against-engine"
        )
        return self.verdict(
            Outcome.INCOMPARABLE, gate, wording.told(self.tried(), seen, do), **numbers
        )

    def against_shares(
        self, baseline: Recorded, gate: GateMode, today: datetime.date | None
    ) -> Verdict:
        """Where the tokens went, layer by layer; the same prompts are sent each time, so one launch decides."""
        reference = baseline.noise(self.policy).reference
        numbers = {
            "baseline": reference,
            "change": self.seen.value / reference - 1,
            "delta": baseline.metric.target_effect,
        }
        seen = drift.beside(self.seen.shares, baseline.metric, today)
        if seen is None:
            what = (
                "it has no shares of as many layers and experts; `perfgate accept "
                "RUN --replace` takes this run's"
            )
            message = wording.told(
                self.tried(),
                f"the baseline {baseline.path.name} cannot be compared",
                what,
            )
            return self.verdict(Outcome.INCOMPARABLE, gate, message, **numbers)
        numbers |= {"worse_by": seen.drift.distance, "alarm_line": seen.drift.threshold}
        return self.verdict(
            seen.outcome,
            gate,
            wording.told(self.tried(), seen.text, seen.advice),
            **numbers,
        )

    def incomparable(self, baseline: Recorded) -> list[str]:
        """What forbids the comparison."""
        metric = baseline.metric
        mine = {
            "unit": self.metric.unit,
            "better": self.metric.better,
            "definition": self.metric.definition,
        }
        theirs = {
            "unit": metric.unit,
            "better": metric.better,
            "definition": metric.definition,
        }
        return wording.differences(
            self.seen.identity, baseline.identity
        ) + wording.differences(mine, theirs)


PUBLISHED_ADVICE = (
    "look for what this machine lacks (clocks, power limit, NVLink, attention backend); "
    "where its own figure is right, record it: it then replaces the published one"
)
