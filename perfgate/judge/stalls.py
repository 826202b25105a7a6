"""Stalls: a load or a server of which too many repetitions do not count.

An invalid repetition is measured again, so that its values never show what it was. What
made it invalid is the server's, unless a machine did it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from perfgate import formatting
from perfgate.judge import wording
from perfgate.judge.baseline_store import Store
from perfgate.judge.observation import RunReader
from perfgate.load.repetition import Repetition
from perfgate.results.group_verdict import GroupVerdict, Scope
from perfgate.results.samples import LoadKey
from perfgate.results.verdict import Outcome, Verdict

CHECK = "stalls"
# Chance that a repetition of an unchanged server is invalid: 95 % upper limits. On GPUs
# 11 of 1,444 repetitions of docs/runs were; on a CPU none of 75 (the rule of three).
BASE_RATE = {"gpu": 0.013, "cpu": 0.04}
# Chance that one unchanged load or server is called red. Two of five are.
ALPHA = 0.004


@dataclass(frozen=True)
class Tally:
    """How many of the repetitions of a load or a server its server made invalid.

    Attributes:
        reasons: the first reason of each of them.
    """

    repetitions: int
    invalid: int
    reasons: tuple[str, ...]


def tally(rows: Sequence[Repetition]) -> Tally:
    """Count repetitions; those that the client spoilt prove nothing and are left out."""
    counted = 0
    reasons = []
    for row in rows:
        if row.is_spoilt_by_client:
            continue
        counted += 1
        if row.invalid:
            reasons.append(row.invalid[0])
    return Tally(counted, len(reasons), tuple(reasons))


def tail_probability(invalid: int, repetitions: int, base_rate: float) -> float:
    """Chance of at least so many invalid repetitions of an unchanged server."""
    # Imported here: the plugin starts without scipy.
    from scipy.stats import binom

    return float(binom.sf(invalid - 1, repetitions, base_rate))


def check(
    reader: RunReader, verdicts: Sequence[Verdict], store: Store
) -> Iterator[GroupVerdict]:
    """A verdict for each server with too many invalid repetitions, else for its loads."""
    base_rate = BASE_RATE[platform_of(reader)]
    groups = repetitions_by_server(reader)
    tests = len(groups) + sum(len(loads) for loads in groups.values())
    for server, loads in groups.items():
        every_row: list[Repetition] = []
        red = []
        for (_, workload), rows in loads.items():
            every_row += rows
            subject = f"{server}, {workload}"
            row = _verdict("load", subject, tally(rows), base_rate, tests)
            if row is not None:
                cases = cases_of(verdicts, server, workload)
                red.append(row.with_cases(cases))
        pooled = _verdict("server", server, tally(every_row), base_rate, tests)
        if pooled is not None and len(red) != 1:
            yield pooled.with_cases(cases_of(verdicts, server))
        else:
            yield from red


def _verdict(
    scope: Scope, subject: str, count: Tally, base_rate: float, tests: int
) -> GroupVerdict | None:
    if count.invalid < 2:
        return None
    chance = tail_probability(count.invalid, count.repetitions, base_rate)
    if chance > ALPHA:
        return None
    share = count.invalid / count.repetitions
    summary = wording.STALLS.format(
        invalid=count.invalid,
        repetitions=formatting.count(count.repetitions, "repetition"),
        usual=formatting.percent(base_rate),
    )
    reasons = list(dict.fromkeys(count.reasons))
    return GroupVerdict(
        scope=scope,
        subject=subject,
        check=CHECK,
        outcome=Outcome.REGRESSED,
        gate="hard",
        value=share,
        baseline=base_rate,
        false_alarm_rate=min(1.0, tests * ALPHA),
        summary=summary,
        details=tuple(f"{reason}." for reason in reasons[:3]),
        advice=wording.STALLS_ADVICE,
    )


def platform_of(reader: RunReader) -> str:
    """Whose constants count: "cpu" or "gpu"."""
    if reader.results.hardware.gpus:
        return "gpu"
    return "cpu"


def repetitions_by_server(
    reader: RunReader,
) -> dict[str, dict[LoadKey, list[Repetition]]]:
    """Server -> load -> all repetitions of its launches; base builds are left out."""
    groups: dict[str, dict[LoadKey, list[Repetition]]] = {}
    servers = reader.results.servers
    for server, workload in reader.index.loads:
        if server in servers and servers[server].config.build == "base":
            continue
        rows: list[Repetition] = []
        for measurement in reader.index.measurements(server, workload):
            rows += measurement.repetitions
        groups.setdefault(server, {})[server, workload] = rows
    return groups


def cases_of(
    verdicts: Sequence[Verdict], server: str, workload: str = ""
) -> tuple[str, ...]:
    """Ids of the judged cases of a server, or of one of its loads."""
    place = f"{server}/"
    if workload:
        place += f"{workload}/"
    return tuple(row.case for row in verdicts if row.case.startswith(place))
