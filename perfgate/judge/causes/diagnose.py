"""Diagnose: one diagnosis for the servers of a run that lost speed for the same cause."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

import msgspec

from perfgate.judge.baseline_store import Store
from perfgate.judge.causes import (
    choice_rules,
    next_step,
    phases,
    profiled,
    rules,
    words,
)
from perfgate.judge.causes.finding import Finding, both, lost, told
from perfgate.judge.causes.symptoms import (
    THROUGHPUT,
    Moved,
    ServerSymptoms,
    symptoms_of,
)
from perfgate.judge.observation import RunReader
from perfgate.judge.verdict import Verdict, is_regression
from perfgate.results.diagnosis import Diagnosis, Split, Who, Worth
from perfgate.results.group_verdict import GroupVerdict

MOST_LISTED = 4  # losses, and gains, of a diagnosis
SECONDS_PER_HOUR = 3600


def diagnose(
    reader: RunReader,
    verdicts: Sequence[Verdict],
    groups: Sequence[GroupVerdict],
    store: Store,
) -> tuple[Diagnosis, ...]:
    """Why servers lost speed, one entry for each cause.

    What the engine chose, or what was injected, is said of the servers alone that have it.
    Where nothing is red: what another choice of the engine changed, for better or worse.
    """
    servers = symptoms_of(reader, verdicts, store)
    red = red_cases(verdicts, groups)
    keys = _servers_of(reader, verdicts, red)
    affected = [row for row in servers if row.key in keys]
    findings: dict[Hashable, list[tuple[ServerSymptoms, Finding]]] = {}
    for server in affected:
        finding = rules.find(server, servers)
        finding = profiled.refined(
            finding, server.key, reader.results.profiles, server.moved
        )
        key = finding.cause, finding.by_choice, server.injected
        findings.setdefault(key, []).append((server, finding))
    diagnoses = []
    for found in findings.values():
        diagnosis = _diagnosis(found, servers)
        splits = _splits(reader, diagnosis.servers, store)
        step = next_step.command(reader.results, found)
        diagnosis = msgspec.structs.replace(
            diagnosis, splits=splits, next_step=step
        )
        diagnoses.append(diagnosis)
    if not diagnoses:
        diagnoses += _trades(servers)
    return tuple(diagnoses)


def red_cases(
    verdicts: Sequence[Verdict], groups: Sequence[GroupVerdict]
) -> set[str]:
    """Ids of the cases that are red, by themselves or together."""
    cases = {row.case for row in verdicts if is_regression(row)}
    for group in groups:
        if is_regression(group):
            cases |= set(group.cases)
    return cases


def _servers_of(
    reader: RunReader, verdicts: Sequence[Verdict], red: set[str]
) -> set[str]:
    """Servers of red cases; of a ratio those that moved."""
    moved = {row.case: row.moved for row in verdicts}
    keys = set()
    for case in reader.results.cases:
        if case.id not in red:
            continue
        side = moved.get(case.id)
        if side != "denominator":
            keys.add(case.numerator.server.key)
        if case.denominator is not None and side != "numerator":
            keys.add(case.denominator.server.key)
    return keys


def _trades(servers: Sequence[ServerSymptoms]) -> list[Diagnosis]:
    """What a choice of the engine changed where nothing is red."""
    diagnoses = []
    for server in servers:
        finding = choice_rules.by_choice(server)
        has_moved = any(row.is_better or row.is_worse for row in server.moved)
        if finding is not None and has_moved:
            trade = _diagnosis([(server, finding)], servers)
            diagnoses.append(msgspec.structs.replace(trade, is_loss=False))
    return diagnoses


def _splits(
    reader: RunReader, servers: Sequence[str], store: Store
) -> tuple[Split, ...]:
    """The loss by phases, of each load of the servers that tells them."""
    splits: dict[tuple[str, str], Split] = {}
    for case in reader.results.cases:
        load = case.numerator
        if case.is_ratio or load.server.key not in servers:
            continue
        if load.workload is None:
            continue
        key = load.server.key, load.workload.name
        if key in splits:
            continue
        split = phases.split(reader, case, store)
        if split is not None:
            splits[key] = split
    return tuple(splits.values())


def _diagnosis(
    found: Sequence[tuple[ServerSymptoms, Finding]],
    servers: Sequence[ServerSymptoms],
) -> Diagnosis:
    affected = [server for server, _ in found]
    finding = found[0][1]
    evidence: dict[str, None] = {}
    for _, other in found:
        evidence |= dict.fromkeys(other.evidence)
    gains: list[Moved] = []
    differs: dict[str, None] = {}
    for server in affected:
        for choice in server.changed:
            if words.choice(choice) not in evidence:
                differs[words.choice(choice)] = None
        differs |= dict.fromkeys(server.differs)
        for row in told(server.moved):
            if row.is_better and row.load:
                gains.append(row)
    gains.sort(key=lambda row: row.loss)
    losses: list[Moved] = []
    for server in affected:
        losses += lost(server)
    return Diagnosis(
        servers=tuple(server.key for server in affected),
        who=who(affected, servers),
        phase=both([other.phase for _, other in found]),
        cause=finding.cause,
        by_choice=finding.by_choice,
        injected=affected[0].injected,
        evidence=tuple(evidence),
        differs=tuple(differs),
        losses=tuple(words.change(row) for row in losses[:MOST_LISTED]),
        gains=tuple(words.change(row) for row in gains[:MOST_LISTED]),
        worth=worth(affected),
    )


def worth(affected: Sequence[ServerSymptoms]) -> Worth | None:
    """Output tokens per GPU-hour of the widest closed load of the first server."""
    for server in affected:
        rows = []
        for row in server.rows(THROUGHPUT):
            if row.streams and row.streams > 1 and not row.together:
                rows.append(row)
        if rows:
            widest = rows[-1]
            scale = SECONDS_PER_HOUR / max(1, server.gpus)
            unit = "server-hour"
            if server.gpus:
                unit = "GPU-hour"
            return Worth(
                load=widest.load,
                before=widest.before * scale,
                now=widest.now * scale,
                unit=unit,
            )
    return None


def who(
    affected: Sequence[ServerSymptoms], servers: Sequence[ServerSymptoms]
) -> Who:
    """Which part of what was measured lost: the smallest one that names it."""
    keys = {row.key for row in affected}
    if len(servers) == 1:
        return "server"
    if len(keys) == len(servers):
        kinds = {row.is_sparse for row in servers}
        return "dense-too" if len(kinds) > 1 else "machine"
    engine = affected[0].engine
    for name, belongs in _parts(engine):
        if keys == {row.key for row in servers if belongs(row)}:
            return name
    return "server"


def _parts(
    engine: str,
) -> tuple[tuple[Who, Callable[[ServerSymptoms], bool]], ...]:
    """Parts of a run by what its servers have in common."""
    return (
        ("sparse", lambda row: row.is_sparse),
        ("dense", lambda row: not row.is_sparse),
        ("ranks", lambda row: row.ranks > 1),
        ("engine", lambda row: row.engine == engine),
    )
