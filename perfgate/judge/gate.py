"""Gate: judge a case against its baseline. Pure: numbers in, decisions out.

Every verdict can be decided again without a GPU. The unit is the launch, each by the
median of its valid repetitions; several launches count by their geometric mean. The
first launch decides alone only where it is clearly within the threshold. Otherwise two
more are launched, once, and all three decide; a case is never measured until it passes.
`perfgate.judge.noise` has the formulas, docs/error-rates.md the error rates.
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Iterable

import msgspec

from perfgate import formatting
from perfgate.cases import Case, parse_id
from perfgate.judge import (
    choices,
    coarse,
    comparability,
    neighbours,
    plausibility,
    shared_cores,
    start_kind,
    wording,
)
from perfgate.judge.baseline_store import Baseline, Recorded, Store
from perfgate.judge.duel import judge_duel
from perfgate.judge.measured_case import MeasuredCase, metric_of
from perfgate.judge.observation import Observation, RunReader, hardware_label
from perfgate.judge.paired import judge_paired
from perfgate.judge.policy import Policy, policy_of
from perfgate.judge.screen import advise_pairs, judge_suspect
from perfgate.judge.verdict import Decision, Outcome
from perfgate.machine.hardware import Hardware
from perfgate.results.schema import RunResults


def judge(
    case: Case,
    observation: Observation,
    baseline: Baseline | None,
    policy: Policy | None = None,
    today: datetime.date | None = None,
) -> Decision:
    """Decide one case.

    Args:
        policy: None takes the table's row for this hardware and metric.
        today: decides whether a known regression is still accepted. None asks the
            clock, and only where there is one.

    """
    if policy is None:
        policy = policy_of(
            case, observation.hardware_label, observation.fail_over
        )
    measured = MeasuredCase(case, metric_of(case), observation, policy)
    problem = measured.invalid() or measured.collapsed()
    if problem is not None:
        return plausibility.explained(problem, case, observation)
    decision = _by_value(measured, baseline, today)
    if isinstance(baseline, Recorded):
        decision = choices.explained(decision, observation, baseline.chosen)
    reference = plausibility.reference_of(baseline)
    return plausibility.checked(decision, case, observation, reference)


def _by_value(
    measured: MeasuredCase,
    baseline: Baseline | None,
    today: datetime.date | None,
) -> Decision:
    """The verdict by value alone; starts of several kinds are judged apart."""
    if not isinstance(baseline, Recorded):
        return measured.against(baseline, today)
    decisions = {}
    parts = start_kind.apart(baseline, measured.observation, measured.policy)
    for kind, observation in parts.items():
        alike, policy = start_kind.alike(baseline, observation, measured.policy)
        part = dataclasses.replace(
            measured, observation=observation, policy=policy
        )
        decisions[kind] = part.against(alike, today)
    return start_kind.worst(decisions)


def judge_case(
    results: RunResults,
    case: Case,
    store: Store,
    today: datetime.date | None = None,
) -> Decision:
    """Decide one case of a run, against its base build where it was launched in pairs."""
    return _judge_in(RunReader(results), case, store, today)


def judge_run(
    results: RunResults, store: Store, today: datetime.date | None = None
) -> list[Decision]:
    """Decide every case of a run again, from the data alone."""
    reader = RunReader(results)
    return [_judge_in(reader, case, store, today) for case in results.cases]


def _judge_in(
    reader: RunReader, case: Case, store: Store, today: datetime.date | None
) -> Decision:
    decision = _decision_in(reader, case, store, today)
    named = store.in_commands
    advice = wording.in_store(decision.advice, named)
    return msgspec.structs.replace(decision, advice=advice, store=named)


def _decision_in(
    reader: RunReader, case: Case, store: Store, today: datetime.date | None
) -> Decision:
    if case.is_duel:
        return judge_duel(reader, case)
    if reader.results.is_paired:
        return judge_paired(reader, case)
    decision = _judge_by_baseline(reader, case, store, today)
    if case.id in reader.results.suspects:
        return judge_suspect(reader, case, decision)
    return advise_pairs(reader.results, case, decision)


def _judge_by_baseline(
    reader: RunReader, case: Case, store: Store, today: datetime.date | None
) -> Decision:
    observation = reader.observe(case)
    baseline = store.find(case, observation.hardware_label)
    decision = judge(case, observation, baseline, today=today)
    if store.has_left_out(case, observation.hardware_label):
        decision = _of_accepted(decision, observation.hardware_label)
    decision = coarse.judged(decision, case, observation, store)
    decision = shared_cores.judged(decision, case, reader)
    decision = neighbours.judged(decision, case, reader)
    notes = comparability.engine_notes(reader.results, case)
    notes += comparability.kernel_notes(reader.results, case)
    notes += neighbours.notes(decision, case, reader)
    if not isinstance(baseline, Recorded):
        notes += _other_routing(case, store, observation.hardware_label)
    if not notes:
        return decision
    return msgspec.structs.replace(
        decision, details=(*decision.details, *notes)
    )


def _of_accepted(decision: Decision, label: str) -> Decision:
    """The decision on a run that was accepted: doing so again would change nothing.

    A loss is told what it may come from, and a replacement is none of the launches.
    """
    advice = decision.advice
    if decision.outcome is Outcome.REGRESSED or "--replace" in advice:
        return decision
    if wording.OF_THIS_RUN in advice:
        advice = advice.replace(wording.OF_THIS_RUN, wording.OF_OTHER_RUNS)
    elif f"perfgate accept {wording.RUN}" in advice:
        advice = wording.ACCEPTED
    summary = decision.summary
    if summary == wording.NO_BASELINE.format(label=label):
        summary = wording.ONLY_THIS_RUN.format(label=label)
    return msgspec.structs.replace(decision, summary=summary, advice=advice)


def _other_routing(case: Case, store: Store, label: str) -> list[str]:
    """That the model's own routing has a baseline, where a stated one has none."""
    if not case.stated_routings:
        return []
    other = store.find(case.routed_by_model, label)
    if not isinstance(other, Recorded):
        return []
    line = wording.OTHER_ROUTING.format(
        stated=formatting.listed(sorted(case.stated_routings)), path=other.path
    )
    return [line]


def unused_baselines(
    expected: Iterable[Case], hardware: Hardware, store: Store
) -> list[str]:
    """Recorded metrics of the expected servers that no expected case asks for.

    To be shown after complete runs.

    Args:
        expected: every case of the suite on this hardware, selected or not: what was
            skipped is not unused.
    """
    cases = list(expected)
    servers = {load.server.key for case in cases for load in case.loads}
    labels = {hardware_label(hardware, case) for case in cases}
    unused: set[str] = set()
    for label in labels:
        unused |= store.recorded_ids(label)
    unused -= {case.id for case in cases}
    return sorted(
        case_id
        for case_id in unused
        if servers.issuperset(parse_id(case_id).servers)
    )
