"""Questions: texts with known answers, one JSON object a line; only real weights know any.

A line has `prompt`, `answer`, and how many tokens to ask for (`max_tokens`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec

from perfgate.errors import NOT_JSON, describe_error
from perfgate.load.prompt_text import UnusableWorkload
from perfgate.load.prompts import PromptFile
from perfgate.load.workload import Workload

ACCURACY = "accuracy"


class Question(msgspec.Struct, frozen=True):
    """One line of the file; other fields are not looked at."""

    prompt: Annotated[str, msgspec.Meta(min_length=1)]
    answer: Annotated[str, msgspec.Meta(min_length=1)]
    max_tokens: Annotated[int, msgspec.Meta(ge=1)] = 32


def workload_of(path: Path) -> Workload:
    """The questions of a file as a load that is graded.

    Raises:
        UnusableWorkload: the file cannot be read, or has no question.
    """
    questions = read(path)
    return Workload(
        name=ACCURACY,
        prompts=PromptFile(path=str(path)),
        num_prompts=len(questions),
        max_concurrency=1,
        repetitions=1,
        graded=True,
    )


def read(path: Path) -> list[Question]:
    """The questions of a file.

    Raises:
        UnusableWorkload: it cannot be read, a line is no question, or there is none.
    """
    tried = f"reading the questions {path}"
    remedy = (
        'write one JSON object a line: {"prompt": "2 + 2 =", "answer": "4"}'
    )
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise UnusableWorkload(tried, describe_error(error), remedy) from error
    questions = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            questions.append(msgspec.json.decode(line, type=Question))
        except NOT_JSON as error:
            seen = f"line {number}: {error}"
            raise UnusableWorkload(tried, seen, remedy) from error
    if not questions:
        raise UnusableWorkload(tried, "it has no question", remedy)
    return questions
