"""Conversations: turns of a chat, each of which begins with all turns before it.

What the model answers is not sent back: the part of a turn that stands for the answer is
drawn like the rest, so that every run sends the same tokens. A prefix cache holds a
prompt until the next turn asks for it again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from perfgate.load.prompts import Prompt, check_vocabulary

if TYPE_CHECKING:
    import numpy as np


class Conversations(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag="conversations",
    tag_field="kind",
):
    """Seeded random token ids, in conversations that take turns.

    The first turn of all conversations is sent first, then the second of all, so that a
    turn is answered long before the next one of its conversation is sent.

    Attributes:
        turns: prompts of one conversation.
        first_len_tokens: length of the first prompt, with the instructions.
        turn_len_tokens: by how much each further prompt is longer: an answer and a
            question.
        output_len_tokens: asked for in each turn.
        first_id: ids below are left alone: special tokens live there.
    """

    turns: int
    first_len_tokens: int
    turn_len_tokens: int
    output_len_tokens: int
    first_id: int = 3

    def __post_init__(self) -> None:
        lengths = (
            self.first_len_tokens,
            self.turn_len_tokens,
            self.output_len_tokens,
        )
        if self.turns < 2 or min(lengths) < 1:
            raise ValueError(
                "a conversation has two turns or more, and lengths of at least 1"
            )

    def _length(self, turn: int) -> int:
        return self.first_len_tokens + turn * self.turn_len_tokens

    def draw(
        self, count: int, vocab_size: int, rng: np.random.Generator
    ) -> list[Prompt]:
        """`count` prompts in the order of sending, and how many tokens to ask of each.

        Raises:
            UnusableWorkload: the vocabulary is too small.
        """
        check_vocabulary(vocab_size, self.first_id)
        conversations = -(-count // self.turns)  # rounded up
        longest = self._length(self.turns - 1)
        whole: list[tuple[int, ...]] = []
        for _ in range(conversations):
            drawn = rng.integers(self.first_id, vocab_size, longest)
            whole.append(tuple(drawn.tolist()))
        prompts: list[Prompt] = []
        for turn in range(self.turns):
            for ids in whole:
                prompts.append(
                    (ids[: self._length(turn)], self.output_len_tokens)
                )
        return prompts[:count]
