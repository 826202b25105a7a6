"""Completion: one answer that does not stream, for probes that read what a server says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from perfgate import web
from perfgate.errors import NOT_JSON
from perfgate.load.measurement import COMPLETIONS, Target


class Logprobs(msgspec.Struct):
    """Log-probabilities as OpenAI's completions have them."""

    tokens: tuple[str, ...]
    token_logprobs: tuple[float, ...]
    top_logprobs: tuple[dict[str, float], ...]


class Choice(msgspec.Struct):
    """The answer; other fields are not looked at."""

    text: str
    logprobs: Logprobs | None = None


class _Completion(msgspec.Struct):
    """What a server says to a request that does not stream."""

    choices: tuple[Choice]


def complete(
    target: Target, body: Mapping[str, Any], timeout_s: float
) -> Choice:
    """Post a request for a completion.

    Raises:
        NoAnswer: none came, or one of another form.
    """
    url = target.url + COMPLETIONS
    answer = web.post(
        url, body, timeout_s=timeout_s, authorization=target.authorization
    )
    try:
        content = msgspec.json.decode(answer, type=_Completion)
    except NOT_JSON as error:
        raise web.NoAnswer(
            tried=f"POST {url}",
            seen=f"the answer is no completion: {error}",
            remedy="read the server's log",
        ) from error
    return content.choices[0]
