"""Screen, then pairs: which rows of a run are suspect, and what decides these.

A launch judged by a stored baseline is cheap, so all rows are screened by one. A row
that it does not clear is suspect, and launches in turn with the base build decide it.
Where there are no valid pairs, the verdict of the screen stands.
"""

from __future__ import annotations

import msgspec

from perfgate import formatting
from perfgate.cases import Case
from perfgate.judge import wording
from perfgate.judge.observation import RunReader
from perfgate.judge.paired import PAIRS, judge_candidate, reasons_not_counted
from perfgate.judge.verdict import Decision, Outcome
from perfgate.load.metrics import is_exact
from perfgate.results.schema import RunResults
from perfgate.results.verdict import Screen

SUSPECT = frozenset(
    {
        Outcome.REGRESSED,
        Outcome.INCONCLUSIVE,
        Outcome.NOT_EXCLUDED,
        Outcome.NO_BASELINE,
        Outcome.INCOMPARABLE,
    }
)


def is_suspect(case: Case, screen: Decision) -> bool:
    """Whether the screen leaves a loss possible that launches in pairs can tell.

    Tokens take the same ways on every launch, so routing is never suspect, and what is
    counted is not. Nor is a baseline whose accepted loss is gone: no launch repairs it.
    """
    is_counted = case.numerator.asks_routing or is_exact(case.metric)
    if screen.gate != "hard" or is_counted:
        return False
    if screen.outcome is Outcome.INVALID and screen.baseline is not None:
        return False
    return screen.needs_launches > 0 or screen.outcome in SUSPECT


def can_repeat(results: RunResults, case: Case) -> bool:
    """Whether this suite can launch the case's servers again to measure it."""
    for load in case.loads:
        server = results.servers.get(load.server.key)
        if server is not None and server.attached:
            return False
    return not is_own_number(results, case)


def is_own_number(results: RunResults, case: Case) -> bool:
    """Whether a test measured the case's metric itself; no other launch repeats that."""
    return case.metric in results.metrics and case.numerator.workload is None


def judge_suspect(reader: RunReader, case: Case, screen: Decision) -> Decision:
    """The verdict of a suspect row: that of its pairs, or else that of the screen.

    Args:
        screen: the decision by the stored baseline. Its target effect holds for the
            pairs too, unless the run has one.
    """
    target_effect = reader.results.target_effect
    if target_effect is None and screen.reference == "recorded":
        target_effect = screen.target_effect
    pairs = judge_candidate(reader, case, target_effect)
    if pairs.outcome is Outcome.INVALID and not pairs.implausible:
        return _without_pairs(reader, case, screen)
    if screen.gate != "hard":
        pairs = msgspec.structs.replace(pairs, gate=screen.gate)
    is_new = screen.outcome is Outcome.NO_BASELINE
    if is_new and pairs.outcome is Outcome.PASSED:
        pairs = msgspec.structs.replace(pairs, advice=screen.advice)
    line = wording.SCREENED.format(
        outcome=screen.outcome,
        summary=screen.summary,
        pairs=formatting.count(pairs.launches, "pair"),
    )
    return msgspec.structs.replace(
        pairs, screen=_screen_of(screen), details=(line, *pairs.details)
    )


def advise_pairs(
    results: RunResults, case: Case, decision: Decision
) -> Decision:
    """The decision with the option that lets pairs decide it, if the run lacked that."""
    engines = dict.fromkeys(load.server.engine for load in case.loads)
    missing = [name for name in engines if name not in results.base_builds]
    if not missing or decision.injected:
        return decision
    is_undecided = decision.outcome in SUSPECT and is_suspect(case, decision)
    if not is_undecided or not can_repeat(results, case):
        return decision
    words = [f"--against-engine {engine}=PYTHON" for engine in missing]
    line = wording.PAIRS_ADVICE.format(options=" ".join(words))
    advice = f"{decision.advice} {line}".strip()
    return msgspec.structs.replace(decision, advice=advice)


def _screen_of(decision: Decision) -> Screen:
    return Screen(
        outcome=decision.outcome,
        reference=decision.reference,
        value=decision.value,
        baseline=decision.baseline,
        change=decision.change,
        threshold=decision.threshold,
        launches=decision.launches,
    )


def _without_pairs(reader: RunReader, case: Case, screen: Decision) -> Decision:
    """The screen's decision, and why no pairs decided it."""
    candidate = reader.observe(case.candidate)
    base = reader.observe(case.base)
    reasons = reasons_not_counted(candidate, base)
    text = formatting.listed(reasons)
    if not reasons:
        text = wording.FEW_PAIRS.format(needed=PAIRS)
    line = wording.SCREEN_STANDS.format(reasons=text)
    return msgspec.structs.replace(screen, details=(*screen.details, line))
