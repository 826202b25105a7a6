"""Diagnose: one diagnosis for the servers of a run that lost speed for the same cause."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from perfgate.judge.baseline_store import Store
from perfgate.judge.causes import next_step, phases, rules, words
from perfgate.judge.causes.rules import Finding
from perfgate.judge.causes.symptoms import (
    THROUGHPUT,
    Moved,
    ServerSymptoms,
    symptoms_of,
)
from perfgate.judge.observation import RunReader
from perfgate.judge.verdict import Outcome, Verdict
from perfgate.results.diagnosis import Diagnosis, Split, Who, Worth
from perfgate.results.group_verdict import GroupVerdict

MOST_GAINS = 4
SECONDS_PER_HOUR = 3600


def diagnose(
    reader: RunReader,
    verdicts: Sequence[Verdict],
    groups: Sequence[GroupVerdict],
    store: Store,
) -> tuple[Diagnosis, ...]:
    """Why servers lost speed, one entry for each cause; none where nothing is red."""
    red_groups = [
        row
        for row in groups
        if row.gate == "hard" and row.outcome is Outcome.REGRESSED
    ]
    if not red_groups and not any(map(_is_red, verdicts)):
        return ()
    servers = symptoms_of(reader, verdicts, store)
    lost = [row for row in servers if row.has_lost or _in(row, red_groups)]
    findings: dict[str, list[tuple[ServerSymptoms, Finding]]] = {}
    for server in lost:
        finding = rules.find(server, servers)
        findings.setdefault(finding.cause, []).append((server, finding))
    diagnoses = []
    for found in findings.values():
        diagnosis = _diagnosis(found, servers)
        splits = _splits(reader, diagnosis.servers, store)
        step = next_step.command(reader.results, found)
        diagnosis = msgspec.structs.replace(
            diagnosis, splits=splits, next_step=step
        )
        diagnoses.append(diagnosis)
    return tuple(diagnoses)


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


def _is_red(verdict: Verdict) -> bool:
    return verdict.gate == "hard" and verdict.outcome is Outcome.REGRESSED


def _in(server: ServerSymptoms, groups: Sequence[GroupVerdict]) -> bool:
    """Whether rows of the server are red together."""
    cases = {row.case for row in server.moved}
    return any(cases & set(group.cases) for group in groups)


def _diagnosis(
    found: Sequence[tuple[ServerSymptoms, Finding]],
    servers: Sequence[ServerSymptoms],
) -> Diagnosis:
    lost = [server for server, _ in found]
    finding = found[0][1]
    evidence: dict[str, None] = {}
    for _, other in found:
        evidence |= dict.fromkeys(other.evidence)
    gains: list[Moved] = []
    differs: dict[str, None] = {}
    for server in lost:
        for choice in server.changed:
            if words.choice(choice) not in evidence:
                differs[words.choice(choice)] = None
        differs |= dict.fromkeys(server.differs)
        gains += [row for row in server.moved if row.is_better and row.load]
    gains.sort(key=lambda row: row.loss)
    losses: list[Moved] = []
    for server in lost:
        losses += rules.lost(server)
    return Diagnosis(
        servers=tuple(server.key for server in lost),
        who=who(lost, servers),
        phase=finding.phase,
        cause=finding.cause,
        by_choice=finding.by_choice,
        injected=next((row.injected for row in lost if row.injected), ""),
        evidence=tuple(evidence),
        differs=tuple(differs),
        losses=tuple(words.change(row) for row in losses[:MOST_GAINS]),
        gains=tuple(words.change(row) for row in gains[:MOST_GAINS]),
        worth=worth(lost),
    )


def worth(lost: Sequence[ServerSymptoms]) -> Worth | None:
    """Output tokens per GPU-hour of the widest closed load of the first server."""
    for server in lost:
        rows = []
        for row in server.rows(THROUGHPUT):
            if row.streams and row.streams > 1 and not row.together:
                rows.append(row)
        if rows:
            widest = rows[-1]
            scale = SECONDS_PER_HOUR / max(1, server.gpus)
            return Worth(
                load=widest.load,
                before=widest.before * scale,
                now=widest.now * scale,
                unit="GPU-hour" if server.gpus else "server-hour",
            )
    return None


def who(
    lost: Sequence[ServerSymptoms], servers: Sequence[ServerSymptoms]
) -> Who:
    """Which part of what was measured lost: the smallest one that names it."""
    keys = {row.key for row in lost}
    if len(servers) == 1:
        return "server"
    if len(keys) == len(servers):
        kinds = {row.is_sparse for row in servers}
        return "dense-too" if len(kinds) > 1 else "machine"
    engine = lost[0].engine
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
