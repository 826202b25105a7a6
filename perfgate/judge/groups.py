"""Groups: checks over several rows of a run, one function for each.

What no single case shows: stalls, slow repetitions, trends, losses of most rows. A check
gives group verdicts only for what it objects to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import msgspec

from perfgate.judge import (
    joint,
    repetition_trend,
    report_majority,
    stalls,
    wording,
)
from perfgate.judge.baseline_store import Store
from perfgate.judge.causes.diagnose import diagnose
from perfgate.judge.observation import RunReader
from perfgate.results.group_verdict import GroupVerdict
from perfgate.results.schema import RunResults
from perfgate.results.verdict import Verdict

Check = Callable[[RunReader, Sequence[Verdict], Store], Iterable[GroupVerdict]]

CHECKS: tuple[Check, ...] = (
    stalls.check,
    repetition_trend.check_slow,
    repetition_trend.check_trend,
    report_majority.check,
    joint.check,
)


def judge_groups(
    results: RunResults, store: Store, verdicts: Sequence[Verdict]
) -> tuple[GroupVerdict, ...]:
    """What the checks object to, in the order of the checks.

    Args:
        verdicts: on the cases of the run.
    """
    reader = RunReader(results)
    rows: list[GroupVerdict] = []
    for check in CHECKS:
        rows += check(reader, verdicts, store)
    named = []
    for row in rows:
        advice = wording.in_store(row.advice, store.in_commands)
        named.append(msgspec.structs.replace(row, advice=advice))
    return tuple(named)


def with_group_verdicts(results: RunResults, store: Store) -> RunResults:
    """The run with its group verdicts and diagnoses, by the verdicts that it has."""
    rows = judge_groups(results, store, results.verdicts)
    reader = RunReader(results)
    causes = diagnose(reader, results.verdicts, rows, store)
    return msgspec.structs.replace(
        results, group_verdicts=rows, diagnoses=causes
    )
