"""Held engine, from the suite's side: batches and delays of an engine in one process.

`inside/perfgate_held.py` is the other side.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec

from perfgate import web
from perfgate.engines.base import InjectionFailed
from perfgate.web import NoAnswer

BATCH_TIMEOUT_S = 120.0
DELAY_TIMEOUT_S = 30.0
Answer = TypeVar("Answer", bound=msgspec.Struct)


class Batch(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """Prompts that a held engine answers.

    Attributes:
        max_concurrency: most of them in flight at once.
        core: on which all threads of the engine run; None leaves them where they are.
    """

    prompts: Sequence[Sequence[int]]
    output_len_tokens: int
    max_concurrency: int
    core: int | None


class BatchTimes(msgspec.Struct, frozen=True, kw_only=True):
    """How long a held engine took for a batch.

    Attributes:
        wall_ns: elapsed. cpu_ns: on a core, of all threads.
        waited_ns: of the elapsed time, ready to run and without a core; None where the
            kernel does not tell.
    """

    wall_ns: int
    cpu_ns: int
    waited_ns: int | None = None


def answer_batch(url: str, batch: Batch) -> BatchTimes:
    """Have a held engine answer a batch.

    Raises:
        NoAnswer: it does not answer, or not so.
    """
    return ask(f"{url}/batch", batch, BatchTimes, BATCH_TIMEOUT_S)


def ask(
    address: str, batch: msgspec.Struct, kind: type[Answer], timeout_s: float
) -> Answer:
    """What a held engine answers to a batch, as a value of that kind.

    Raises:
        NoAnswer: it does not answer, or not so.
    """
    document = msgspec.to_builtins(batch)
    answer = web.post_json(address, document, timeout_s=timeout_s)
    try:
        return msgspec.convert(answer, kind)
    except msgspec.ValidationError as error:
        raise NoAnswer(
            tried=f"having {address} answer a batch",
            seen=str(error),
            remedy="read the log of the held engine",
        ) from error


def inject_delay(url: str, per_token_ms: float) -> None:
    """Delay each token of a held engine, to test the gate; 0 ends it.

    Raises:
        InjectionFailed: it did not confirm it.
    """
    document = {"per_token_ms": per_token_ms}
    answer: Any = None
    try:
        answer = web.post_json(
            f"{url}/delay", document, timeout_s=DELAY_TIMEOUT_S
        )
        seen = f"it answered {answer}"
    except NoAnswer as failure:
        seen = failure.seen
    if answer != document:
        raise InjectionFailed(
            tried=f"injecting a delay of {per_token_ms} ms per token at {url}",
            seen=seen,
            remedy="read the log of the held engine; without the delay this run tests nothing",
        )
