"""Group verdict: the decision about several rows of a run, such as a load or a server.

`perfgate.judge.groups` makes them. A check that is satisfied makes none.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from perfgate.cases import GateMode
from perfgate.results.verdict import Outcome

Scope = Literal["load", "server", "run"]


class GroupVerdict(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """Several rows judged together.

    Attributes:
        scope: what it speaks of.
        subject: "vllm-llama-3.1-8b-tp2, closed-c32", a server's key, or "" for the run.
        check: name of the check, "stalls".
        outcome: REGRESSED or INVALID.
        gate: a "hard" one fails the run, a "report" one never does.
        value: what was counted or measured, and `baseline` what is usual.
        worse_by: the loss, as a fraction.
        threshold: the limit that decided, in the unit of `worse_by` or `value`.
        false_alarm_rate: chance that unchanged code gives it in one run; None where it
            is unknown.
        cases: ids of the cases that it speaks of.
        summary: what was decided, with the number that decided.
        details: further facts, one sentence each.
        advice: what to do next.

    """

    scope: Scope
    subject: str = ""
    check: str
    outcome: Outcome
    gate: GateMode
    value: float | None = None
    baseline: float | None = None
    worse_by: float | None = None
    threshold: float | None = None
    false_alarm_rate: float | None = None
    cases: tuple[str, ...] = ()
    summary: str
    details: tuple[str, ...] = ()
    advice: str = ""

    def with_cases(self, cases: tuple[str, ...]) -> GroupVerdict:
        """The verdict with the ids of the cases that it speaks of."""
        return msgspec.structs.replace(self, cases=cases)
