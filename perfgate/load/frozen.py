"""Frozen data sets: what is sent of them, drawn once and kept with where it came from.

To read and tokenize a large data set takes seconds and much memory, and its file may
not be where the load is sent. So the prompts that sessions need are drawn once: the
first ones of the shuffled data set for repetitions, and the last ones for warm-ups.
"""

from __future__ import annotations

import functools
import hashlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import msgspec

from perfgate import formatting, locations
from perfgate.errors import describe_error
from perfgate.files import write_atomically
from perfgate.load.prompt_text import UnusableWorkload
from perfgate.load.prompts import (
    GENERATOR_VERSION,
    WORDS,
    FileSlice,
    Prompt,
    ShareGPT,
    check_vocabulary,
    load,
    shuffled,
)

SUFFIX = ".jsonl"
# Raised whenever the same file would give other prompts.
READER_VERSION = 1
KEPT_FIRST, KEPT_LAST = 1000, 400
FIRST_ID = 3  # ids below are left alone: special tokens live there


class Frozen(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag="frozen",
    tag_field="kind",
):
    """Prompts of a data set that were drawn before.

    Attributes:
        path: of the file that holds them; no part of what is sent.
        source: the data set, for people.
        file: name of its file.
        sha256: identity of the data set, its tokenizer and how they were drawn.
    """

    path: str
    source: str
    file: str
    sha256: str


class Origin(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """Where frozen prompts came from: the first line of their file.

    Attributes:
        dataset: the kind of data set.
        file: its name, without the folder.
        tokenizer_sha256: empty where words were counted.
        usable: how many of its prompts are neither too short nor too long.
        left_out: reason -> how many were left out for it.
        cut: where the file ends too early; empty of a whole file.
    """

    perfgate_prompts: int = 1
    dataset: str
    file: str
    file_sha256: str
    tokenizer_sha256: str
    length_filter: str
    seed: int
    reader: int = READER_VERSION
    generator: int = GENERATOR_VERSION
    usable: int
    left_out: dict[str, int]
    cut: str = ""

    @property
    def are_words(self) -> bool:
        """Whether ids stand for words, and are to be folded into a vocabulary."""
        return not self.tokenizer_sha256

    @property
    def sha256(self) -> str:
        """Identity: what decides which prompts there are, and in which order."""
        return identity_of(
            self.file_sha256,
            self.tokenizer_sha256,
            self.length_filter,
            self.seed,
        )

    def at(self, path: Path) -> Frozen:
        """The prompts in that file."""
        return Frozen(
            path=str(path),
            source=self.describe(),
            file=self.file,
            sha256=self.sha256,
        )

    def describe(self) -> str:
        """For people: "sharegpt from chats.json, 1,200 usable prompts"."""
        count = formatting.count(self.usable, "usable prompt")
        text = f"{self.dataset} from {self.file}, {count}"
        if self.cut:
            text += f" (cut off: {self.cut})"
        return text


class _Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A prompt, and its position in the shuffled data set."""

    position: int
    prompt_token_ids: tuple[int, ...]
    output_len_tokens: int


def identity_of(
    file_sha256: str, tokenizer_sha256: str, length_filter: str, seed: int
) -> str:
    """SHA-256 of what decides the prompts."""
    parts = [
        READER_VERSION,
        GENERATOR_VERSION,
        file_sha256,
        tokenizer_sha256,
        length_filter,
        seed,
    ]
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()


def freeze(dataset: str, spec: ShareGPT, path: Path, seed: int = 0) -> Frozen:
    """Draw the prompts of a data set and write them to a file.

    Raises:
        UnusableWorkload: the data set or its tokenizer cannot be read.
    """
    hashes = _hashes(spec)
    pool = load(spec)
    origin = Origin(
        dataset=dataset,
        file=Path(spec.path).name,
        file_sha256=hashes[0],
        tokenizer_sha256=hashes[1],
        length_filter=spec.length_filter,
        seed=seed,
        usable=len(pool.prompts),
        left_out=dict(pool.left_out),
        cut=pool.cut or "",
    )
    encode = msgspec.json.encode
    lines = [encode(origin)]
    for position, place in enumerate(shuffled(len(pool.prompts), seed)):
        last = len(pool.prompts) - KEPT_LAST
        if KEPT_FIRST <= position < last:
            continue
        ids, output = pool.prompts[place]
        lines.append(encode(_Line(position, ids, output)))
    write_atomically(path, b"\n".join(lines) + b"\n")
    return origin.at(path)


def frozen(dataset: str, spec: ShareGPT, seed: int = 0) -> Frozen:
    """The prompts of a data set, drawn now or by an earlier session.

    Raises:
        UnusableWorkload: the data set or its tokenizer cannot be read.
    """
    identity = identity_of(*_hashes(spec), spec.length_filter, seed)
    path = cache_dir() / f"{dataset}-{identity[:16]}{SUFFIX}"
    if path.is_file():
        found = read_frozen(path)
        if found.sha256 == identity:
            return found
    return freeze(dataset, spec, path, seed)


def cache_dir() -> Path:
    """Folder of the prompts that were drawn: .prompts in the project.

    In a project that cannot be written it is the user's own among temporary files.
    """
    root = locations.current().root
    if os.access(root, os.W_OK):
        return root / ".prompts"
    return Path(tempfile.gettempdir(), f"perfgate-prompts-{os.getuid()}")


def _hashes(spec: ShareGPT) -> tuple[str, str]:
    """SHA-256 of the data set and of the tokenizer; empty where words are counted."""
    tokenizer = ""
    if spec.tokenizer != WORDS:
        path = Path(spec.tokenizer)
        if path.is_dir():
            path = path / "tokenizer.json"
        tokenizer = file_hash(path)
    return file_hash(Path(spec.path)), tokenizer


def file_hash(path: Path) -> str:
    """SHA-256 of a file.

    Raises:
        UnusableWorkload: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UnusableWorkload(
            tried=f"read {path}",
            seen=describe_error(error),
            remedy="give the path of an existing file",
        ) from error


def read_frozen(path: Path) -> Frozen:
    """What a file of frozen prompts holds, by its first line.

    Raises:
        UnusableWorkload: it cannot be read, or is no such file.
    """
    origin, _ = _content(str(path))
    return origin.at(path)


@functools.cache
def _content(path: str) -> tuple[Origin, Mapping[int, Prompt]]:
    """Where the prompts came from, and each by its position."""
    try:
        first, *lines = Path(path).read_bytes().splitlines()
        origin = msgspec.json.decode(first, type=Origin)
        decoder = msgspec.json.Decoder(_Line)
        rows = [decoder.decode(line) for line in lines]
    except OSError as error:
        seen = describe_error(error)
    except (ValueError, msgspec.DecodeError) as error:
        seen = f"no frozen prompts: {error}"
    else:
        prompts = {}
        for row in rows:
            prompts[row.position] = (
                row.prompt_token_ids,
                row.output_len_tokens,
            )
        return origin, prompts
    raise UnusableWorkload(
        tried=f"read {path}",
        seen=seen,
        remedy="draw them: perfgate prompts DATASET.json --out FILE.jsonl",
    )


def prompts_of(spec: Frozen, part: FileSlice, vocab_size: int) -> list[Prompt]:
    """The prompts of one repetition.

    Raises:
        UnusableWorkload: the file holds other prompts than declared, or too few, or
            they are of another vocabulary.
    """
    origin, kept = _content(spec.path)
    tried = f"take {part.count} prompts for repetition {part.repetition} from {spec.path}"
    if origin.sha256 != spec.sha256:
        raise UnusableWorkload(
            tried=tried,
            seen=f"it holds others: {origin.describe()}",
            remedy="start the session again",
        )
    positions = part.positions(origin.usable)
    wanted = range(0)
    if positions is not None:
        wanted = range(positions.start, positions.stop)
    if positions is None or not all(place in kept for place in wanted):
        raise UnusableWorkload(
            tried=tried,
            seen=f"{origin.describe()}, of which {len(kept):,} are kept",
            remedy=(
                "use a larger data set, fewer prompts or fewer repetitions; prompts "
                "are never sent twice"
            ),
        )
    check_vocabulary(vocab_size, FIRST_ID)
    prompts = []
    for place in wanted:
        ids, output = kept[place]
        prompts.append((_fitted(ids, origin, vocab_size, tried), output))
    return prompts


def _fitted(
    ids: tuple[int, ...], origin: Origin, vocab_size: int, tried: str
) -> tuple[int, ...]:
    """Ids of the model's vocabulary: those of words are folded into it."""
    if origin.are_words:
        room = vocab_size - FIRST_ID
        return tuple(FIRST_ID + word % room for word in ids)
    if max(ids) >= vocab_size:
        raise UnusableWorkload(
            tried=tried,
            seen=f"the token id {max(ids)}, where the model knows {vocab_size}",
            remedy="draw the prompts with the tokenizer of the smaller vocabulary",
        )
    return ids
