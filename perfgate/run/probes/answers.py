"""Answers probe: greedy completions of fixed prompts, hashes and tokens, once per launch.

A build that serves wrong tokens may be faster. The prompts are token ids that every run
sends alike, one after the other, so that no batch changes the rounding. With each token
come its log-probability and the likeliest tokens besides, where the server has them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from perfgate import web
from perfgate.load.measurement import Target
from perfgate.load.prompts import Synthetic
from perfgate.load.workload import Request, Workload, build_requests
from perfgate.results.answer import Answer, perplexity
from perfgate.run.probes.completion import Choice, Logprobs, complete

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
LIKELIEST = 4  # tokens of each place, with their log-probabilities
DECIMALS = 5  # of a log-probability
TOKEN_ID = "token_id:"  # in front of vLLM's ids
PERPLEXITY = "answers_perplexity"
REFUSED = (400, 422)
NO_LOGPROBS = "answers: the server gives no log-probabilities of its tokens"


@dataclass(frozen=True)
class Answers:
    """All answers in order of the prompts; none, and a note, where one failed.

    Attributes:
        hashes: of their texts.
        tokens: with log-probabilities; empty where the server gives none.
        values: metrics of the launch.
    """

    hashes: tuple[str, ...] = ()
    tokens: tuple[Answer, ...] = ()
    values: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def read(target: Target) -> Answers:
    """Ask a server for the answers to the fixed prompts; a failure becomes a note."""
    choices: list[Choice] = []
    prompts = build_requests(PROMPTS, 0, target.vocab_size)
    for number, prompt in enumerate(prompts, 1):
        try:
            choices.append(_completion(target, prompt))
        except web.NoAnswer as failure:
            place = f"request {number} of {len(prompts)}"
            return Answers(notes=(f"answers: {place}: {failure.seen}",))
    hashes = []
    for choice in choices:
        digest = hashlib.sha256(choice.text.encode()).hexdigest()
        hashes.append(digest[:DIGITS])
    tokens = _tokens(choices)
    if tokens is None:
        return Answers(hashes=tuple(hashes), notes=(NO_LOGPROBS,))
    values = {}
    value = perplexity(tokens)
    if value is not None:
        values[PERPLEXITY] = value
    return Answers(tuple(hashes), tokens, values)


def _tokens(choices: Sequence[Choice]) -> tuple[Answer, ...] | None:
    """The answers' tokens; None where the server gave no log-probabilities of one."""
    answers = []
    for choice in choices:
        if choice.logprobs is None:
            return None
        answer = _answer(choice.logprobs)
        if not answer.is_whole:
            return None
        answers.append(answer)
    return tuple(answers)


def _answer(logprobs: Logprobs) -> Answer:
    others = []
    for token, likeliest in zip(
        logprobs.tokens, logprobs.top_logprobs, strict=False
    ):
        row = {}
        for other, logprob in likeliest.items():
            if other != token:
                row[other.removeprefix(TOKEN_ID)] = round(logprob, DECIMALS)
        others.append(row)
    return Answer(
        tokens=tuple(token.removeprefix(TOKEN_ID) for token in logprobs.tokens),
        logprobs=tuple(
            round(logprob, DECIMALS) for logprob in logprobs.token_logprobs
        ),
        others=tuple(others),
    )


def _completion(target: Target, prompt: Request) -> Choice:
    """One answer; without log-probabilities from a server that refuses to give them."""
    body = {
        "model": target.served_model,
        "prompt": prompt.prompt_token_ids,
        "max_tokens": prompt.output_len_tokens,
        "temperature": 0.0,
        "ignore_eos": True,
    }
    asked = body | {"logprobs": LIKELIEST, "return_tokens_as_token_ids": True}
    try:
        return complete(target, asked, TIMEOUT_S)
    except web.NoAnswer as failure:
        if failure.status not in REFUSED:
            raise
    return complete(target, body, TIMEOUT_S)
