"""Judgement of a fleet: each machine by its own launches, then all machines of a kind together.

A machine is judged as any run is. A row of the fleet is judged over machines
(`perfgate.fleet.change`), without those that are outliers among their kind: a sick GPU
is no regression.
"""

from __future__ import annotations

import functools
import math
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from perfgate.cases import Case, GateMode
from perfgate.fleet import change, outliers
from perfgate.fleet.change import Change, Logs, Prior
from perfgate.fleet.machines import Machine, pooled
from perfgate.fleet.outliers import Outlier
from perfgate.judge import answer_shift, routing_shift, run_status
from perfgate.judge import gate as judging
from perfgate.judge.baseline_store import Recorded, Store
from perfgate.judge.machine_scope import target_effect_of
from perfgate.judge.measured_case import gate_mode, metric_of
from perfgate.judge.noise import fraction_of, log_loss
from perfgate.judge.observation import RunReader, hardware_label
from perfgate.judge.paired import judge_pooled
from perfgate.judge.policy import RATE_FAMILIES, policy_of
from perfgate.judge.verdict import GREEN, Outcome, is_red
from perfgate.load.metrics import family_of, is_exact
from perfgate.report.headline import verdict_sentence
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
class Seen:
    """What one machine says of a case.

    Attributes:
        outcome, gate: of its own verdict.
        logs: of its launches that count, larger where worse.
        recorded_as: the machine's name in baselines.
    """

    outcome: Outcome
    gate: GateMode
    logs: tuple[float, ...]
    recorded_as: str


@dataclass(frozen=True)
class Witness:
    """What is kept of a machine once it is judged: its run is on the disk.

    Attributes:
        kind: of its GPUs, or "cpu". group: machines of one group are alike.
        launches: sessions of the fleet. sentence: the verdict of its own run.
        seen: by case id.
        paired: its run, where pairs decide and must be pooled.
    """

    name: str
    host: str
    kind: str
    group: str
    launches: int
    sentence: str
    seen: Mapping[str, Seen]
    paired: Machine | None = None


@dataclass(frozen=True)
class Row:
    """One case over the machines of a group.

    Attributes:
        gate: whether it can fail the run.
        machines: that measured it, without outliers.
        change: None where machines' own verdicts say all, as without a baseline.
        worse_by, excluded: losses as fractions; None likewise.
        target: the loss to be caught, as a fraction.
    """

    case: str
    group: str
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
        outliers: group -> machines that differ from the others of it.
    """

    machines: tuple[Witness, ...]
    outliers: Mapping[str, Sequence[Outlier]]
    rows: tuple[Row, ...]

    @property
    def outlying(self) -> frozenset[str]:
        """Names of the outliers of all groups."""
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


@dataclass
class _Group:
    """Alike machines, and the cases that any of them was asked."""

    first: RunResults
    witnesses: list[Witness] = field(default_factory=list)
    cases: dict[str, Case] = field(default_factory=dict)


def judged(
    machines: Iterable[Machine],
    store: Store,
    keep: Callable[[Machine], None] = lambda machine: None,
) -> Judged:
    """Judge each machine by itself, and all alike ones together.

    Args:
        machines: read one after another.
        keep: called with each machine and the verdicts of its own run.
    """
    groups: dict[str, _Group] = {}
    for machine in machines:
        results = run_status.judged_again(machine.results, store)
        done = Machine(machine.name, machine.host, machine.tasks, results)
        keep(done)
        group = groups.setdefault(group_of(done), _Group(results))
        group.witnesses.append(_witness(done))
        for case in results.cases:
            group.cases.setdefault(case.id, case)
    found = {}
    rows: list[Row] = []
    for name, group in groups.items():
        found[name] = outliers.find(_losses(group))
        outlying = {row.machine for row in found[name]}
        sound = [one for one in group.witnesses if one.name not in outlying]
        rows += _Fleet(name, group, sound, store).rows()
    witnesses = [one for group in groups.values() for one in group.witnesses]
    return Judged(tuple(witnesses), found, tuple(rows))


def group_of(machine: Machine) -> str:
    """Machines of one group are alike: their GPU's product, or their processor."""
    if machine.results.hardware.gpus:
        return machine.kind
    return machine.results.hardware.label(0)


def _witness(machine: Machine) -> Witness:
    results = machine.results
    reader = RunReader(results)
    cases = {case.id: case for case in results.cases}
    seen = {}
    for verdict in results.verdicts:
        case = cases[verdict.case]
        observation = reader.observe(case)
        seen[case.id] = Seen(
            outcome=verdict.outcome,
            gate=verdict.gate,
            logs=tuple(_logs(observation.values, case)),
            recorded_as=observation.machine or machine.name,
        )
    paired = None
    if results.is_paired or any(case.is_duel for case in results.cases):
        paired = machine
    return Witness(
        name=machine.name,
        host=machine.host,
        kind=machine.kind,
        group=group_of(machine),
        launches=len(machine.tasks),
        sentence=verdict_sentence(results),
        seen=seen,
        paired=paired,
    )


def _losses(group: _Group) -> dict[str, dict[str, float]]:
    """Case -> machine -> mean of its logarithms, of absolute rates."""
    losses: dict[str, dict[str, float]] = {}
    for case in group.cases.values():
        is_rate = family_of(case.metric) in RATE_FAMILIES
        if case.is_ratio or not is_rate or is_exact(case.metric):
            continue
        row = {}
        for witness in group.witnesses:
            seen = witness.seen.get(case.id)
            if seen is not None and seen.logs:
                row[witness.name] = sum(seen.logs) / len(seen.logs)
        losses[case.id] = row
    return losses


def _logs(values: Sequence[float], case: Case) -> list[float]:
    """Logarithms, larger where the value is worse."""
    sign = 1.0
    if metric_of(case).better == "higher":
        sign = -1.0
    return [sign * math.log(value) for value in values]


@dataclass(frozen=True)
class _Fleet:
    """The machines of a group, without the outliers."""

    name: str
    group: _Group
    machines: Sequence[Witness]
    store: Store

    def rows(self) -> list[Row]:
        """A row for each case that any of them was asked."""
        cases = self.group.cases.values()
        judged_rows = sum(case.gate == "hard" for case in cases)
        return [self._row(case, judged_rows) for case in cases]

    def _row(self, case: Case, judged_rows: int) -> Row:
        if case.is_duel or self.group.first.is_paired:
            return self._pooled(case)
        if not _is_of_value(case):
            return self._by_machines(case)
        label = hardware_label(self.group.first.hardware, case)
        baseline = self.store.find(case, label)
        now = self._logs_of(case)
        if not now or not isinstance(baseline, Recorded):
            return self._by_machines(case)
        before = _recorded(case, baseline)
        if not before:
            return self._by_machines(case)
        policy = policy_of(case, label, self.group.first.fail_over)
        higher = metric_of(case).better == "higher"
        prior = _prior(baseline, policy.assumed_cv)
        found = change.compare(now, before, prior, judged_rows)
        rises = (found.loss > 0) != higher
        if case.two_sided:
            found = _two_sided(found)
        target = target_effect_of(baseline, policy)
        outcome = found.outcome(log_loss(target, higher))
        if outcome is Outcome.REGRESSED:
            reference = _value_of(before, higher)
            outcome = _unless_excused(found, baseline, reference, rises)
        return Row(
            case=case.id,
            group=self.name,
            gate=gate_mode(case, policy, baseline.metric.gate),
            outcome=outcome,
            machines=found.machines,
            change=found,
            worse_by=fraction_of(found.loss, higher),
            excluded=fraction_of(found.excluded, higher),
            target=target,
        )

    def _logs_of(self, case: Case) -> dict[str, Logs]:
        """Machine, as it is recorded -> logarithms of the launches to be compared."""
        logs: dict[str, Logs] = {}
        for witness in self.machines:
            seen = witness.seen.get(case.id)
            if seen and seen.logs and seen.outcome not in NOT_COMPARED:
                logs[seen.recorded_as] = seen.logs
        return logs

    def _by_machines(self, case: Case) -> Row:
        """What most machines say of it, where nothing can be compared."""
        seen = [
            one.seen[case.id] for one in self.machines if case.id in one.seen
        ]
        outcomes = Counter(row.outcome for row in seen)
        outcome = Outcome.INVALID
        if outcomes:
            # Of as many machines each, the outcome that needs attention first.
            worst_first = sorted(outcomes, key=run_status.ORDER.index)
            outcome = max(worst_first, key=lambda name: outcomes[name])
        modes = {row.gate for row in seen} or {case.gate}
        mode: GateMode = "report"
        if modes == {"hard"}:
            mode = "hard"
        return Row(case.id, self.name, mode, outcome, len(seen))

    @functools.cached_property
    def _members(self) -> list[Machine]:
        """The machines that have pairs or duels."""
        return [one.paired for one in self.machines if one.paired]

    @functools.cached_property
    def _pairs(self) -> RunResults:
        """Their runs as one."""
        return pooled(self._members)

    @functools.cached_property
    def _readers(self) -> tuple[RunReader, list[RunReader]]:
        """Of their runs as one, and of each of them."""
        each = [RunReader(one.results) for one in self._members]
        return RunReader(self._pairs), each

    def _pooled(self, case: Case) -> Row:
        """Pairs and duels of all machines together: each is of one machine."""
        members = self._members
        if not members:
            return self._by_machines(case)
        if case.is_duel:
            decision = judging.judge_case(self._pairs, case, self.store)
        else:
            decision = judge_pooled(*self._readers, case)
        return Row(
            case=case.id,
            group=self.name,
            gate=decision.gate,
            outcome=decision.outcome,
            machines=len(members),
            worse_by=decision.worse_by,
            excluded=decision.excluded,
            target=decision.target_effect,
        )


def _is_of_value(case: Case) -> bool:
    """Whether the value decides, which machines share; else each launch decides alone."""
    of_launch = (routing_shift.SHARES, answer_shift.METRIC)
    return not is_exact(case.metric) and case.metric not in of_launch


def _value_of(before: Mapping[str, Sequence[float]], higher: bool) -> float:
    """The recorded value of a row: the geometric mean over its machines."""
    middle = statistics.fmean(map(statistics.fmean, before.values()))
    if higher:
        return math.exp(-middle)
    return math.exp(middle)


def _unless_excused(
    found: Change, baseline: Recorded, reference: float, rises: bool
) -> Outcome:
    """A regression; none where it is too small to count, or accepted until a day.

    Args:
        reference: the recorded value. rises: whether the value is larger now.
    """
    metric = baseline.metric
    if _difference(reference, found.loss, rises) <= metric.floor:
        largest = _difference(reference, found.loss + found.error, rises)
        if largest <= metric.floor:
            return Outcome.PASSED
        return Outcome.NOT_EXCLUDED
    known = metric.known
    if known is None:
        return Outcome.REGRESSED
    accepted = log_loss(known.worse_by, metric.better == "higher")
    is_larger = found.loss > accepted + found.alarm
    if is_larger or known.is_over() or known.is_other_way(rises):
        return Outcome.REGRESSED
    return Outcome.PASSED


def _difference(reference: float, loss: float, rises: bool) -> float:
    """A loss in the metric's unit."""
    if rises:
        return reference * math.expm1(loss)
    return -reference * math.expm1(-loss)


def _recorded(case: Case, baseline: Recorded) -> dict[str, list[float]]:
    """Machine -> logarithms of its recorded launches; each launch alone where unknown."""
    by_machine = launches_by_machine(
        baseline.metric.launches, baseline.machines
    )
    before = {}
    for name, samples in by_machine.items():
        logs = _logs(values_of(samples), case)
        if name is None:
            for number, log in enumerate(logs):
                before[f"unknown {number}"] = [log]
        elif logs:
            before[name] = logs
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
