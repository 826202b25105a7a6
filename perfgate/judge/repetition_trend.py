"""Slow repetitions and trends over repetitions, which the median of a launch hides.

A launch counts with the median of its repetitions. One that is far slower than the
median, or a server that slows down from the first to the last, is judged here.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from perfgate import formatting
from perfgate.cases import GateMode
from perfgate.judge import repetition_scatter, wording
from perfgate.judge.baseline_store import Store
from perfgate.judge.observation import RunReader
from perfgate.judge.stalls import cases_of, platform_of
from perfgate.load.workload import Arrivals
from perfgate.results.group_verdict import GroupVerdict, Scope
from perfgate.results.samples import valid_repetitions
from perfgate.results.schema import Measurement
from perfgate.results.verdict import Outcome, Verdict

SLOW = "slow repetition"
TREND = "repetition trend"
FEWEST = 3  # repetitions of a launch, and loads of a trend
# Times the median duration of the same work. The slowest repetition of the launches of
# docs/runs took 1.12 times of it with one stream or under a closed loop (1.20 with a
# neighbour), 1.57 times in a burst, and 1.22 times in a steady load, whose prefills take
# turns with steps and wait for the host.
SLOW_FACTOR: Mapping[Arrivals, float] = {
    "single": 1.2,
    "prefill": 1.2,
    "closed": 1.2,
    "steady": 1.35,
    "burst": 1.6,
    "open": 1.6,
}
# Where all repetitions of a launch scatter, the slowest lies so many of their standard
# deviations from the median: SGLang's bursts took up to 1.57 times on one of six hosts.
SLOW_DEVIATIONS = 4.0
# On a CPU neighbours take the machine away: only what is several times slower is hard.
SLOW_FACTOR_CPU, HARD_FACTOR_CPU = 1.6, 2.5
# The last repetition was 1.02 times as slow at most, as the median over a server's loads.
TREND_FACTOR = {"gpu": 1.05, "cpu": 1.25}
TREND_ALPHA = 0.05


@dataclass(frozen=True)
class Course:
    """The repetitions of one launch of one load, in order.

    Attributes:
        losses: how much slower each was than the median, as logarithms.
    """

    server: str
    workload: str
    arrivals: Arrivals
    launch: int
    losses: tuple[float, ...]

    @property
    def worst(self) -> float:
        """How many times the median the slowest took."""
        return math.exp(max(self.losses))

    @property
    def last(self) -> float:
        """How much slower the last was than those before, as a logarithm."""
        return self.losses[-1] - statistics.median(self.losses[:-1])

    @property
    def is_last_slowest(self) -> bool:
        """Whether none was slower than the last."""
        return self.losses[-1] >= max(self.losses)


def courses(reader: RunReader) -> Iterator[Course]:
    """Of each launch with enough valid repetitions on cores of its own.

    Base builds are left out.
    """
    servers = reader.results.servers
    for row in reader.results.measurements:
        server = servers.get(row.server)
        if server is not None and server.config.build == "base":
            continue
        workload = reader.results.workloads.get(row.workload)
        if workload is None:
            continue
        arrivals = workload.arrivals
        costs = _costs(row, arrivals)
        if len(costs) < FEWEST:
            continue
        median = statistics.median(costs)
        losses = tuple(cost - median for cost in costs)
        yield Course(row.server, row.workload, arrivals, row.launch, losses)


def _costs(measurement: Measurement, arrivals: Arrivals) -> list[float]:
    """Of the valid repetitions on cores that nobody else used, in order."""
    costs = []
    for repetition in valid_repetitions(measurement):
        cost = cost_of(repetition.values, arrivals)
        if cost is not None and not repetition.is_beside_others:
            costs.append(cost)
    return costs


def cost_of(values: dict[str, float], arrivals: Arrivals) -> float | None:
    """What the work took, as a logarithm; an open loop's rate is given, its latency is not."""
    if arrivals == "open":
        latency = values.get("e2el_mean_ms", 0.0)
        if latency > 0:
            return math.log(latency)
        return None
    throughput = values.get("output_throughput", 0.0)
    if throughput > 0:
        return -math.log(throughput)
    return None


def check_slow(
    reader: RunReader, verdicts: Sequence[Verdict], store: Store
) -> Iterator[GroupVerdict]:
    """A verdict for each server with a repetition far slower than its launch's median."""
    platform = platform_of(reader)
    by_server: dict[str, list[Course]] = {}
    for course in courses(reader):
        if course.worst > slow_factor(course, platform):
            by_server.setdefault(course.server, []).append(course)
    for server, slow in by_server.items():
        yield _slow(server, slow, verdicts, platform)


def slow_factor(course: Course, platform: str) -> float:
    """Times the median duration above which a repetition is too slow."""
    if platform == "cpu":
        return SLOW_FACTOR_CPU
    factor = SLOW_FACTOR[course.arrivals]
    if len(course.losses) < repetition_scatter.FEWEST:
        return factor
    scatter = repetition_scatter.deviation(course.losses)
    return max(factor, math.exp(SLOW_DEVIATIONS * scatter))


def gate_of(course: Course, platform: str) -> GateMode:
    """Hard where recorded repetitions show how much is usual; else several times."""
    is_known = platform == "gpu" and course.arrivals != "open"
    if is_known or course.worst > HARD_FACTOR_CPU:
        return "hard"
    return "report"


def _slow(
    server: str,
    slow: Sequence[Course],
    verdicts: Sequence[Verdict],
    platform: str,
) -> GroupVerdict:
    worst = max(slow, key=lambda course: course.worst)
    gates = {gate_of(course, platform) for course in slow}
    gate: GateMode = "report"
    if "hard" in gates:
        gate = "hard"
    loads = list(dict.fromkeys(course.workload for course in slow))
    cases: list[str] = []
    for workload in loads:
        cases += cases_of(verdicts, server, workload)
    subject = server
    if len(loads) == 1:
        subject = f"{server}, {loads[0]}"
    position = worst.losses.index(max(worst.losses)) + 1
    threshold = slow_factor(worst, platform)
    summary = wording.SLOW_REPETITION.format(
        number=position,
        repetitions=len(worst.losses),
        load=worst.workload,
        factor=f"{worst.worst:.2f}",
        threshold=f"{threshold:.3g}",
    )
    details: tuple[str, ...] = ()
    scope: Scope = "load"
    if len(loads) > 1:
        scope = "server"
        details = (wording.SLOW_LOADS.format(loads=formatting.listed(loads)),)
    return GroupVerdict(
        scope=scope,
        subject=subject,
        check=SLOW,
        outcome=Outcome.REGRESSED,
        gate=gate,
        value=worst.worst,
        baseline=1.0,
        worse_by=worst.worst - 1,
        threshold=threshold - 1,
        cases=tuple(cases),
        summary=summary,
        details=details,
        advice=wording.SLOW_ADVICE,
    )


def check_trend(
    reader: RunReader, verdicts: Sequence[Verdict], store: Store
) -> Iterator[GroupVerdict]:
    """A verdict for each server whose last repetitions are slower on most of its loads."""
    platform = platform_of(reader)
    by_server: dict[str, list[Course]] = {}
    for course in courses(reader):
        by_server.setdefault(course.server, []).append(course)
    for server, rows in by_server.items():
        verdict = _trend(server, rows, platform)
        if verdict is not None:
            yield verdict.with_cases(cases_of(verdicts, server))


def _trend(
    server: str, rows: Sequence[Course], platform: str
) -> GroupVerdict | None:
    if len(rows) < FEWEST:
        return None
    drift = math.exp(statistics.median(course.last for course in rows))
    slowest = sum(course.is_last_slowest for course in rows)
    chance = _chance(slowest, rows)
    threshold = TREND_FACTOR[platform]
    if drift <= threshold or chance > TREND_ALPHA:
        return None
    gate: GateMode = "report"
    if platform == "gpu" or drift > HARD_FACTOR_CPU:
        gate = "hard"
    summary = wording.REPETITION_TREND.format(
        drift=formatting.signed_percent(drift - 1),
        threshold=formatting.signed_percent(threshold - 1),
        slowest=slowest,
        loads=formatting.count(len(rows), "load"),
    )
    return GroupVerdict(
        scope="server",
        subject=server,
        check=TREND,
        outcome=Outcome.REGRESSED,
        gate=gate,
        value=drift,
        baseline=1.0,
        worse_by=drift - 1,
        threshold=threshold - 1,
        false_alarm_rate=chance,
        summary=summary,
        advice=wording.SLOW_ADVICE,
    )


def _chance(slowest: int, rows: Sequence[Course]) -> float:
    """Chance that so many last repetitions are the slowest, were their order random."""
    # Imported here: the plugin starts without scipy.
    from scipy.stats import binom

    share = statistics.mean(1 / len(course.losses) for course in rows)
    return float(binom.sf(slowest - 1, len(rows), share))
