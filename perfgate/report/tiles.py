"""Tiles of the page: the study's answers, one metric each, as large numbers.

What is red comes first, then the leading metric of each question, then the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from perfgate.cases import is_ratio
from perfgate.judge import run_status
from perfgate.judge.verdict import ALWAYS_RED
from perfgate.load.metrics import METRICS
from perfgate.report import questions, verdict_text
from perfgate.report.headline import SIGNS, WORDS, level
from perfgate.report.questions import Answer
from perfgate.results.schema import RunResults

MOST_BY_SERVER: Final = 9
# Shown at once; the others are folded away.
MOST_SHOWN: Final = 6
NOT_EXCLUDED: Final = "cannot exclude a loss"
# Of a question with several metrics, the one that answers it.
_LEADING: Final = {
    "E1": "output_throughput",
    "E2": "itl_median_ms",
    "E3": "ttft_median_ms",
    "E4": "itl_median_ms",
    "E6": "memory_peak_bytes",
}


@dataclass(frozen=True)
class Tile:
    """One answer.

    Attributes:
        question: number and subject: "E2 one stream"; `asks` is the whole question.
        metric: in plain words; `definition` says how it is worked out.
        change: with the change that is allowed; "" where nothing was compared.
        level: "fail", "pass" or "open".
    """

    question: str
    asks: str
    metric: str
    definition: str
    loads: str
    value: str
    change: str
    outcome: str
    level: str


def tiles(results: RunResults) -> list[Tile]:
    """The answers of a run; report-only ones for questions that have no others."""
    judged = run_status.judged_verdicts(results)
    answered = {row.experiment for row in judged}
    rows = list(judged)
    for row in run_status.ordered(results):
        if row.experiment not in answered and row.value is not None:
            rows.append(row)
    answers = questions.finest(rows, MOST_BY_SERVER)
    known = [answer for answer in answers if answer.value != "-"]
    return [_tile(answer) for answer in _by_weight(known)]


def plain_metric(answer: Answer) -> str:
    """The metric in words; of a ratio which model is divided by which."""
    name = answer.metric
    if is_ratio(answer.worst.case):
        return f"{name}, ratio"
    return name


def definition(metric: str) -> str:
    """How a metric is worked out; "" for one that is not registered."""
    if metric not in METRICS:
        return ""
    return METRICS[metric].definition


def _by_weight(answers: Sequence[Answer]) -> list[Answer]:
    """Red first, then one of each question, then the rest; else in the study's order."""
    red = [answer for answer in answers if _is_red(answer)]
    others = [answer for answer in answers if not _is_red(answer)]
    leading: dict[tuple[str, bool], Answer] = {}
    for answer in others:
        key = answer.worst.experiment, is_ratio(answer.worst.case)
        if key not in leading or _leads(answer):
            leading[key] = answer
    chosen = list(leading.values())
    rest = [answer for answer in others if answer not in chosen]
    return [*red, *chosen, *rest]


def _is_red(answer: Answer) -> bool:
    worst = answer.worst
    return worst.gate == "hard" and worst.outcome in ALWAYS_RED


def _leads(answer: Answer) -> bool:
    return answer.worst.metric == _LEADING.get(answer.worst.experiment)


def _tile(answer: Answer) -> Tile:
    worst = answer.worst
    number = worst.experiment
    return Tile(
        question=answer.question,
        asks=questions.ASKS.get(number, ""),
        metric=plain_metric(answer),
        definition=definition(worst.metric),
        loads=answer.loads,
        value=answer.value,
        change=_change(answer),
        outcome=_outcome(answer),
        level=level(worst.outcome),
    )


def _change(answer: Answer) -> str:
    worst = answer.worst
    if worst.change is None:
        return ""
    text = verdict_text.short_change(worst)
    limit = verdict_text.allowed(worst)
    if limit == "-":
        return text
    return f"{text}, allowed {limit}"


def _outcome(answer: Answer) -> str:
    """The worst outcome in words, and of how many cases: "✗ 2 of 5 regressed"."""
    worst = answer.worst
    words = WORDS.get(worst.outcome, NOT_EXCLUDED)
    alike = sum(row.outcome is worst.outcome for row in answer.cases)
    if alike < len(answer.cases):
        words = f"{alike} of {len(answer.cases)} {words}"
    if worst.gate == "report":
        words += " (report-only)"
    return f"{SIGNS[worst.outcome]} {words}"
