"""Unused baselines: which of a session's servers no test asks for under any options.

A session with other options asks the same questions of other studies. So every question
is asked again, of each of those studies, until all baselines are accounted for.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from perfgate.cases import Case
from perfgate.study import Study, Versus


@dataclass(frozen=True)
class Question:
    """What a perf test asks.

    Attributes:
        compares_engines: whether it is asked of a `Versus`, and not of a `Study`.
        ask: yields its cases.
    """

    compares_engines: bool
    ask: Callable[[Any], Iterable[Case]]


def asked_otherwise(
    ids: Collection[str],
    questions: Collection[Question],
    sessions: Iterable[list[Study]],
    first_engine: str | None,
) -> frozenset[str]:
    """Those of the ids of cases that any of the sessions asks.

    Args:
        sessions: the studies of each.
        first_engine: the one that others are compared with.
    """
    missing = set(ids)
    for studies in sessions:
        pairs = list(versus_of(studies, first_engine))
        for question in questions:
            for subject in pairs if question.compares_engines else studies:
                missing.difference_update(_ids(question, subject))
        if not missing:
            break
    return frozenset(ids) - missing


def _ids(question: Question, subject: Any) -> list[str]:
    """What is asked of a study; nothing where the question is not made for it."""
    ids: list[str] = []
    # Anything: a test of somebody's own never sees the options that nobody gives.
    with contextlib.suppress(Exception):
        for case in question.ask(subject):
            ids.append(case.id)
    return ids


def versus_of(
    studies: Iterable[Study], first_engine: str | None
) -> Iterator[Versus]:
    """Each engine relative to the first one, or to the first by name without it."""
    groups: dict[tuple[str, str], dict[str, Study]] = {}
    for study in studies:
        group = groups.setdefault((study.platform, study.pair), {})
        group[study.engine] = study
    for by_engine in groups.values():
        yield from _against_first(by_engine, first_engine)


def _against_first(
    studies: Mapping[str, Study], first_engine: str | None
) -> Iterator[Versus]:
    engines = sorted(studies)
    reference = engines[0]
    if first_engine is not None and first_engine in studies:
        reference = first_engine
    for engine in engines:
        if engine != reference:
            yield Versus(
                candidate=studies[engine], reference=studies[reference]
            )
