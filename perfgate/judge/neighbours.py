"""Neighbours: others on a host with GPUs make longer what waits for the host.

Most cores of such a host are idle, and the neighbours have GPUs of their own. Still a
loss of up to a fifth may be theirs. It is INCONCLUSIVE, so that a strict gate on a host
with neighbours does not turn blind, and a larger one is red.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

from perfgate import formatting
from perfgate.cases import Case
from perfgate.judge import wording
from perfgate.judge.observation import RunReader
from perfgate.judge.shared_cores import TIMES, in_doubt
from perfgate.judge.verdict import Decision, Outcome
from perfgate.load.metrics import family_of
from perfgate.load.repetition import OTHERS_SHARE, Repetition
from perfgate.results.samples import valid_repetitions

# Others that use so many cores are neighbours. Two sessions of vLLM and SGLang used 2.5
# to 4 of each other's 64 cores under load, and up to 6 while a server started; alone,
# what else ran used 0.1 to 0.3.
FEWEST_CORES = 1.0
# Without a count of cores, this share of them.
SMALLEST_SHARE = 0.05
# The largest loss that may be a neighbour's. Unchanged launches lost up to 17 % of their
# throughput and 50 % of a TTFT while a neighbour started servers, and 8 % while it sent
# loads.
MOST_LOST = 0.20
MOST_TTFT_LOST = 0.60
# They move by less than 1 %: each is of the steps in which nothing waits for the host.
UNMOVED_METRICS = frozenset({"itl_median_ms", "tpot_median_ms"})
MOVED = TIMES - {"bandwidth"}
# What may be different without neighbours.
DOUBTFUL = frozenset(
    {Outcome.REGRESSED, Outcome.INCONCLUSIVE, Outcome.NOT_EXCLUDED}
)


def judged(decision: Decision, case: Case, reader: RunReader) -> Decision:
    """A decision; without the regression where the loss may be that of a neighbour."""
    if decision.outcome is not Outcome.REGRESSED:
        return decision
    share = share_of(case, reader)
    if share is None or _is_larger(decision, case):
        return decision
    return in_doubt(
        decision, Outcome.INCONCLUSIVE, _text(share, reader), wording.QUIET_HOST
    )


def notes(decision: Decision, case: Case, reader: RunReader) -> list[str]:
    """What neighbours used of the host, where the verdict may be theirs."""
    is_doubtful = decision.outcome in DOUBTFUL
    if not is_doubtful or family_of(case.metric) not in TIMES:
        return []
    shares: list[float] = []
    for _, repetitions in _launches(case, reader):
        shares += _neighbour_shares(repetitions, reader)
    if not shares:
        return []
    return [wording.HOST_SHARED.format(cores=_text(max(shares), reader))]


def used(case: Case, reader: RunReader) -> str:
    """What neighbours used during a load of the case, as text; "" without any."""
    share = share_of(case, reader)
    if share is None:
        return ""
    return _text(share, reader)


def share_of(case: Case, reader: RunReader) -> float | None:
    """What neighbours used during a load of the case, of all cores.

    One launch with neighbours is enough, because each launch weighs the same. None
    without neighbours, and of metrics that they do not move.
    """
    return max(shares_of(case, reader).values(), default=None)


def shares_of(case: Case, reader: RunReader) -> dict[tuple[str, int], float]:
    """Server and launch -> what neighbours used during most of its repetitions."""
    if family_of(case.metric) not in MOVED or case.metric in UNMOVED_METRICS:
        return {}
    shares = {}
    for launch, repetitions in _launches(case, reader):
        used_by_others = _neighbour_shares(repetitions, reader)
        if len(used_by_others) > len(repetitions) / 2:
            shares[launch] = statistics.median(used_by_others)
    return shares


def _launches(
    case: Case, reader: RunReader
) -> Iterator[tuple[tuple[str, int], Sequence[Repetition]]]:
    """Each launch of the case's servers on GPUs, with the repetitions that count."""
    for load in case.loads:
        if load.workload is None or load.server.device == "cpu":
            continue
        key = load.server.key
        for row in reader.index.measurements(key, load.workload.name):
            yield (key, row.launch), valid_repetitions(row)


def _neighbour_shares(
    repetitions: Sequence[Repetition], reader: RunReader
) -> list[float]:
    """What neighbours used, for each repetition that had any."""
    shares = []
    for row in repetitions:
        share = row.client_values.get(OTHERS_SHARE, 0.0)
        if _are_neighbours(share, reader):
            shares.append(share)
    return shares


def _are_neighbours(share: float, reader: RunReader) -> bool:
    cores = reader.results.hardware.cpu_count
    if not cores:
        return share >= SMALLEST_SHARE
    return share * cores >= FEWEST_CORES


def _text(share: float, reader: RunReader) -> str:
    cores = reader.results.hardware.cpu_count
    if not cores:
        return f"{formatting.percent(share)} of the host's cores"
    return f"{share * cores:.1f} of the host's {cores} cores"


def _is_larger(decision: Decision, case: Case) -> bool:
    """Whether a loss is larger than any that a neighbour was seen to cost."""
    most = MOST_LOST
    if family_of(case.metric) == "ttft":
        most = MOST_TTFT_LOST
    return decision.worse_by is not None and decision.worse_by > most
