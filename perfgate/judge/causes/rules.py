"""Rules for causes: one function each, from the symptoms of a session to a finding.

A choice of the engine that changed names the cause by itself where the row that moved is
one that it can move. Without one, the shape of the loss decides: over batch sizes, over
phases, over models and ranks. No rule fits: unknown. The numbers are bounds by
reasoning, each far from what was measured (tests/unit/judge/causes says how far).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from perfgate import formatting
from perfgate.judge.causes import words
from perfgate.judge.causes.symptoms import (
    KV_CACHE,
    THROUGHPUT,
    Choice,
    Moved,
    ServerSymptoms,
)
from perfgate.results.diagnosis import Cause, Phase

# What a step takes longer is "alike" at two batch sizes, or for two models, within this
# factor. A cost per token would differ by the batch sizes' ratio, 8 and more.
ALIKE = 2.5
# A cost per token: one stream has at most this share of what the batch has.
PER_TOKEN_SHARE = 0.4
WIDEST_BATCH = 8  # from the smallest to the largest batch, at least
# Without a dense control: more than clocks or a host could cost one stream (log).
LARGE = 0.18
# The loss of first tokens and that of steps are unlike by at least this factor.
UNLIKE = 1.25
# A step of many streams is longer by at least this many times what one stream lost: a
# host would cost each step the same.
GROWTH = 1.4
# Decoding at most this share of the streams in flight is a capped batch.
CAPPED_SHARE = 0.75

Servers = Sequence[ServerSymptoms]


@dataclass(frozen=True)
class Finding:
    """What a rule says of one server."""

    cause: Cause
    phase: Phase
    evidence: tuple[str, ...]
    by_choice: bool = False


Rule = Callable[[ServerSymptoms, Servers], Finding | None]


def graphs(server: ServerSymptoms, _servers: Servers) -> Finding | None:
    """Graphs were captured before and are not now: each step pays its launches."""
    choice = server.choice("graphs")
    if choice is None or choice.now != "off" or not _worse(server.steps):
        return None
    return _chosen("graphs", "prefill and decode", choice, server.steps)


def batch_cap(server: ServerSymptoms, _servers: Servers) -> Finding | None:
    """Fewer streams decode at once than are in flight, and no step is longer."""
    choice = server.choice("max_num_seqs")
    loads = [row for row in server.decoding if row.streams >= WIDEST_BATCH]
    capped = [row for row in loads if row.at_most <= CAPPED_SHARE * row.streams]
    limits = {row.at_most for row in capped}
    lost_room = any(row.is_worse for row in server.rows(KV_CACHE))
    if not capped or len(limits) != 1 or lost_room or _worse(server.steps):
        return None
    (limit,) = limits
    # A load with room for more than the limit would contradict it.
    if any(row.at_most > limit for row in server.decoding):
        return None
    if choice is None and len(capped) < 2:
        return None
    names = formatting.listed([row.load for row in capped])
    evidence = [words.CAPPED.format(limit=limit, loads=names)]
    if choice is not None:
        evidence.insert(0, words.choice(choice))
    return Finding("batch-cap", "queue", tuple(evidence), choice is not None)


def prefill_chunk(server: ServerSymptoms, _servers: Servers) -> Finding | None:
    """Another chunk size: it costs where many prompts wait, and nothing else."""
    choice = server.choice("chunked_prefill_tokens")
    if choice is None or _worse(server.steps) or _worse(server.first_tokens):
        return None
    worse = [row for row in lost(server) if row.load]
    if not worse:
        return None
    evidence = (words.choice(choice), words.UNMOVED, *words.lines(worse))
    return Finding("prefill-chunk", "prefill", evidence, by_choice=True)


def attention(server: ServerSymptoms, _servers: Servers) -> Finding | None:
    """Another attention backend; it often trades prefill for decode."""
    choice = server.choice("attention_backend")
    if choice is None:
        return None
    phase: Phase = "decode"
    if _worse(server.first_tokens):
        phase = "prefill"
        if _worse(server.steps):
            phase = "prefill and decode"
    return _chosen("attention", phase, choice, lost(server))


def expert_choice(server: ServerSymptoms, _servers: Servers) -> Finding | None:
    """Another backend or kernel file of the experts."""
    choice = server.choice("moe_backend", "moe_config")
    if choice is None or not server.is_sparse:
        return None
    return _chosen("expert-path", _phase(server), choice, lost(server))


def communication_choice(
    server: ServerSymptoms, _servers: Servers
) -> Finding | None:
    """Another all-reduce between ranks."""
    choice = server.choice("all_reduce", "custom_all_reduce")
    if choice is None or server.ranks < 2:
        return None
    return _chosen("communication", _phase(server), choice, lost(server))


def other_choice(server: ServerSymptoms, _servers: Servers) -> Finding | None:
    """Another number format, model runner or sampler."""
    for choice in server.changed:
        if BY_CHOICE.get(choice.name) in _ALWAYS:
            cause = BY_CHOICE[choice.name]
            return _chosen(cause, _phase(server), choice, lost(server))
    return None


def by_choice(server: ServerSymptoms) -> Finding | None:
    """What a changed choice stands for, whatever it cost; None where none changed."""
    for choice in server.changed:
        if choice.name in BY_CHOICE:
            cause = BY_CHOICE[choice.name]
            return Finding(
                cause, "unknown", (words.choice(choice),), by_choice=True
            )
    return None


BY_CHOICE: dict[str, Cause] = {
    "graphs": "graphs",
    "max_num_seqs": "batch-cap",
    "chunked_prefill_tokens": "prefill-chunk",
    "attention_backend": "attention",
    "moe_backend": "expert-path",
    "moe_config": "expert-path",
    "all_reduce": "communication",
    "custom_all_reduce": "communication",
    "quantization": "number-format",
    "kv_cache_dtype": "number-format",
    "model_runner": "model-runner",
    "sampling_backend": "sampling",
}
# Causes that a choice names whatever it cost.
_ALWAYS = frozenset({"number-format", "model-runner", "sampling"})


def memory(server: ServerSymptoms, _servers: Servers) -> Finding | None:
    """Only memory was lost: room for the KV cache, or a fuller GPU."""
    red = [row for row in server.moved if row.is_red]
    if not red or any(row.load for row in red):
        return None
    return Finding("memory", "memory", words.lines(red))


def communication(server: ServerSymptoms, servers: Servers) -> Finding | None:
    """The same time for each step, for dense and sparse models on several ranks.

    Servers of one rank, where there are any, have not lost it.
    """
    several = []
    for row in servers:
        if row.ranks > 1 and row.engine == server.engine:
            several.append(row)
    single = [row for row in servers if row.ranks == 1 and row.steps]
    if server not in several or not _cost_alike_a_layer(several):
        return None
    if any(_worse(row.steps) for row in single):
        return None
    evidence = [words.constant(row) for row in several]
    if single:
        keys = formatting.listed([row.key for row in single])
        evidence.append(words.SINGLE_RANK.format(servers=keys))
    return Finding("communication", "decode", tuple(evidence))


def _cost_alike_a_layer(servers: Servers) -> bool:
    """Whether each step of sparse and dense models is longer by one time for each layer."""
    if len({row.is_sparse for row in servers}) < 2:
        return False
    if not all(_is_constant(row.steps) and row.layers for row in servers):
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
        if not row.is_sparse and row.engine == server.engine and row.steps:
            controls.append(row)
    if any(_worse(row.steps) for row in controls):
        return None
    if not controls and _may_be_the_machine(server, slower[0]):
        return None
    last = words.NO_CONTROL
    if controls:
        keys = formatting.listed([row.key for row in controls])
        last = words.CONTROL.format(servers=keys)
    evidence = (*words.lines(lost(server)), last)
    return Finding("expert-path", _phase(server), evidence)


def _may_be_the_machine(server: ServerSymptoms, step: Moved) -> bool:
    """Whether clocks or a host explain a sparse model's loss.

    Clocks cost prefill and decode a like share, a host each step the same time.
    """
    first = max((row.loss for row in server.first_tokens), default=0.0)
    is_alike = first > 0 and step.loss < UNLIKE * first
    return step.loss < LARGE or is_alike or _growth(server) < GROWTH


def per_token(server: ServerSymptoms, servers: Servers) -> Finding | None:
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
    if _worse(server.first_tokens):
        return None
    per_token_us = 1e3 * last.added / (last.streams or 1)
    evidence = (
        *words.lines([first, last]),
        words.PER_TOKEN.format(us=f"{per_token_us:.2g}"),
    )
    return Finding("per-token", "decode", evidence)


def host(server: ServerSymptoms, servers: Servers) -> Finding | None:
    """Every server is slower by a like share: dense, sparse, whatever its ranks."""
    timed = [row for row in servers if row.steps]
    if len({row.model for row in timed}) < 2:
        return None
    for row in timed:
        if not row.layers or not all(step.is_worse for step in row.steps):
            return None
    times, shares = _spreads(timed)
    if shares > ALIKE or shares > times:
        return None
    losses = [step.loss for row in timed for step in row.steps]
    keys = formatting.listed([row.key for row in timed])
    low = formatting.percent(min(losses))
    high = formatting.percent(max(losses))
    evidence = (words.ALL_ALIKE.format(servers=keys, low=low, high=high),)
    return Finding("host", _phase(server), evidence)


# The first that fits counts: what the engine chose, then the shape of the loss.
RULES: tuple[Rule, ...] = (
    graphs,
    batch_cap,
    prefill_chunk,
    attention,
    expert_choice,
    communication_choice,
    other_choice,
    memory,
    communication,
    host,
    expert_path,
    per_token,
)


def find(server: ServerSymptoms, servers: Servers) -> Finding:
    """What the first rule that fits says; "unknown" where none does."""
    for rule in RULES:
        finding = rule(server, servers)
        if finding is not None:
            return finding
    return Finding("unknown", _phase(server), words.lines(lost(server)))


def _chosen(
    cause: Cause, phase: Phase, choice: Choice, rows: Sequence[Moved]
) -> Finding:
    worse = [row for row in rows if row.is_worse]
    evidence = (words.choice(choice), *words.lines(worse))
    return Finding(cause, phase, evidence, by_choice=True)


def _worse(rows: Sequence[Moved]) -> bool:
    return any(row.is_worse for row in rows)


def told(rows: Sequence[Moved]) -> list[Moved]:
    """The rows that are worth telling: others are the same figure in other units."""
    return [row for row in rows if row.is_red or row.metric in words.NAMES]


def lost(server: ServerSymptoms) -> list[Moved]:
    """What lost most, judged rows first; one figure for what says the same."""
    rows = [row for row in told(server.moved) if row.is_worse]
    return sorted(rows, key=lambda row: (not row.is_red, -row.loss))


def _is_constant(steps: Sequence[Moved]) -> bool:
    """Whether each step is longer by the same time, at every batch size."""
    if not steps or not _worse(steps):
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


def _phase(server: ServerSymptoms) -> Phase:
    """Where the time is lost, by one stream's first tokens and by the steps."""
    prefill, decode = _worse(server.first_tokens), _worse(server.steps)
    if prefill and decode:
        return "prefill and decode"
    if decode:
        return "decode"
    if prefill:
        return "prefill"
    return "unknown"
