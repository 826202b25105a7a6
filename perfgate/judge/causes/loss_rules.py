"""Rules by loss: its shape over batch sizes, phases, models and ranks names the cause.

The numbers are bounds by reasoning, each far from what was measured
(tests/unit/judge/causes says how far).
"""

from __future__ import annotations

from collections.abc import Sequence

from perfgate import formatting
from perfgate.judge.causes import words
from perfgate.judge.causes.finding import (
    Finding,
    Servers,
    are_worse,
    lost,
    phase_of,
)
from perfgate.judge.causes.symptoms import THROUGHPUT, Moved, ServerSymptoms
from perfgate.load.metrics import Family, family_of

MEMORY: frozenset[Family] = frozenset(
    {"memory", "memory_peak", "memory_growth"}
)
ANSWERS: frozenset[Family] = frozenset({"answers", "accuracy"})
# What a step takes longer is "alike" at two batch sizes, or for two models, within this
# factor. A cost per token would differ by the batch sizes' ratio, 8 and more.
ALIKE = 2.5
# A cost per token: one stream has at most this share of what the batch has.
PER_TOKEN_SHARE = 0.4
WIDEST_BATCH = 8  # from the smallest to the largest batch, at least
# A prefill exchanges more data than a step: without a server of one rank it must have lost
# this many times what the step lost. A host or a sampler costs both the same.
PREFILL_OVER_STEP = 1.7
# Without a dense control: more than clocks or a host could cost one stream (log).
LARGE = 0.18
# The loss of first tokens and that of steps are unlike by at least this factor.
UNLIKE = 1.25
# A step of many streams is longer by at least this many times what one stream lost: a
# host would cost each step the same.
GROWTH = 1.4


def memory(server: ServerSymptoms, _servers: Servers) -> Finding | None:
    """Only memory was lost: room for the KV cache, or a fuller GPU."""
    red = _red_alone(server, MEMORY)
    if not red:
        return None
    return Finding("memory", "memory", words.lines(red))


def answers(server: ServerSymptoms, _servers: Servers) -> Finding | None:
    """Only the answers are others, and nothing is slower."""
    red = _red_alone(server, ANSWERS)
    if not red:
        return None
    return Finding("answers", "unknown", words.lines(red))


def _red_alone(
    server: ServerSymptoms, families: frozenset[Family]
) -> list[Moved]:
    """The red rows, where all of them are of these families; else none."""
    red = [row for row in server.moved if row.is_red]
    if all(family_of(row.metric) in families for row in red):
        return red
    return []


def communication(server: ServerSymptoms, servers: Servers) -> Finding | None:
    """The same time for each step, for dense and sparse models on several ranks.

    Servers of one rank have not lost it. Where there are none, a prefill lost more than
    a step.
    """
    several = []
    single = []
    for row in servers:
        if row.ranks > 1 and row.engine == server.engine:
            several.append(row)
        if row.ranks == 1 and row.steps:
            single.append(row)
    if server not in several or not _cost_alike_a_layer(several):
        return None
    if not _is_of_ranks(several, single):
        return None
    last = words.NO_SINGLE_RANK
    if single:
        last = words.SINGLE_RANK.format(servers=_keys(single))
    evidence = [words.constant(row) for row in several]
    return Finding("communication", "decode", (*evidence, last))


def _is_of_ranks(several: Servers, single: Servers) -> bool:
    """Whether the loss needs several ranks, as far as the servers tell."""
    if not single:
        return _prefill_lost_more(several)
    return all(not are_worse(row.steps) for row in single)


def _prefill_lost_more(servers: Servers) -> bool:
    """Whether one stream's first token lost more than its steps, on each server."""
    for row in servers:
        first = max((token.added for token in row.first_tokens), default=0.0)
        if first < PREFILL_OVER_STEP * row.steps[0].added:
            return False
    return True


def _cost_alike_a_layer(servers: Servers) -> bool:
    """Whether each step of sparse and dense models is longer by one time for each layer."""
    kinds = set()
    for row in servers:
        kinds.add(row.is_sparse)
        if not row.layers or not _is_constant(row.steps):
            return False
    if len(kinds) < 2:
        return False
    times, shares = _spreads(servers)
    return times <= ALIKE and times < shares


def expert_path(server: ServerSymptoms, servers: Servers) -> Finding | None:
    """Only sparse models are slower in decoding; the dense control is not.

    Without a control the loss must be one that neither a host nor clocks explain.
    """
    slower = [row for row in server.steps if row.is_worse]
    if not server.is_sparse or not slower:
        return None
    controls = []
    for row in servers:
        if _is_control(row, server):
            controls.append(row)
    for control in controls:
        if are_worse(control.steps):
            return None
    if not controls and _may_be_the_machine(server, slower[0]):
        return None
    last = words.NO_CONTROL
    if controls:
        last = words.CONTROL.format(servers=_keys(controls))
    evidence = (*words.lines(lost(server)), last)
    return Finding("expert-path", phase_of(server), evidence)


def _is_control(row: ServerSymptoms, server: ServerSymptoms) -> bool:
    """Whether a dense model would have lost it, too, if it were not the experts.

    One rank alone exchanges nothing: it is no control for several.
    """
    if row.is_sparse or row.engine != server.engine or not row.steps:
        return False
    return row.ranks > 1 or server.ranks == 1


def _may_be_the_machine(server: ServerSymptoms, step: Moved) -> bool:
    """Whether clocks or a host explain a sparse model's loss.

    Clocks cost prefill and decode a like share, a host each step the same time.
    """
    first = max((row.loss for row in server.first_tokens), default=0.0)
    is_alike = first > 0 and step.loss < UNLIKE * first
    return step.loss < LARGE or is_alike or _growth(server) < GROWTH


def per_token(server: ServerSymptoms, _servers: Servers) -> Finding | None:
    """A step is longer by its number of sequences: a cost per token of the batch.

    Judged on a dense model: the step of a sparse one grows with the experts it touches.
    """
    steps = server.steps
    if server.is_sparse or len(steps) < 2:
        return None
    first, last = steps[0], steps[-1]
    spread = (last.streams or 0) / max(1, first.streams or 0)
    if spread < WIDEST_BATCH or not last.is_worse or first.is_worse:
        return None
    if first.added > PER_TOKEN_SHARE * last.added:
        return None
    if not all(_costs_alike(step, last) for step in steps[1:-1]):
        return None
    if are_worse(server.first_tokens):
        return None
    per_token_us = 1e3 * last.added / (last.streams or 1)
    evidence = (
        *words.lines([first, last]),
        words.PER_TOKEN.format(load=first.load, us=f"{per_token_us:.2g}"),
    )
    return Finding("per-token", "decode", evidence)


def _costs_alike(step: Moved, last: Moved) -> bool:
    """Whether a step lost what its sequences cost in the last one, within noise."""
    expected = last.added * (step.streams or 0) / (last.streams or 1)
    noise = step.before * step.threshold
    return expected / ALIKE - noise <= step.added <= expected * ALIKE + noise


def host(server: ServerSymptoms, servers: Servers) -> Finding | None:
    """Every server is slower by a like share: dense, sparse, whatever its ranks."""
    timed = [row for row in servers if row.steps]
    models = set()
    losses = []
    for row in timed:
        models.add(row.model)
        for step in row.steps:
            if not row.layers or not step.is_worse:
                return None
            losses.append(step.loss)
    if len(models) < 2:
        return None
    times, shares = _spreads(timed)
    if shares > ALIKE or shares > times:
        return None
    line = words.ALL_ALIKE.format(
        servers=_keys(timed),
        low=formatting.percent(min(losses)),
        high=formatting.percent(max(losses)),
    )
    return Finding("host", phase_of(server), (line,))


def _keys(servers: Servers) -> str:
    """The servers by name."""
    return formatting.listed([row.key for row in servers])


def _is_constant(steps: Sequence[Moved]) -> bool:
    """Whether each step is longer by the same time, at every batch size."""
    if not steps or not are_worse(steps):
        return False
    added = [step.added for step in steps]
    return min(added) > 0 and max(added) <= ALIKE * min(added)


def _growth(server: ServerSymptoms) -> float:
    """What the widest step lost (ms) over what one stream lost; 0 where it is unknown.

    Of a closed load without a step of its own, by its throughput.
    """
    steps = [(row.streams or 1, row.added) for row in server.steps]
    for row in server.rows(THROUGHPUT):
        if row.streams and row.streams > 1 and not row.together:
            added = 1e3 * row.streams * (1 / row.now - 1 / row.before)
            steps.append((row.streams, added))
    narrow, wide = min(steps), max(steps)
    if narrow[0] == wide[0] or narrow[1] <= 0:
        return 0.0
    return wide[1] / narrow[1]


def _spreads(servers: Servers) -> tuple[float, float]:
    """Largest over smallest of what steps lost: in time a layer, and as a share."""
    times = []
    shares = []
    for row in servers:
        for step in row.steps:
            times.append(step.added / row.layers)
            shares.append(step.loss)
    return max(times) / min(times), max(shares) / min(shares)
