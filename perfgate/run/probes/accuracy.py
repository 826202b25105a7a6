"""Accuracy probe: questions with known answers, asked greedily; the share that is right.

An answer is right where it holds the expected text, whatever the case of its letters.
"""

from __future__ import annotations

import time
from pathlib import Path

from perfgate import web
from perfgate.load.client import Progress
from perfgate.load.measurement import Target
from perfgate.load.prompts import PromptFile
from perfgate.load.questions import ACCURACY, Question, read
from perfgate.load.repetition import Repetition
from perfgate.load.workload import Workload
from perfgate.run.probes.completion import complete

TIMEOUT_S = 120.0  # of one question


def measure(
    target: Target, workload: Workload, progress: Progress
) -> Repetition:
    """Ask every question, one after the other; a failed one makes it invalid.

    After one that nobody answers no other is asked: a server that hangs would let each
    of them wait until its timeout.
    """
    assert isinstance(workload.prompts, PromptFile)
    questions = read(Path(workload.prompts.path))
    began_unix_s, began_s = time.time(), time.monotonic()
    right = answered = 0
    failures: list[str] = []
    for number, question in enumerate(questions, 1):
        progress(number, len(questions))
        try:
            right += _is_right(question, _answer(target, question))
            answered += 1
        except web.NoAnswer as failure:
            failures.append(f"question {number}: {failure.seen}")
            if failure.status is None:
                break
    count = len(questions)
    return Repetition(
        index=0,
        started_unix_s=began_unix_s,
        duration_s=time.monotonic() - began_s,
        completed=answered,
        failed=count - answered,
        input_tokens=0,
        output_tokens=0,
        # What is judged must be above nothing.
        values={ACCURACY: (right + 0.5) / (count + 0.5)},
        invalid=tuple(failures[:1]),
        notes=(f"{right} of {count} answers are right",),
        server_values={},
        client_values={},
        requests=(),
    )


def _is_right(question: Question, text: str) -> bool:
    expected = " ".join(question.answer.lower().split())
    return expected in " ".join(text.lower().split())


def _answer(target: Target, question: Question) -> str:
    body = {
        "model": target.served_model,
        "prompt": question.prompt,
        "max_tokens": question.max_tokens,
        "temperature": 0.0,
    }
    return complete(target, body, TIMEOUT_S).text
