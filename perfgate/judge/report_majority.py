"""Report-only majority: most rows that fail nothing alone are worse than their threshold."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

from perfgate import formatting
from perfgate.cases import GateMode
from perfgate.judge import wording
from perfgate.judge.baseline_store import Store
from perfgate.judge.observation import RunReader
from perfgate.judge.stalls import platform_of
from perfgate.results.group_verdict import GroupVerdict
from perfgate.results.verdict import Outcome, Verdict

CHECK = "report-only majority"
# Judged against all baselines, 1 of 22 is the most that a run of docs/runs has.
FEWEST_ROWS = 8
MAJORITY = 0.5
# On a CPU a busy machine slows most rows at once: only a large median loss is hard.
HARD_LOSS_CPU = 0.5


def check(
    reader: RunReader, verdicts: Sequence[Verdict], store: Store
) -> Iterator[GroupVerdict]:
    """One verdict on the run where more than half of its report-only rows regressed."""
    compared = []
    for row in verdicts:
        if row.gate == "report" and row.worse_by is not None and row.threshold:
            compared.append(row)
    regressed = [row for row in compared if row.outcome is Outcome.REGRESSED]
    if len(compared) < FEWEST_ROWS:
        return
    share = len(regressed) / len(compared)
    if share <= MAJORITY:
        return
    loss = statistics.median(row.worse_by or 0.0 for row in regressed)
    gate: GateMode = "hard"
    if platform_of(reader) == "cpu" and loss < HARD_LOSS_CPU:
        gate = "report"
    yield GroupVerdict(
        scope="run",
        check=CHECK,
        outcome=Outcome.REGRESSED,
        gate=gate,
        value=share,
        worse_by=loss,
        threshold=MAJORITY,
        cases=tuple(row.case for row in regressed),
        summary=wording.REPORT_MAJORITY.format(
            regressed=len(regressed),
            compared=len(compared),
            loss=formatting.percent(loss),
        ),
        advice=wording.REPORT_MAJORITY_ADVICE,
    )
