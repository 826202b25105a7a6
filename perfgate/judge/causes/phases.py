"""Phases: what a request takes longer, split into parts that add up to the whole.

Against a base build the engine's own histograms tell queue, prefill and decode, and what
they leave of its latency is its front end: tokenising, detokenising, messages between
processes. What the client sees beyond the server's latency is the client. A baseline has
no histograms: there the gaps between tokens are decoding, and the rest is queue and
prefill.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

import msgspec

from perfgate.cases import Case, Load
from perfgate.judge.baseline_store import Recorded, Store
from perfgate.judge.machine_scope import narrow_to
from perfgate.judge.observation import RunReader
from perfgate.judge.policy import policy_for
from perfgate.load.repetition import Repetition
from perfgate.results.diagnosis import PhaseShare, Split

E2EL, ITL = "e2el_mean_ms", "itl_mean_ms"
TTFT, QUEUE, PREFILL = "ttft_mean_ms", "queue_mean_ms", "prefill_mean_ms"
Parts = Mapping[str, float]


def split(reader: RunReader, case: Case, store: Store) -> Split | None:
    """What a request of the case's load takes longer; None where that is unknown."""
    load = case.numerator
    if load.workload is None or load.workload.asks_routing:
        return None
    now = _repetitions(reader, load)
    if not now:
        return None
    if reader.results.is_paired:
        base = Load(server=load.server.base, workload=load.workload)
        before = _repetitions(reader, base)
        if not before:
            return None
        return _of(load, _measured(before), _measured(now))
    recorded = _recorded(reader, case, store, _tokens(now))
    if recorded is None:
        return None
    return _of(load, recorded, _seen_by_client(_client(now), _tokens(now)))


def _of(load: Load, before: Parts, now: Parts) -> Split | None:
    if load.workload is None or not now or before.keys() != now.keys():
        return None
    shares = []
    for name, now_ms in now.items():
        shares.append(PhaseShare(name=name, ms=now_ms - before[name]))
    return Split(
        server=load.server.key,
        load=load.workload.name,
        before_ms=sum(before.values()),
        now_ms=sum(now.values()),
        shares=tuple(shares),
    )


def _repetitions(reader: RunReader, load: Load) -> list[Repetition]:
    """Valid repetitions of a load, of all its launches."""
    found = []
    for row in reader.results.measurements:
        if load.workload is None or row.server != load.server.key:
            continue
        if row.workload == load.workload.name:
            for repetition in row.repetitions:
                if not repetition.invalid:
                    found.append(repetition)
    return found


def _measured(repetitions: Sequence[Repetition]) -> dict[str, float]:
    """Parts of the mean latency, as the engine and the client tell them."""
    client = _client(repetitions)
    server = _means([row.server_values for row in repetitions])
    tokens = _tokens(repetitions)
    if not {E2EL, ITL, TTFT, QUEUE} <= server.keys() or E2EL not in client:
        return _seen_by_client(client, tokens)
    prefill = server.get(PREFILL, server[TTFT] - server[QUEUE])
    decode = server[ITL] * (tokens - 1)
    return {
        "queue": server[QUEUE],
        "prefill": prefill,
        "decode": decode,
        "front end": server[E2EL] - server[QUEUE] - prefill - decode,
        "client": client[E2EL] - server[E2EL],
    }


def _seen_by_client(
    client: Mapping[str, float], tokens: float
) -> dict[str, float]:
    """Parts of the mean latency by its gaps between tokens."""
    if not {E2EL, ITL} <= client.keys():
        return {}
    decode = client[ITL] * (tokens - 1)
    return {"queue and prefill": client[E2EL] - decode, "decode": decode}


def _client(repetitions: Sequence[Repetition]) -> dict[str, float]:
    return _means([row.values for row in repetitions])


def _means(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each figure that all rows have."""
    names = set(rows[0])
    for row in rows:
        names &= row.keys()
    means = {}
    for name in names:
        values = [row[name] for row in rows]
        means[name] = statistics.fmean(values)
    return means


def _tokens(repetitions: Sequence[Repetition]) -> float:
    """Output tokens of a request, on average."""
    tokens = requests = 0
    for row in repetitions:
        tokens += row.output_tokens
        requests += row.completed
    return tokens / max(1, requests)


def _recorded(
    reader: RunReader, case: Case, store: Store, tokens: float
) -> dict[str, float] | None:
    """Parts by the baseline's mean latency and gaps; None where it lacks one."""
    figures = {}
    for metric in (E2EL, ITL):
        asked = msgspec.structs.replace(case, metric=metric)
        observation = reader.observe(asked)
        label = observation.hardware_label
        baseline = store.find(asked, label)
        if not isinstance(baseline, Recorded):
            return None
        policy = policy_for(label, metric, False, {})
        narrow = narrow_to(baseline, observation.machine, policy)
        figures[metric] = narrow.noise(policy).reference
    return _seen_by_client(figures, tokens)
