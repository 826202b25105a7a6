"""Subject: the server and load of a diagnosis that are profiled, and what they lost."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from perfgate.cases import Case, Load
from perfgate.engines.base import ServerConfig
from perfgate.judge.causes.diagnose import red_cases
from perfgate.judge.causes.loss_rules import ANSWERS, MEMORY
from perfgate.judge.causes.profiled import MEAN_ITL
from perfgate.judge.verdict import Verdict, is_regression
from perfgate.load.metrics import family_of
from perfgate.load.workload import Workload
from perfgate.results.diagnosis import Diagnosis
from perfgate.results.profile import ProfiledPhase
from perfgate.results.samples import RunIndex, values_of
from perfgate.results.schema import RunResults

# Metric whose unit is a step of that phase.
_METRICS: dict[ProfiledPhase, tuple[str, str]] = {
    "decode": ("itl_median_ms", "ITL"),
    "prefill": ("ttft_median_ms", "TTFT"),
}

# A load may be answered for them, and loses no time by them.
_TIMELESS = MEMORY | ANSWERS


@dataclass(frozen=True)
class Loss:
    """What a metric lost, before the profiler was there."""

    before: float
    now: float
    name: str

    @property
    def added(self) -> float:
        """Now less before."""
        return self.now - self.before


@dataclass(frozen=True)
class Subject:
    """What is profiled for a diagnosis.

    Attributes:
        worst: the verdict that lost most of this server's closed loads and bursts.
        output_tokens: of a request.
        losses: by phase of which it is the unit.
        mean: what the mean gap lost where it is red, with the steps that take prompts in.
    """

    config: ServerConfig
    workload: Workload
    worst: Verdict
    output_tokens: float
    losses: dict[ProfiledPhase, Loss]
    mean: Loss | None = None


def takes_longer(results: RunResults, diagnosis: Diagnosis) -> bool:
    """Whether a load of a diagnosis takes longer: not a start alone, memory or answers."""
    red = red_cases(results.verdicts, results.group_verdicts)
    for case in results.cases:
        keys = {load.server.key for load in case.loads}
        if case.id not in red or not keys & set(diagnosis.servers):
            continue
        is_timed = family_of(case.metric) not in _TIMELESS
        if case.numerator.workload is not None and is_timed:
            return True
    return False


def subject_of(results: RunResults, diagnosis: Diagnosis) -> Subject | None:
    """The load that lost most of a diagnosis; None where no closed load was compared."""
    cases = {case.id: case for case in results.cases}
    rows: list[tuple[tuple[bool, float], Verdict, Load]] = []
    for verdict in results.verdicts:
        case = cases.get(verdict.case)
        if case is None or not _is_comparable(case, verdict):
            continue
        if case.numerator.server.key not in diagnosis.servers:
            continue
        order = is_regression(verdict), verdict.worse_by or 0.0
        rows.append((order, verdict, case.numerator))
    if not rows:
        return None
    _, worst, load = max(rows, key=lambda row: row[0])
    workload = load.workload
    if workload is None:
        return None
    return Subject(
        config=load.server,
        workload=workload,
        worst=worst,
        output_tokens=_output_tokens(results, load.server, workload),
        losses=_losses(results, cases.values(), load),
        mean=_mean(results, cases, load),
    )


def _output_tokens(
    results: RunResults, server: ServerConfig, workload: Workload
) -> float:
    """Tokens of an answer, by the launch that was judged first, or by those in pairs."""
    index = RunIndex(results)
    tokens = []
    for key in (server.key, server.candidate.key):
        for row in index.repetitions(key, workload.name):
            tokens.append(row.output_tokens / row.completed)
    return statistics.median(tokens)


def _is_comparable(case: Case, verdict: Verdict) -> bool:
    """Whether its load keeps a number of streams, and its value has a base."""
    workload = case.numerator.workload
    if case.is_ratio or workload is None or workload.asks_routing:
        return False
    if case.is_duel:  # no server answers it, so none can be profiled
        return False
    if workload.batch is None:
        return False
    return bool(verdict.value and verdict.baseline)


def _losses(
    results: RunResults, cases: Iterable[Case], load: Load
) -> dict[ProfiledPhase, Loss]:
    """What the load lost in a step and, where a request is alone, in a prefill."""
    workload = load.workload
    losses: dict[ProfiledPhase, Loss] = {}
    if workload is None:
        return losses
    ids = {
        case.metric: case.id
        for case in cases
        if not case.is_ratio and case.numerator == load
    }
    verdicts = {row.case: row for row in results.verdicts}
    for phase, (metric, name) in _METRICS.items():
        if phase == "prefill" and workload.batch != 1:
            continue
        verdict = verdicts.get(ids.get(metric, ""))
        text = f"{name} of {workload.name}"
        if verdict is not None and verdict.value and verdict.baseline:
            losses[phase] = Loss(verdict.baseline, verdict.value, text)
            continue
        values = _in_pairs(results, load, metric)
        if values is not None:
            losses[phase] = Loss(*values, text)
    return losses


def _mean(
    results: RunResults, cases: Mapping[str, Case], load: Load
) -> Loss | None:
    """What the mean gap between tokens lost; None where that is not red."""
    for verdict in results.verdicts:
        case = cases.get(verdict.case)
        if case is None or case.is_ratio or case.numerator != load:
            continue
        if verdict.metric != MEAN_ITL or not is_regression(verdict):
            continue
        if verdict.value and verdict.baseline and load.workload is not None:
            text = f"mean ITL of {load.workload.name}"
            return Loss(verdict.baseline, verdict.value, text)
    return None


def _in_pairs(
    results: RunResults, load: Load, metric: str
) -> tuple[float, float] | None:
    """Medians of the base build and of the candidate; None without pairs."""
    workload = load.workload
    if workload is None or not (results.is_paired or results.is_screened):
        return None
    candidate = load.server.key
    if results.is_screened:
        candidate = load.server.candidate.key
    index = RunIndex(results)
    before, now = (
        values_of(index.samples_of(key, workload.name, metric))
        for key in (load.server.base.key, candidate)
    )
    if not before or not now:
        return None
    return statistics.median(before), statistics.median(now)
