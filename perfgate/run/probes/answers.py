"""Answers probe: short hashes of greedy completions of fixed prompts, once per launch.

A build that serves wrong tokens may be faster. The prompts are token ids that every run
sends alike, one after the other, so that no batch changes the rounding.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import msgspec

from perfgate import web
from perfgate.load.measurement import COMPLETIONS, Target
from perfgate.load.prompts import Synthetic
from perfgate.load.workload import Request, Workload, build_requests

# The seed is no workload's: no other request shares these prompts in a prefix cache.
PROMPTS = Workload(
    name="answers",
    prompts=Synthetic(input_len_tokens=16, output_len_tokens=16),
    num_prompts=16,
    max_concurrency=1,
    seed=20_260_302,
)
DIGITS = 12  # hex digits of each hash
TIMEOUT_S = 60.0  # of one request; the slowest CPU measured takes 1 s


@dataclass(frozen=True)
class Answers:
    """Hashes of all answers in order of the prompts; none, and a note, where one failed."""

    hashes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class Choice(msgspec.Struct):
    """The answer; other fields are not looked at."""

    text: str


class Completion(msgspec.Struct):
    """What a server says to a request that does not stream."""

    choices: tuple[Choice]


def read(target: Target) -> Answers:
    """Ask a server for the answers to the fixed prompts; a failure becomes a note."""
    hashes: list[str] = []
    prompts = build_requests(PROMPTS, 0, target.vocab_size)
    for number, prompt in enumerate(prompts, 1):
        try:
            text = _completion(target, prompt)
        except web.NoAnswer as failure:
            place = f"request {number} of {len(prompts)}"
            return Answers(notes=(f"answers: {place}: {failure.seen}",))
        digest = hashlib.sha256(text.encode()).hexdigest()
        hashes.append(digest[:DIGITS])
    return Answers(hashes=tuple(hashes))


def _completion(target: Target, prompt: Request) -> str:
    body = {
        "model": target.served_model,
        "prompt": prompt.prompt_token_ids,
        "max_tokens": prompt.output_len_tokens,
        "temperature": 0.0,
        "ignore_eos": True,
    }
    url = target.url + COMPLETIONS
    answer = web.post(
        url, body, timeout_s=TIMEOUT_S, authorization=target.authorization
    )
    try:
        content = msgspec.json.decode(answer, type=Completion)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise web.NoAnswer(
            tried=f"POST {url}",
            seen=f"the answer is no completion: {error}",
            remedy="read the server's log",
        ) from error
    return content.choices[0].text
