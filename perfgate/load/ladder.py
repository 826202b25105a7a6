"""Which numbers of tokens in one step has the engine not met yet?

Both engines run a sparse model's experts by a Triton kernel (`fused_moe_kernel`) whose
configuration is looked up by the number of tokens M of a step: the nearest of the keys
below, which are those of the tuned files for one GPU. Triton compiles a kernel anew for
each configuration, and within one for integer arguments that are divisible by 16 or
not. Two of them follow M with two experts a token: the choices, 2 M, and their padded
number, 2 M + 8 (block - 1), with blocks of 16 to 128. The first is divisible by 16
where M is by 8, the second where M is 4 beyond that. So each key has three kinds of M,
and a step of a new kind stops every stream for 1.3 to 1.6 s, as was seen on an H200
(vLLM 0.26.0, Mixtral).

The ladder sends one prompt alone for each key and kind, with an answer of one token, so
that its prefill is a step of that many tokens; several prompts at once where one cannot
be long enough; and short prompts at once for the sizes of decoding. Whatever took long
is sent once more with other prompts: what the second time is faster by more than
`SLOWER_BY_S` was a kernel being compiled, or something else that happens once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from perfgate.load.client import SILENT, send
from perfgate.load.measurement import Target, sending
from perfgate.load.prompts import GENERATOR_VERSION, Synthetic
from perfgate.load.response import read
from perfgate.load.workload import Request, Workload

# vllm/model_executor/layers/fused_moe/configs/*.json, and the same in SGLang.
KEYS = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 256, 512, 1024, 1536, 2048, 3072, 4096)
SLOWER_BY_S = 0.5
SEED = 20_260_101  # no workload's, so that no prompt of theirs was seen before
DECODE_PROMPT_TOKENS = 16
# The first prompt of several is taken in alone, the others together; the two steps
# after that decode all of them.
DECODE_OUTPUT_TOKENS = 4
# Of the context, that a prompt leaves free: SGLang 0.5.16 refuses prompts of more than
# 4,090 of 4,096 tokens.
ROOM_TOKENS = 8
USUAL_BATCH = 32  # of an open loop, whose batch nobody sets


@dataclass(frozen=True)
class Rung:
    """Prompts that are sent at once, by their lengths, so that the engine meets a step of that many tokens."""

    prompts: tuple[int, ...]
    output_len_tokens: int = 1

    @property
    def what(self) -> str:
        """In words: "prompt of 4,088 tokens", "33 streams"."""
        if self.output_len_tokens > 1:
            return f"{len(self.prompts)} streams"
        tokens = f"{sum(self.prompts):,} tokens"
        return (
            f"prompt of {tokens}"
            if len(self.prompts) == 1
            else f"{len(self.prompts)} prompts of {tokens}"
        )


@dataclass(frozen=True)
class Climb:
    """What came of a ladder.

    Attributes:
        sent: rungs. slow: those that were faster the second time, by more than
            `SLOWER_BY_S`.
        lost_s: what these took longer than the second time.
        hung: how the engine fell silent; None if it did not.
    """

    sent: int
    slow: tuple[str, ...]
    failed: tuple[str, ...]
    lost_s: float
    seconds: float
    hung: str | None = None

    def __str__(self) -> str:
        text = (
            f"{len(self.slow)} of {self.sent} lengths took over {SLOWER_BY_S} s more "
            "than the second time"
        )
        text += (
            f": the engine compiled, {self.lost_s:.0f} s in all" if self.slow else ""
        )
        text += f" ({self.seconds:.0f} s)"
        if self.failed:
            text += f"; {len(self.failed)} failed, the first: {self.failed[0]}"
        return text


def token_counts(most: int, best: int | None = None) -> tuple[int, ...]:
    """One M of each kind for each key up to `most`, as near to the key as can be.

    Args:
        best: no more than that where the key's range allows it.
    """
    best = best or most
    found: set[int] = set()
    for place, key in enumerate(KEYS):
        # Of two keys that are equally near the smaller one is taken.
        low = (KEYS[place - 1] + key) // 2 + 1 if place else 1
        high = (
            min((key + KEYS[place + 1]) // 2, most) if place + 1 < len(KEYS) else most
        )
        center = min(key, max(best, low))
        for kind in ((0,), (4,), (1, 2, 3, 5, 6, 7)):
            reachable = [
                m
                for m in range(max(low, center - 8), min(high, center + 8) + 1)
                if m % 8 in kind
            ]
            within = [m for m in reachable if m <= best] or reachable
            if within:
                found.add(min(within, key=lambda m: (abs(m - center), m)))
    return tuple(sorted(found))


def rungs(longest_prompt: int, chunk: int, batch: int) -> tuple[Rung, ...]:
    """The ladder of a server.

    Args:
        longest_prompt: in tokens. chunk: most tokens of one step. batch: most requests
            that decode together.
    """
    steps = [
        Rung(_pieces(tokens, longest_prompt))
        for tokens in token_counts(chunk, min(chunk, longest_prompt))
    ]
    if chunk > longest_prompt:
        # Twice as many as a step takes, so that one step is full whatever the first of
        # them had to itself.
        steps.append(Rung(_pieces(2 * chunk, longest_prompt)))
    shortest = min(DECODE_PROMPT_TOKENS, longest_prompt)
    return (
        *steps,
        *(
            Rung((shortest,) * streams, DECODE_OUTPUT_TOKENS)
            for streams in token_counts(batch)
        ),
    )


def _pieces(tokens: int, longest: int) -> tuple[int, ...]:
    """Prompts of that many tokens together, none longer than can be."""
    count = -(-tokens // longest)
    return tuple(tokens // count + (place < tokens % count) for place in range(count))


def batch_of(workloads: Sequence[Workload]) -> int:
    """The most requests that any of them has in flight."""
    open_loop = USUAL_BATCH if any(w.request_rate is not None for w in workloads) else 1
    return max([open_loop, *(w.batch for w in workloads if w.batch is not None)])


def climb(
    target: Target,
    steps: Sequence[Rung],
    *,
    progress: Callable[[int, int], None] = lambda _d, _t: None,
) -> Climb:
    """Send every rung, those that took long twice, and compare.

    Never raises for what the server does: what failed is counted and named, and the
    warm-up that follows decides.
    """
    began = time.monotonic()
    alone = [place for place, rung in enumerate(steps) if len(rung.prompts) == 1]
    first = _send(target, [(place, steps[place]) for place in alone], 0)
    progress(len(alone), len(steps))
    for place, rung in enumerate(steps):
        if place not in first and not _hung(first) and target.is_alive():
            first |= _send(target, [(place, rung)], 0)
            progress(len(first), len(steps))
    again = [
        place
        for place, took in first.items()
        if isinstance(took, float) and took > SLOWER_BY_S
    ]
    second: dict[int, float | str] = {}
    for place in again:
        if not _hung(first | second) and target.is_alive():
            second |= _send(target, [(place, steps[place])], 1)
    longer = {place: _took(first[place]) - _took(second[place]) for place in second}
    slow = {place: by for place, by in longer.items() if by > SLOWER_BY_S}
    failed = [
        f"{steps[place].what}: {text}"
        for place, text in (first | second).items()
        if isinstance(text, str)
    ]
    return Climb(
        sent=len(first),
        slow=tuple(steps[place].what for place in slow),
        failed=tuple(failed),
        lost_s=sum(slow.values()),
        seconds=time.monotonic() - began,
        hung=_hung(first | second),
    )


def _took(answer: float | str) -> float:
    """Seconds; infinitely many where it failed, so that it is never said to be faster the second time."""
    return answer if isinstance(answer, float) else float("inf")


def _hung(answers: dict[int, float | str]) -> str | None:
    return next(
        (text for text in answers.values() if isinstance(text, str) and SILENT in text),
        None,
    )


def _send(
    target: Target, wanted: Sequence[tuple[int, Rung]], attempt: int
) -> dict[int, float | str]:
    """Send rungs: several one after the other if each is a single prompt, one with all of its prompts at once.

    Returns:
        place -> seconds until its last answer was complete, or what went wrong.
    """
    if not wanted:
        return {}
    requests: list[Request] = []
    places: list[int] = []
    for place, rung in wanted:
        rng = np.random.default_rng([SEED, place, attempt, GENERATOR_VERSION])
        for length in rung.prompts:
            ids = rng.integers(Synthetic().first_id, target.vocab_size, length)
            requests.append(
                Request(len(requests), tuple(ids.tolist()), rung.output_len_tokens, 0)
            )
            places.append(place)
    together = max(len(rung.prompts) for _, rung in wanted)
    how = sending(
        target,
        Workload(name="ladder", num_prompts=1, max_concurrency=together),
        lambda _d, _t: None,
    )
    answers: dict[int, float | str] = {}
    for place, transcript in zip(
        places, map(read, send(requests, how).requests), strict=True
    ):
        if transcript.error is not None or transcript.sent_ns is None:
            answers[place] = transcript.error or "was never sent"
        elif not isinstance(before := answers.get(place, 0.0), str):
            answers[place] = max(before, (transcript.end_ns - transcript.sent_ns) / 1e9)
    return answers
