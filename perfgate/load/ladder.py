"""Warm-up ladder: meet every kernel that a step of a sparse model can need, before measuring.

Both engines run a sparse model's experts by a Triton kernel (`fused_moe_kernel`) whose
configuration is looked up by the number of tokens M of a step: the nearest of the keys
below, which are those of the tuned files for one GPU. Triton compiles a kernel anew for
each configuration, and within one for integer arguments that are divisible by 16 or
not. Two of them follow M with two experts a token: the choices, 2 M, and their padded
number, 2 M + 8 (block - 1), with blocks of 16 to 128. The first is divisible by 16
where M is by 8, the second where M is 4 beyond that. So each key has three kinds of M.
A step of a new kind stops every stream for 1.3 to 2.1 s, as was seen on an H200 (vLLM
0.26.0, Mixtral).

vLLM pads a step of up to 512 tokens to the next size that it captured as a graph, and
captures them at its start. Such a step meets no kernel anew. So the ladder sends the
largest M of each key: of 385 to 768, for which 512 is the nearest key, it sends 764 to
768. With 508 to 512, 3 of 8 repetitions stalled where five or six prompts of 128 tokens
met in a step.

The ladder sends one prompt alone for each key and kind, with an answer of one token, so
that its prefill is a step of that many tokens. Where one prompt cannot be long enough,
several are sent at once. Short prompts at once reach the sizes of decoding. Whatever
took long is sent once more with other prompts. If the second time is faster by more
than `SLOWER_BY_S`, a kernel was compiled, or something else happened that happens once.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from perfgate.load.client import Progress, no_progress, send
from perfgate.load.measurement import Target, sending
from perfgate.load.prompts import GENERATOR_VERSION, Synthetic
from perfgate.load.request_times import NS_PER_S
from perfgate.load.response import read
from perfgate.load.workload import Request, Workload

# vllm/model_executor/layers/fused_moe/configs/*.json, and the same in SGLang.
KEYS = (
    1,
    2,
    4,
    8,
    16,
    24,
    32,
    48,
    64,
    96,
    128,
    256,
    512,
    1024,
    1536,
    2048,
    3072,
    4096,
)
# Kinds of M by its remainder modulo 8: see the module's docstring.
KINDS = ((0,), (4,), (1, 2, 3, 5, 6, 7))
SLOWER_BY_S = 0.5
SEED = 20_260_101  # no workload's, so that the engine never met these prompts
DECODE_PROMPT_TOKENS = 16
# The engine takes in the first prompt of several alone and the others together; the two
# steps after that decode all of them.
DECODE_OUTPUT_TOKENS = 4
# Of the context, that a prompt leaves free: SGLang 0.5.16 refuses prompts of more than
# 4,090 of 4,096 tokens.
ROOM_TOKENS = 8
USUAL_BATCH = 32  # of an open loop, whose batch nobody sets


@dataclass(frozen=True)
class Rung:
    """Lengths of prompts that are sent at once: together a step of that many tokens."""

    prompts: tuple[int, ...]
    output_len_tokens: int = 1

    @property
    def label(self) -> str:
        """For people: "prompt of 4,088 tokens", "33 streams"."""
        count = len(self.prompts)
        if self.output_len_tokens > 1:
            return f"{count} streams"
        tokens = f"{sum(self.prompts):,} tokens"
        if count == 1:
            return f"prompt of {tokens}"
        return f"{count} prompts of {tokens}"


@dataclass(frozen=True)
class Climb:
    """Result of a ladder.

    Attributes:
        rungs: how many were sent.
        slow: rungs that were faster the second time, by more than `SLOWER_BY_S`.
        failed: rungs with a failed request, and why.
        lost_s: what the slow rungs took longer than the second time.
        seconds: duration of the ladder.
        hang: how the engine hung; None if it did not.
    """

    rungs: int
    slow: tuple[str, ...]
    failed: tuple[str, ...]
    lost_s: float
    seconds: float
    hang: str | None = None

    def __str__(self) -> str:
        text = (
            f"{len(self.slow)} of {self.rungs} lengths were over {SLOWER_BY_S} s slower "
            "the first time"
        )
        if self.slow:
            text += f" (the engine compiled for {self.lost_s:.0f} s)"
        text += f"; the ladder took {self.seconds:.0f} s"
        if self.failed:
            text += f"; {len(self.failed)} failed, the first: {self.failed[0]}"
        return text


def token_counts(largest: int, best: int | None = None) -> tuple[int, ...]:
    """The largest M of each kind for each key, up to `largest`.

    Args:
        best: no more than that where the key's range allows it.
    """
    best = best or largest
    counts: set[int] = set()
    for place in range(len(KEYS)):
        low, high = _range_of_key(place, largest)
        for remainders in KINDS:
            kind = [
                count
                for count in range(low, high + 1)
                if count % 8 in remainders
            ]
            if kind:
                counts.add(_largest(kind, best))
    return tuple(sorted(counts))


def _range_of_key(place: int, largest: int) -> tuple[int, int]:
    """The smallest and the largest M nearest to this key; a tie goes to the smaller key."""
    key = KEYS[place]
    low = 1
    if place > 0:
        low = (KEYS[place - 1] + key) // 2 + 1
    high = largest
    if place + 1 < len(KEYS):
        high = min((key + KEYS[place + 1]) // 2, largest)
    return low, high


def _largest(counts: Sequence[int], best: int) -> int:
    """The largest count up to `best`; where all are beyond it, the smallest."""
    short_enough = [count for count in counts if count <= best]
    if short_enough:
        return short_enough[-1]
    return counts[0]


def rungs(longest_prompt: int, chunk: int, batch: int) -> tuple[Rung, ...]:
    """The ladder of a server.

    Args:
        longest_prompt: in tokens.
        chunk: most tokens of one step.
        batch: most requests that decode together.
    """
    steps = []
    for tokens in token_counts(chunk, min(chunk, longest_prompt)):
        steps.append(Rung(_pieces(tokens, longest_prompt)))
    if chunk > longest_prompt:
        # Twice as many as a step takes, so that one step is full whatever the first of
        # them had to itself.
        steps.append(Rung(_pieces(2 * chunk, longest_prompt)))
    shortest = min(DECODE_PROMPT_TOKENS, longest_prompt)
    for streams in token_counts(batch):
        steps.append(Rung((shortest,) * streams, DECODE_OUTPUT_TOKENS))
    return tuple(steps)


def _pieces(tokens: int, longest: int) -> tuple[int, ...]:
    """Prompts of that many tokens together, none longer than the longest possible."""
    count = -(-tokens // longest)
    length, longer = divmod(tokens, count)
    return (length + 1,) * longer + (length,) * (count - longer)


def batch_of(workloads: Sequence[Workload]) -> int:
    """The most requests that any of them has in flight."""
    batches = [1]
    for workload in workloads:
        batch = workload.batch
        if workload.request_rate is not None:
            batches.append(USUAL_BATCH)
        elif batch is not None:
            batches.append(batch)
    return max(batches)


@dataclass(frozen=True)
class _Answers:
    """Answers to rungs, by their place in the ladder.

    Attributes:
        seconds: place -> time until the rung's last answer was complete.
        errors: place -> why a request of the rung failed.
        hang: how the engine hung; None if it did not.
    """

    seconds: Mapping[int, float]
    errors: Mapping[int, str]
    hang: str | None = None

    def __len__(self) -> int:
        return len(self.seconds) + len(self.errors)

    def __contains__(self, place: int) -> bool:
        return place in self.seconds or place in self.errors

    def joined(self, later: _Answers) -> _Answers:
        return _Answers(
            seconds={**self.seconds, **later.seconds},
            errors={**self.errors, **later.errors},
            hang=self.hang or later.hang,
        )


def climb(
    target: Target, steps: Sequence[Rung], *, progress: Progress = no_progress
) -> Climb:
    """Send every rung, those that took long twice, and compare.

    Never raises for what the server does: what failed is counted and named, and the
    warm-up that follows decides.
    """
    began = time.monotonic()
    first = _send_all(target, steps, progress)
    second = _send_slow_again(target, steps, first)
    slow = []
    lost_s = 0.0
    for place, took_s in second.seconds.items():
        longer_s = first.seconds[place] - took_s
        if longer_s > SLOWER_BY_S:
            slow.append(steps[place].label)
            lost_s += longer_s
    errors = {**first.errors, **second.errors}
    failed = [
        f"{steps[place].label}: {error}" for place, error in errors.items()
    ]
    return Climb(
        rungs=len(first),
        slow=tuple(slow),
        failed=tuple(failed),
        lost_s=lost_s,
        seconds=time.monotonic() - began,
        hang=first.hang or second.hang,
    )


def _send_all(
    target: Target, steps: Sequence[Rung], progress: Progress
) -> _Answers:
    """Send every rung once: single prompts one after the other, then the others."""
    single = {}
    for place, rung in enumerate(steps):
        if len(rung.prompts) == 1:
            single[place] = rung
    answers = _send(target, single, attempt=0)
    progress(len(answers), len(steps))
    for place, rung in enumerate(steps):
        if place in answers:
            continue
        if answers.hang is not None or not target.is_alive():
            break
        answers = answers.joined(_send(target, {place: rung}, attempt=0))
        progress(len(answers), len(steps))
    return answers


def _send_slow_again(
    target: Target, steps: Sequence[Rung], first: _Answers
) -> _Answers:
    """Send those that took over `SLOWER_BY_S` once more, with other prompts."""
    answers = _Answers({}, {}, first.hang)
    for place, took_s in first.seconds.items():
        if took_s <= SLOWER_BY_S:
            continue
        if answers.hang is not None or not target.is_alive():
            break
        answer = _send(target, {place: steps[place]}, attempt=1)
        answers = answers.joined(answer)
    return answers


def _send(target: Target, steps: Mapping[int, Rung], attempt: int) -> _Answers:
    """Send rungs of one prompt one after the other, or one rung with all prompts at once."""
    if not steps:
        return _Answers({}, {})
    requests: list[Request] = []
    places: list[int] = []
    for place, rung in steps.items():
        rng = np.random.default_rng([SEED, place, attempt, GENERATOR_VERSION])
        for length in rung.prompts:
            ids = rng.integers(Synthetic().first_id, target.vocab_size, length)
            prompt = tuple(ids.tolist())
            request = Request(
                index=len(requests),
                prompt_token_ids=prompt,
                output_len_tokens=rung.output_len_tokens,
                arrival_ns=0,
            )
            requests.append(request)
            places.append(place)
    at_once = max(len(rung.prompts) for rung in steps.values())
    workload = Workload(name="ladder", num_prompts=1, max_concurrency=at_once)
    recording = send(requests, sending(target, workload, no_progress))
    seconds: dict[int, float] = {}
    errors: dict[int, str] = {}
    for place, record in zip(places, recording.requests, strict=True):
        transcript = read(record)
        if transcript.error is not None or transcript.sent_ns is None:
            errors[place] = transcript.error or "was never sent"
            continue
        took_s = (transcript.end_ns - transcript.sent_ns) / NS_PER_S
        seconds[place] = max(took_s, seconds.get(place, 0.0))
    for place in errors:
        seconds.pop(place, None)
    return _Answers(seconds, errors, recording.hang)
