"""Prompts: seeded random token ids, a ShareGPT file, or a JSONL file.

Prompts read from files are never used twice: there is no oversampling. What a file
holds that cannot be used is counted, and errors say so.
"""

from __future__ import annotations

import math
import re
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from perfgate.load.prompt_text import UnusableWorkload, bytes_of
from perfgate.load.sharegpt import read_conversations

if TYPE_CHECKING:
    import numpy as np
    import tokenizers

# Raised whenever the same fields would send something else.
GENERATOR_VERSION = 1

# In place of a tokenizer.
WORDS = "words"
_WORD = re.compile(r"\w+|[^\w\s]")

Prompt = tuple[tuple[int, ...], int]


class Synthetic(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag="synthetic",
    tag_field="kind",
):
    """Seeded random token ids.

    Attributes:
        input_range_ratio: r draws each length uniformly from [len (1 - r), len (1 +
            r)]; 0 makes it exact.
        shared_prefix_tokens: how many leading tokens, counted within the input length,
            are the same in all prompts of all repetitions.
        first_id: ids below are left alone: special tokens live there.
    """

    input_len_tokens: int = 32
    output_len_tokens: int = 32
    input_range_ratio: float = 0.0
    output_range_ratio: float = 0.0
    shared_prefix_tokens: int = 0
    first_id: int = 3

    def __post_init__(self) -> None:
        if self.input_len_tokens < 1 or self.output_len_tokens < 1:
            raise ValueError(
                "input_len_tokens and output_len_tokens must be at least 1"
            )
        if not (
            0 <= self.input_range_ratio < 1 and 0 <= self.output_range_ratio < 1
        ):
            raise ValueError("a range ratio must be in [0, 1)")
        shortest = self.input_len_tokens * (1 - self.input_range_ratio)
        if not 0 <= self.shared_prefix_tokens <= shortest:
            raise ValueError(
                "shared_prefix_tokens does not fit the shortest prompt"
            )

    @property
    def longest_tokens(self) -> int:
        """The longest prompt together with the longest answer."""
        longest = 0
        for length, ratio in (
            (self.input_len_tokens, self.input_range_ratio),
            (self.output_len_tokens, self.output_range_ratio),
        ):
            longest += math.ceil(length * (1 + ratio))
        return longest


class ShareGPT(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag="sharegpt",
    tag_field="kind",
):
    """Conversations as published, first turn sent, second turn's length asked for.

    Attributes:
        tokenizer: a tokenizer.json, or the folder that has one; `WORDS` takes each word
            and each sign as one token.
        length_filter: whose rule decides which conversations are too short or too long.
        output_len_tokens: asks for this many instead of the second turn's length.
        allow_truncated: whether the whole conversations of a file that is cut off are
            used.
    """

    path: str
    tokenizer: str
    length_filter: Literal["vllm", "sglang"] = "vllm"
    output_len_tokens: int | None = None
    allow_truncated: bool = False


class PromptFile(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag="jsonl",
    tag_field="kind",
):
    """One JSON object a line with "prompt" (text) or "prompt_token_ids".

    Attributes:
        output_len_tokens: asked for where a line has no "output_len_tokens" of its own.
    """

    path: str
    tokenizer: str | None = None
    output_len_tokens: int = 128


def draw(
    spec: Synthetic,
    count: int,
    vocab_size: int,
    rng: np.random.Generator,
    seed: int,
) -> list[Prompt]:
    """`count` prompts of random ids and how many tokens to ask of each."""
    check_vocabulary(vocab_size, spec.first_id)
    import numpy as np  # here and below: collecting tests must not wait for it

    # The prefix comes from a generator of its own, so that all repetitions have the
    # same one.
    prefix = np.random.default_rng([seed, GENERATOR_VERSION]).integers(
        spec.first_id, vocab_size, spec.shared_prefix_tokens
    )
    lengths = _lengths(
        spec.input_len_tokens, spec.input_range_ratio, count, rng
    )
    outputs = _lengths(
        spec.output_len_tokens, spec.output_range_ratio, count, rng
    )
    prompts = []
    for length, output in zip(lengths, outputs, strict=True):
        rest = rng.integers(spec.first_id, vocab_size, length - len(prefix))
        token_ids = (*prefix.tolist(), *rest.tolist())
        prompts.append((token_ids, output))
    return prompts


def check_vocabulary(vocab_size: int, first_id: int) -> None:
    """Refuse a vocabulary that holds no id from the first one on.

    Raises:
        UnusableWorkload: it is too small.
    """
    if vocab_size <= first_id:
        raise UnusableWorkload(
            tried="draw token ids",
            seen=f"a vocabulary of {vocab_size} and first_id {first_id}",
            remedy="lower first_id, or check the model's vocab_size",
        )


def _lengths(
    mean: int, ratio: float, count: int, rng: np.random.Generator
) -> list[int]:
    low = max(1, math.floor(mean * (1 - ratio)))
    high = math.ceil(mean * (1 + ratio))
    return [int(n) for n in rng.integers(low, high, count, endpoint=True)]


@dataclass(frozen=True)
class FileSlice:
    """Which prompts of a file one repetition takes.

    Repetition k takes `num_prompts` in a row from k x `num_prompts` of the shuffled
    file, a warm-up pass -k takes them from its end, so that none is sent twice. A pass
    that is larger than a repetition takes its own number in a row.
    """

    seed: int
    repetition: int
    count: int
    num_prompts: int

    def positions(self, available: int) -> slice | None:
        """Positions in the shuffled file; None where the file has too few prompts."""
        start = self.repetition * self.num_prompts
        if self.repetition < 0:
            largest = max(self.count, self.num_prompts)
            start = available + self.repetition * largest
        end = start + self.count
        if start < 0 or (self.repetition >= 0 and end > available):
            return None
        return slice(start, end)


@dataclass(frozen=True)
class PromptPool:
    """All usable prompts of a file, and how many were left out for which reason.

    Attributes:
        cut: where the file ends too early, as text; None of a whole file.
    """

    prompts: tuple[Prompt, ...]
    left_out: tuple[tuple[str, int], ...]
    cut: str | None = None

    def describe(self) -> str:
        """For messages: "90 usable prompts; left out: 3 too long"."""
        reasons = ", ".join(
            f"{count} {reason}" for reason, count in self.left_out
        )
        return (
            f"{len(self.prompts)} usable prompts; left out: {reasons or 'none'}"
        )


def from_file(spec: ShareGPT | PromptFile, part: FileSlice) -> list[Prompt]:
    """The prompts of one repetition out of a file.

    Raises:
        UnusableWorkload: the file is missing or broken, or has too few usable prompts;
            there is no oversampling.
    """
    pool = load(spec)
    order = shuffled(len(pool.prompts), part.seed)
    positions = part.positions(len(order))
    if positions is None:
        raise UnusableWorkload(
            tried=(
                f"take {part.count} prompts for repetition {part.repetition} from "
                f"{spec.path}"
            ),
            seen=pool.describe(),
            remedy=(
                "use a larger file, fewer prompts or fewer repetitions; prompts are "
                "never sent twice"
            ),
        )
    return [pool.prompts[i] for i in order[positions]]


def shuffled(count: int, seed: int) -> list[int]:
    """Places of a file's prompts, in the order in which they are sent."""
    import numpy as np

    rng = np.random.default_rng([seed, GENERATOR_VERSION])
    return [int(place) for place in rng.permutation(count)]


@cache
def load(spec: ShareGPT | PromptFile) -> PromptPool:
    """Read and tokenize a file once."""
    if isinstance(spec, ShareGPT):
        return _load_sharegpt(spec)
    return _load_jsonl(spec)


def _load_sharegpt(spec: ShareGPT) -> PromptPool:
    found = read_conversations(spec.path, spec.allow_truncated)
    encode = tokenizer_of(spec.tokenizer)
    left_out: Counter[str] = Counter()
    prompts = []
    for entry in found.entries:
        turns = first_turns(entry)
        if turns is None:
            left_out["without two turns of text"] += 1
            continue
        if not all(map(_is_unicode, turns)):
            left_out["with half of a surrogate pair"] += 1
            continue
        ids = encode(turns[0])
        output = spec.output_len_tokens or len(encode(turns[1]))
        reason = unfit(spec, len(ids), output)
        if reason:
            left_out[reason] += 1
        else:
            prompts.append((ids, output))
    counts = tuple(sorted(left_out.items()))
    return PromptPool(tuple(prompts), counts, found.cut)


def first_turns(entry: Any) -> tuple[str, str] | None:
    """Texts of the first two turns of a conversation as published, or None if it has none."""
    if not isinstance(entry, dict):
        return None
    turns = entry.get("conversations", entry.get("conversation"))
    if not isinstance(turns, list) or len(turns) < 2:
        return None
    first, second = _text_of(turns[0]), _text_of(turns[1])
    if first is None or second is None:
        return None
    return first, second


def _is_unicode(text: str) -> bool:
    """Whether the text has no half of a surrogate pair, which no tokenizer takes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _text_of(turn: Any) -> str | None:
    if not isinstance(turn, dict):
        return None
    text = turn.get("value")
    if not isinstance(text, str):
        return None
    return text


def unfit(spec: ShareGPT, input_len: int, output_len: int) -> str | None:
    """Why a client would leave this conversation out.

    vLLM (`is_valid_sequence`): fewer than 4 tokens in or out, more than 1,024 in, more
    than 2,048 in all. SGLang (`sample_sharegpt_requests`): fewer than 2 tokens in or
    out; no upper limit unless one is given.
    """
    is_vllm = spec.length_filter == "vllm"
    shortest = 4 if is_vllm else 2
    is_output_given = spec.output_len_tokens is not None
    if input_len < shortest or (output_len < shortest and not is_output_given):
        return f"shorter than {shortest} tokens"
    if is_vllm and (input_len > 1024 or input_len + output_len > 2048):
        return "longer than 1,024 tokens in or 2,048 in all"
    return None


class PromptLine(msgspec.Struct, frozen=True):
    """One line of a prompt file; other fields are let through."""

    prompt: str | None = None
    prompt_token_ids: tuple[int, ...] | None = None
    output_len_tokens: int | None = None


def _load_jsonl(spec: PromptFile) -> PromptPool:
    remedy = "give a file with one JSON object a line"
    lines = bytes_of(spec.path, remedy).splitlines()
    encode = None
    if spec.tokenizer:
        encode = tokenizer_of(spec.tokenizer)
    prompts = []
    left_out: Counter[str] = Counter()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            left_out["empty lines"] += 1
            continue
        tried = f"read line {number} of {spec.path}"
        prompts.append(_prompt_of(spec, line, tried, encode))
    return PromptPool(tuple(prompts), tuple(left_out.items()))


def _prompt_of(
    spec: PromptFile, line: bytes, tried: str, encode: Encode | None
) -> Prompt:
    try:
        entry = msgspec.json.decode(line, type=PromptLine)
    except (msgspec.DecodeError, RecursionError) as error:
        raise UnusableWorkload(
            tried=tried,
            seen=str(error),
            remedy="write one JSON object a line, with prompt or prompt_token_ids",
        ) from error
    output = entry.output_len_tokens or spec.output_len_tokens
    if entry.prompt_token_ids:
        return entry.prompt_token_ids, output
    if not entry.prompt:
        raise UnusableWorkload(
            tried=tried,
            seen="neither prompt nor prompt_token_ids",
            remedy="give one of them, not empty",
        )
    if encode is None:
        raise UnusableWorkload(
            tried=tried,
            seen="text, and no tokenizer",
            remedy="name a tokenizer in the workload",
        )
    return encode(entry.prompt), output


Encode = Callable[[str], tuple[int, ...]]


def tokenizer_of(name: str) -> Encode:
    """What makes token ids of text: a tokenizer's file or folder, or `WORDS`."""
    if name == WORDS:
        return word_ids
    tokenizer = load_tokenizer(Path(name))

    def encode(text: str) -> tuple[int, ...]:
        return tuple(tokenizer.encode(text).ids)

    return encode


def word_ids(text: str) -> tuple[int, ...]:
    """An id for each word and each sign: the same one wherever it stands.

    For models that were made, whose vocabulary knows no words. The ids are to be folded
    into a vocabulary.
    """
    return tuple(zlib.crc32(word.encode()) for word in _WORD.findall(text))


def load_tokenizer(path: Path) -> tokenizers.Tokenizer:
    """The tokenizer of a folder, or of a tokenizer.json, without truncation and padding.

    Some models ship a file in which they are switched on. Engines ignore both.

    Raises:
        UnusableWorkload: there is none, or it is broken.
    """
    # Imported where needed: most workloads are synthetic and do without.
    import tokenizers

    if path.is_dir():
        path = path / "tokenizer.json"
    try:
        tokenizer = tokenizers.Tokenizer.from_str(path.read_text("utf-8"))
        tokenizer.no_truncation()
        tokenizer.no_padding()
    except (
        Exception
    ) as error:  # tokenizers raises plain Exception for a broken file
        raise UnusableWorkload(
            tried=f"read the tokenizer {path}",
            seen=str(error),
            remedy="give a tokenizer.json",
        ) from error
    return tokenizer
