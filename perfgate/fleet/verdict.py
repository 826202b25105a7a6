"""Judgement of a fleet: each machine by its own launches, then all machines of a kind together.

A machine is judged as any run is. A row of the fleet is judged over machines
(`perfgate.fleet.change`), without those that are outliers among their kind: a sick GPU
is no regression.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from perfgate.cases import Case, GateMode
from perfgate.fleet import change, outliers
from perfgate.fleet.change import Change, Prior
from perfgate.fleet.machines import Machine, pooled
from perfgate.fleet.outliers import Outlier
from perfgate.judge import gate as judging
from perfgate.judge import run_status
from perfgate.judge.baseline_store import Recorded, Store
from perfgate.judge.gate import gate_mode, metric_of
from perfgate.judge.machine_scope import target_effect_of
from perfgate.judge.noise import fraction_of, log_loss
from perfgate.judge.observation import Observation, RunReader, hardware_label
from perfgate.judge.policy import RATE_FAMILIES, policy_of
from perfgate.judge.verdict import GREEN, Outcome, Verdict, is_red
from perfgate.load.metrics import family_of, is_exact
from perfgate.results.gates import Gate
from perfgate.results.samples import launches_by_machine, values_of
from perfgate.results.schema import RunResults

# Where the store knows nothing: as perfgate.fleet.outliers assumes it.
MACHINES_CV = outliers.BETWEEN_CV
# Of a machine by itself; then it says nothing about the fleet either.
NOT_COMPARED = frozenset(
    {Outcome.NO_BASELINE, Outcome.INCOMPARABLE, Outcome.INVALID}
)


@dataclass(frozen=True)
class Row:
    """One case over the machines of a kind.

    Attributes:
        kind: of the machines. gate: whether it can fail the run.
        change: None where machines' own verdicts say all, as without a baseline.
        worse_by, excluded: losses as fractions; None likewise.
        machines: that measured it, without outliers.
    """

    case: str
    kind: str
    gate: GateMode
    outcome: Outcome
    machines: int
    change: Change | None = None
    worse_by: float | None = None
    excluded: float | None = None
    target: float | None = None


@dataclass(frozen=True)
class Judged:
    """A fleet's run with its verdicts.

    Attributes:
        machines: each with the verdicts of its own run.
        outliers: kind -> machines that differ from the others of it.
    """

    machines: tuple[Machine, ...]
    outliers: Mapping[str, Sequence[Outlier]]
    rows: tuple[Row, ...]

    @property
    def outlying(self) -> frozenset[str]:
        """Names of the outliers of all kinds."""
        names = set()
        for found in self.outliers.values():
            names |= {row.machine for row in found}
        return frozenset(names)

    def red(self, gate: Gate) -> list[Row]:
        """The rows that fail the run."""
        rows = []
        for row in self.rows:
            if is_red(row.outcome, row.gate, gate):
                rows.append(row)
        return rows


def judged(machines: Sequence[Machine], store: Store) -> Judged:
    """Judge each machine by itself, and all of a kind together."""
    done = tuple(_judged_alone(machine, store) for machine in machines)
    by_kind: dict[str, list[Machine]] = {}
    for machine in done:
        by_kind.setdefault(group_of(machine), []).append(machine)
    found = {}
    rows: list[Row] = []
    for kind, members in by_kind.items():
        readers = {one.name: RunReader(one.results) for one in members}
        found[kind] = outliers.find(_losses(members, readers))
        names = {row.machine for row in found[kind]}
        sound = [one for one in members if one.name not in names]
        rows += _Kind(kind, sound, readers, store).rows()
    return Judged(done, found, tuple(rows))


def group_of(machine: Machine) -> str:
    """Machines of one group are alike: their GPU's product, or their processor."""
    if machine.results.hardware.gpus:
        return machine.kind
    return machine.results.hardware.label(0)


def _judged_alone(machine: Machine, store: Store) -> Machine:
    results = run_status.judged_again(machine.results, store)
    return Machine(machine.name, machine.host, machine.tasks, results)


def _losses(
    members: Sequence[Machine], readers: Mapping[str, RunReader]
) -> dict[str, dict[str, float]]:
    """Case -> machine -> logarithm of its value, larger where slower, of absolute rates."""
    losses: dict[str, dict[str, float]] = {}
    for machine in members:
        for case in machine.results.cases:
            if case.is_ratio or family_of(case.metric) not in RATE_FAMILIES:
                continue
            values = readers[machine.name].observe(case).values
            if values and not is_exact(case.metric):
                logs = _logs(values, case)
                row = losses.setdefault(case.id, {})
                row[machine.name] = sum(logs) / len(logs)
    return losses


def _logs(values: Sequence[float], case: Case) -> list[float]:
    """Logarithms, larger where the value is worse."""
    sign = 1.0
    if metric_of(case).better == "higher":
        sign = -1.0
    return [sign * math.log(value) for value in values]


@dataclass(frozen=True)
class _Kind:
    """Machines of one kind, without the outliers."""

    kind: str
    machines: Sequence[Machine]
    readers: Mapping[str, RunReader]
    store: Store

    def rows(self) -> list[Row]:
        """A row for each case that any of them was asked."""
        cases: dict[str, Case] = {}
        for machine in self.machines:
            for case in machine.results.cases:
                cases.setdefault(case.id, case)
        judged_rows = sum(case.gate == "hard" for case in cases.values())
        return [self._row(case, judged_rows) for case in cases.values()]

    def _row(self, case: Case, judged_rows: int) -> Row:
        verdicts = self._verdicts(case)
        if case.is_duel or any(one.results.is_paired for one in self.machines):
            return self._pooled(case, len(verdicts))
        label = hardware_label(self.machines[0].results.hardware, case)
        baseline = self.store.find(case, label)
        seen = self._observations(case, verdicts)
        if not seen or not isinstance(baseline, Recorded):
            return self._by_machines(case, list(verdicts.values()))
        before = _recorded(case, baseline)
        if not before:
            return self._by_machines(case, list(verdicts.values()))
        return self._compared(case, seen, (baseline, before), judged_rows)

    def _observations(
        self, case: Case, verdicts: Mapping[str, Verdict]
    ) -> dict[str, Observation]:
        """Machine -> what it measured, where that could be compared."""
        seen = {}
        for machine in self.machines:
            verdict = verdicts.get(machine.name)
            if verdict is None or verdict.outcome in NOT_COMPARED:
                continue
            observation = self.readers[machine.name].observe(case)
            if observation.values:
                seen[machine.name] = observation
        return seen

    def _verdicts(self, case: Case) -> dict[str, Verdict]:
        """Machine -> its own verdict."""
        verdicts = {}
        for machine in self.machines:
            for row in machine.results.verdicts:
                if row.case == case.id:
                    verdicts[machine.name] = row
        return verdicts

    def _by_machines(self, case: Case, verdicts: Sequence[Verdict]) -> Row:
        """What most machines say of it, where nothing can be compared."""
        outcomes = Counter(row.outcome for row in verdicts)
        outcome = Outcome.INVALID
        if outcomes:
            ((outcome, _),) = outcomes.most_common(1)
        modes = {row.gate for row in verdicts} or {case.gate}
        mode: GateMode = "report"
        if modes == {"hard"}:
            mode = "hard"
        return Row(case.id, self.kind, mode, outcome, len(verdicts))

    def _pooled(self, case: Case, machines: int) -> Row:
        """Pairs and duels of all machines together: each is of one machine."""
        results: RunResults = pooled(self.machines)
        decision = judging.judge_case(results, case, self.store)
        return Row(
            case=case.id,
            kind=self.kind,
            gate=decision.gate,
            outcome=decision.outcome,
            machines=machines,
            worse_by=decision.worse_by,
            excluded=decision.excluded,
            target=decision.target_effect,
        )

    def _compared(
        self,
        case: Case,
        seen: Mapping[str, Observation],
        reference: tuple[Recorded, Mapping[str, Sequence[float]]],
        judged_rows: int,
    ) -> Row:
        baseline, before = reference
        first = next(iter(seen.values()))
        policy = policy_of(case, first.hardware_label, first.fail_over)
        higher = metric_of(case).better == "higher"
        now = {}
        for observation in seen.values():
            name = observation.machine or observation.run
            now[name] = _logs(observation.values, case)
        found = change.compare(
            now, before, _prior(baseline, policy.assumed_cv), judged_rows
        )
        target = target_effect_of(baseline, policy)
        if case.two_sided:
            found = _two_sided(found)
        return Row(
            case=case.id,
            kind=self.kind,
            gate=gate_mode(case, policy, baseline.metric.gate),
            outcome=found.outcome(log_loss(target, higher)),
            machines=found.machines,
            change=found,
            worse_by=fraction_of(found.loss, higher),
            excluded=fraction_of(found.excluded, higher),
            target=target,
        )


def _recorded(case: Case, baseline: Recorded) -> dict[str, list[float]]:
    """Machine -> logarithms of its recorded launches; each launch alone where unknown."""
    by_machine = launches_by_machine(
        baseline.metric.launches, baseline.machines
    )
    before = {}
    for name, samples in by_machine.items():
        logs = _logs(values_of(samples), case)
        if name is not None and logs:
            before[name] = logs
        for number, log in enumerate(logs if name is None else ()):
            before[f"unknown {number}"] = [log]
    return before


def _prior(baseline: Recorded, assumed_cv: float) -> Prior:
    launches_cv, machines_cv = assumed_cv, MACHINES_CV
    if baseline.group is not None:
        launches_cv = baseline.group.launches.cv
        if baseline.group.machines is not None:
            machines_cv = baseline.group.machines.cv
    return Prior(launches_cv, max(machines_cv, launches_cv))


def _two_sided(found: Change) -> Change:
    """The size of a change whose direction says nothing."""
    return Change(
        loss=abs(found.loss),
        error=found.error,
        alarm=found.alarm,
        machines=found.machines,
        launches=found.launches,
        is_own=found.is_own,
    )


def is_green(row: Row) -> bool:
    """Whether a row passed, or is better."""
    return row.outcome in GREEN
