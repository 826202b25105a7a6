"""Counts: what a held engine did for a batch, as its process counted it."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from perfgate.engines import held

# With a profile of calls, and again with each operator counted.
TIMEOUT_S = 300.0
# In valgrind, three times: one takes 10 s of a core.
INSTRUCTIONS_TIMEOUT_S = 600.0


class CountedBatch(msgspec.Struct, frozen=True, kw_only=True):
    """A batch for a held engine, all of whose prompts get as many tokens.

    Attributes:
        max_concurrency: most of them in flight at once.
    """

    prompts: Sequence[Sequence[int]]
    output_len_tokens: int
    max_concurrency: int


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """What the engine did for it.

    Attributes:
        python_calls, c_calls: of functions, by sys.setprofile.
        operators: operator of torch -> calls.
        new_tensor_bytes: of the tensors that operators returned; a view is none.
        steps: of the engine. tokens: of all answers.
        answers: a hash of the tokens of each answer.
        repeats: whether the batch was answered alike while operators were counted.
    """

    python_calls: int
    c_calls: int
    operators: dict[str, int]
    new_tensor_bytes: int
    steps: int
    tokens: int
    answers: tuple[str, ...]
    repeats: bool

    def values(self) -> dict[str, float]:
        """Metric -> value."""
        return {
            "work_python_calls": float(self.python_calls),
            "work_c_calls": float(self.c_calls),
            "work_operators": float(sum(self.operators.values())),
            "work_new_bytes": float(self.new_tensor_bytes),
            "work_steps": float(self.steps),
            "work_answers": float(len(self.answers)),
        }


class Instructions(msgspec.Struct, frozen=True, kw_only=True):
    """What the engine took for it, as valgrind counts.

    Attributes:
        instructions: of its process.
        tokens, answers, repeats: as of `Counts`.
        operators: none are counted.
    """

    instructions: int
    tokens: int
    answers: tuple[str, ...]
    repeats: bool
    operators: dict[str, int] = {}

    def values(self) -> dict[str, float]:
        """Metric -> value."""
        return {"work_instructions": float(self.instructions)}


def count_instructions(url: str, batch: CountedBatch) -> Instructions:
    """Have a held engine that runs in valgrind answer a batch, and count.

    Raises:
        NoAnswer: it does not answer, or not so.
    """
    return held.ask(
        f"{url}/instructions", batch, Instructions, INSTRUCTIONS_TIMEOUT_S
    )


def count_batch(url: str, batch: CountedBatch) -> Counts:
    """Have a held engine answer a batch, and count.

    Raises:
        NoAnswer: it does not answer, or not so.
    """
    return held.ask(f"{url}/count", batch, Counts, TIMEOUT_S)
