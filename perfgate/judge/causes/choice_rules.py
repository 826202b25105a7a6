"""Rules by choice: what the engine chose otherwise names the cause of what it can move."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from perfgate import formatting
from perfgate.engines.chosen import EITHER
from perfgate.judge.causes import words
from perfgate.judge.causes.finding import (
    Finding,
    Servers,
    are_worse,
    lost,
    phase_of,
)
from perfgate.judge.causes.symptoms import (
    KV_CACHE,
    SATURATED,
    Choice,
    Moved,
    ServerSymptoms,
)
from perfgate.results.diagnosis import Cause, Phase

LEAST_STREAMS = 8  # streams of a load that may meet a limit, at least
# Decoding at most this share of the streams in flight is a capped batch.
CAPPED_SHARE = 0.75

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
    "async_scheduling": "scheduling",
}
# Causes that a choice names whatever it cost.
_ALWAYS = frozenset({"number-format", "model-runner", "sampling"})
# vLLM's "FULL 51, PIECEWISE 51", kinds of graphs with the number of their batch sizes;
# SGLang's "target decode, target prefill" has none.
_CAPTURED = re.compile(r"([A-Za-z][\w -]*?)(?: \d+)?(?:, |$)")
# Kinds that decode steps run by.
_DECODE_KINDS = frozenset({"FULL", "decode"})
_TARGET = "target "  # of a name that older releases of SGLang write without it
_LARGEST = re.compile(r"(?:\d+ to )?(\d+)(?: \(\d+\))?")


def graphs(server: ServerSymptoms, _servers: Servers) -> Finding | None:
    """Graphs were captured before and are not now: each step pays its launches."""
    choice = server.choice("graphs")
    steps = _decoded(server)
    if choice is None or choice.now != "off" or not are_worse(steps):
        return None
    phase: Phase = "prefill and decode"
    first = server.first_tokens
    if first and not are_worse(first):
        phase = "decode"
    return _chosen("graphs", phase, choice, steps)


def _decoded(server: ServerSymptoms) -> list[Moved]:
    """Decode steps; of a held engine the batches that have some."""
    batches = [row for row in server.batches if (row.output_tokens or 1) > 1]
    return [*server.steps, *batches]


def fewer_graphs(server: ServerSymptoms, _servers: Servers) -> Finding | None:
    """Graphs of fewer batch sizes or of one kind less: what has none is slower.

    Steps of batches beyond the largest captured one have lost, and one stream's has not;
    or any step, where the kind is gone that they run by; or first tokens or whole loads
    have lost, and no step.
    """
    choice = server.choice("graphs_captured", "capture_sizes")
    if choice is None or not _are_fewer(server):
        return None
    if are_worse(server.steps):
        without = _without_graph(server)
        if not without:
            return None
        return _chosen("graphs", phase_of(server), choice, without)
    prefills = server.first_tokens
    if not are_worse(prefills) and _kinds_gone(server):
        prefills = [row for row in lost(server) if row.load]
    if not are_worse(prefills):
        return None
    return _chosen("graphs", "prefill", choice, prefills)


def _without_graph(server: ServerSymptoms) -> list[Moved]:
    """Steps beyond the largest graph, where they alone have lost; else none.

    All of them where no graph is left for steps.
    """
    if _kinds_gone(server) & _DECODE_KINDS:
        return server.steps
    largest = _largest_batch(server)
    with_graph = []
    without = []
    for row in server.steps:
        if (row.streams or 0) <= largest:
            with_graph.append(row)
        else:
            without.append(row)
    if are_worse(with_graph) or not are_worse(without):
        return []
    return without


def _are_fewer(server: ServerSymptoms) -> bool:
    """Whether a kind of graphs is gone, or the largest batch that has one is smaller."""
    sizes = server.choice("capture_sizes")
    if sizes is not None and _largest(sizes.now) < _largest(sizes.before):
        return True
    return bool(_kinds_gone(server))


def _kinds_gone(server: ServerSymptoms) -> set[str]:
    """Kinds of graphs that were captured before, and are not now."""
    captured = server.choice("graphs_captured")
    if captured is None:
        return set()
    return _kinds(captured.before) - _kinds(captured.now)


def _kinds(captured: str) -> set[str]:
    """Kinds of graphs, of all launches where they differ."""
    names = _CAPTURED.findall(captured.replace(EITHER, ", "))
    return {name.removeprefix(_TARGET) for name in names}


def _largest_batch(server: ServerSymptoms) -> float:
    """The largest batch that has a graph now; no limit where sizes are as before."""
    sizes = server.choice("capture_sizes")
    if sizes is None:
        return math.inf
    return _largest(sizes.now)


def _largest(sizes: str) -> int:
    """The largest of "1 to 512 (51)"; 0 of "none"."""
    match = _LARGEST.fullmatch(sizes)
    if match is None:
        return 0
    return int(match[1])


def scheduling(server: ServerSymptoms, _servers: Servers) -> Finding | None:
    """The next step is no longer prepared while the last one runs: each step waits."""
    choice = server.choice("async_scheduling")
    steps = _decoded(server)
    if choice is None or choice.now == "on" or not are_worse(steps):
        return None
    return _chosen("scheduling", phase_of(server), choice, steps)


def batch_cap(server: ServerSymptoms, _servers: Servers) -> Finding | None:
    """Fewer streams decode at once than are in flight, and no step is longer."""
    return _capped_loads(server) or _capped_ramp(server)


def _capped_ramp(server: ServerSymptoms) -> Finding | None:
    """Fewer streams are let in, and a ramp of streams saturates below its throughput."""
    choice = server.choice("max_num_seqs")
    if choice is None or are_worse(server.steps):
        return None
    lower = [row for row in server.rows(SATURATED) if row.is_worse]
    if not lower or not _is_lower(choice):
        return None
    return _chosen("batch-cap", "queue", choice, lower)


def _capped_loads(server: ServerSymptoms) -> Finding | None:
    choice = server.choice("max_num_seqs")
    lost_room = any(row.is_worse for row in server.rows(KV_CACHE))
    limit, names = _shared_limit(server)
    if not names or lost_room or are_worse(server.steps):
        return None
    if choice is None and (len(names) < 2 or _is_kept(server, limit)):
        return None
    if choice is not None and not _binds(choice, limit):
        return None
    loads = formatting.listed(names)
    evidence = [words.CAPPED.format(limit=limit, loads=loads)]
    if choice is not None:
        evidence.insert(0, words.choice(choice))
    return Finding("batch-cap", "queue", tuple(evidence), choice is not None)


def _shared_limit(server: ServerSymptoms) -> tuple[int, list[str]]:
    """How many streams decode at most, and the loads that meet it; none where they differ.

    A load with room for more than the limit would contradict it.
    """
    batches = [row for row in server.decoding if row.streams >= LEAST_STREAMS]
    capped = [
        row for row in batches if row.at_most <= CAPPED_SHARE * row.streams
    ]
    limits = {row.at_most for row in capped}
    most = max((row.at_most for row in server.decoding), default=0)
    if limits != {most}:
        return 0, []
    # Pairs measured each load several times.
    return most, list(dict.fromkeys(row.load for row in capped))


def _is_kept(server: ServerSymptoms, limit: int) -> bool:
    """Whether as few streams met it before: the engine's limit, or what the base build did."""
    before = [row.before for row in server.decoding if row.at_most == limit]
    size = server.kept.get("max_num_seqs", "")
    if size.isdigit():
        before.append(int(size))
    return any(0 < CAPPED_SHARE * most <= limit for most in before)


def _is_lower(choice: Choice) -> bool:
    """Whether a size is smaller than before."""
    return _size(choice.now) < _size(choice.before)


def _binds(choice: Choice, limit: int) -> bool:
    """Whether a smaller limit is the one that streams meet: far below it another one is."""
    return _is_lower(choice) and limit >= CAPPED_SHARE * _size(choice.now)


def prefill_chunk(server: ServerSymptoms, _servers: Servers) -> Finding | None:
    """Another chunk size: it costs where prompts do not fit into one, and nothing else.

    That is a prompt which is longer, or many that wait.
    """
    choice = server.choice("chunked_prefill_tokens")
    if choice is None or are_worse(server.steps):
        return None
    if server.batches:
        return _chunked_batches(server, choice)
    first = server.first_tokens
    chunk = _smaller_chunk(choice)
    fitting = [row for row in first if (row.prompt_tokens or 0) <= chunk]
    if are_worse(fitting):
        return None
    unmoved = words.UNMOVED
    if len(fitting) < len(first):
        unmoved = words.STEPS_UNMOVED
    worse = [row for row in lost(server) if row.load]
    if not worse:
        return None
    evidence = (words.choice(choice), unmoved, *words.lines(worse))
    return Finding("prefill-chunk", "prefill", evidence, by_choice=True)


def _chunked_batches(server: ServerSymptoms, choice: Choice) -> Finding | None:
    """Smaller chunks: batches of a held engine take more steps for their prompts.

    What fits into a chunk has not lost, and what decodes least has lost most.
    """
    slower = [row for row in server.batches if row.is_worse]
    if not slower or not _is_lower(choice):
        return None
    chunk = _smaller_chunk(choice)
    if any(_prompts_at_once(row) <= chunk for row in slower):
        return None
    most = max(slower, key=lambda row: row.loss)
    beyond = [row for row in server.batches if _prompts_at_once(row) > chunk]
    if most != min(beyond, key=_decoded_for_a_prompt_token):
        return None
    evidence = (
        words.choice(choice),
        words.CHUNKED_BATCHES.format(load=most.load),
        *words.lines(sorted(slower, key=lambda row: -row.loss)),
    )
    return Finding("prefill-chunk", "prefill", evidence, by_choice=True)


def _prompts_at_once(batch: Moved) -> int:
    """Tokens of the prompts that a batch has in flight; 0 where they are unknown."""
    return (batch.streams or 0) * (batch.prompt_tokens or 0)


def _decoded_for_a_prompt_token(batch: Moved) -> float:
    """Tokens that a batch decodes for each one of its prompts."""
    return (batch.output_tokens or 1) / (batch.prompt_tokens or 1)


def _smaller_chunk(choice: Choice) -> float:
    """Tokens of the smaller one of both chunks; no limit where none is a number."""
    return min(_size(choice.before), _size(choice.now))


def _size(size: str) -> float:
    """A limit of tokens or streams; none where it is off, or launches differ."""
    return int(size) if size.isdigit() else math.inf


def attention(server: ServerSymptoms, _servers: Servers) -> Finding | None:
    """Another attention backend; it often trades prefill for decode."""
    choice = server.choice("attention_backend")
    if choice is None:
        return None
    return _chosen("attention", phase_of(server), choice, lost(server))


def expert_choice(server: ServerSymptoms, _servers: Servers) -> Finding | None:
    """Another backend or kernel file of the experts."""
    choice = server.choice("moe_backend", "moe_config")
    if choice is None or not server.is_sparse:
        return None
    return _chosen("expert-path", phase_of(server), choice, lost(server))


def communication_choice(
    server: ServerSymptoms, _servers: Servers
) -> Finding | None:
    """Another all-reduce between ranks."""
    choice = server.choice("all_reduce", "custom_all_reduce")
    if choice is None or server.ranks < 2:
        return None
    return _chosen("communication", phase_of(server), choice, lost(server))


def other_choice(server: ServerSymptoms, _servers: Servers) -> Finding | None:
    """Another number format, model runner or sampler."""
    for choice in server.changed:
        if BY_CHOICE.get(choice.name) in _ALWAYS:
            cause = BY_CHOICE[choice.name]
            return _chosen(cause, phase_of(server), choice, lost(server))
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


def _chosen(
    cause: Cause, phase: Phase, choice: Choice, rows: Sequence[Moved]
) -> Finding:
    worse = [row for row in rows if row.is_worse]
    evidence = (words.choice(choice), *words.lines(worse))
    return Finding(cause, phase, evidence, by_choice=True)
