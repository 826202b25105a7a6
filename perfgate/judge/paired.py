"""Is the candidate worse than the base build beside it?

For those who change an engine: the base build and the candidate are launched in turn in
one session (ABBAAB) and judged in pairs. What the machine does that day falls on both
and cancels, so no stored baseline is needed, and less noise is left than in any
comparison with one. The line is drawn for what is promised, not for how noisy this
machine is: a loss beyond it counts only where the scatter of the pairs leaves little
doubt that there is one at all, and a case has passed only where it leaves as little
that the promised loss is not there. Three pairs know their own scatter badly: where
they happen to agree, what is taken for granted of the metric counts as one more pair,
and a loss that they leave in doubt is worth three more, once; then all six decide.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from perfgate import formatting as wording
from perfgate.cases import Case
from perfgate.judge import ratio
from perfgate.judge.observation import NOT_MEASURED, RunReader
from perfgate.judge.policy import (
    LINE_SHARE,
    fraction_of,
    log_loss,
    policy_for,
    t_quantile,
)
from perfgate.judge.verdict import DEMOTED, Outcome, Verdict
from perfgate.load.metrics import METRICS

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]

PAIRS = 3
# One-sided: so many unchanged cases at most are called slower, however noisy the
# machine is.
DOUBT = 0.05
GRANTED_PAIRS = 1  # weight of the assumed scatter beside that of the pairs
UNTOLD = (
    "its pairs do not exclude the loss to be caught: launch more of them "
    "(--launches), or ask for a larger loss"
)


def judge_beside(reader: RunReader, case: Case) -> Verdict:
    """Judge a case of a run in which base and candidate were launched in turn; launches count in their order."""
    new, base = reader.observe(case), reader.observe(case.base)
    policy = policy_for(new.hardware_label, case.metric, ratio=True)
    case = (
        case if policy.gate == "hard" else msgspec.structs.replace(case, gate="report")
    )
    apart = wording.differences(new.identity, base.identity) + wording.differences(
        new.context, base.context
    )
    more = [f"the builds differ: {wording.listed(apart)}"] if apart else []
    lost = [
        f"{name}: {reason}"
        for name, seen in (("base", base), ("candidate", new))
        for reason in seen.invalid
    ]
    lost += [
        seen.unmeasured[0] for seen in (base, new) if seen.unmeasured != NOT_MEASURED
    ]
    more += [wording.listed(lost)] if lost else []
    pairs = list(zip(base.values, new.values, strict=False))
    return judge_pairs(
        case, pairs, new.hardware_label, reader.results.against_delta, more
    )


def judge_pairs(
    case: Case,
    pairs: Sequence[tuple[float, float]],
    hardware_label: str,
    delta: float | None = None,
    more: Sequence[str] = (),
) -> Verdict:
    """Judge a candidate by (base, candidate) values of neighbouring launches.

    Args:
        case: the metric and the load; both builds run the same.
        pairs: at least three, each value positive.
        hardware_label: "h200x2", "cpu-...": which row of the policy applies.
        delta: the loss to be caught; None: the policy's.
        more: lines of the message beside those of the decision.

    """
    metric = METRICS[case.metric]
    policy = policy_for(hardware_label, case.metric, ratio=True)
    promised = policy.paired if delta is None else delta
    higher = metric.better == "higher"
    line = LINE_SHARE * log_loss(promised, higher)
    if len(pairs) < PAIRS or any(
        not (math.isfinite(v) and v > 0) for pair in pairs for v in pair
    ):
        return _verdict(case, pairs, Outcome.INVALID, (0.0, 0.0, line, promised), more)
    losses = [math.log(base / new) * (1 if higher else -1) for base, new in pairs]
    loss = statistics.fmean(losses)
    error = float(
        interval(statistics.stdev(losses), len(pairs), policy.assumed_cv, line)
    )
    floor = (
        math.log1p(policy.floor / _mean(pairs, 0)) if case.over is None else 0.0
    )  # of latencies alone
    asked = log_loss(promised, higher)
    outcome = Outcome.PASSED
    beyond = loss > max(line, floor)
    if beyond:
        outcome = Outcome.REGRESSED if loss > error else Outcome.INCONCLUSIVE
    elif loss < -max(line, error):
        outcome = Outcome.IMPROVED
    demoted = ""
    if (
        outcome is Outcome.PASSED
        and case.gate == "hard"
        and loss + error > max(asked, floor)
    ):
        demoted, case = UNTOLD, msgspec.structs.replace(case, gate="report")
        more = [*more, f"{DEMOTED} {demoted}"]
    elif outcome is Outcome.PASSED and line < loss <= floor:
        more = [
            *more,
            (
                f"a loss of less than {wording.number(policy.floor, metric.unit)} "
                "never is a regression"
            ),
        ]
    elif outcome is Outcome.PASSED and loss > error:
        least = wording.percent(fraction_of(loss - error, higher))
        more = [
            *more,
            (
                f"it lost {least} at least, which is less than was to be caught: "
                "--against-delta asks for less"
            ),
        ]
    verdict = _verdict(case, pairs, outcome, (loss, error, line, promised), more)
    in_doubt = beyond and error > line
    needs = PAIRS if in_doubt and case.gate == "hard" and len(pairs) == PAIRS else 0
    return msgspec.structs.replace(verdict, demoted=demoted, needs_launches=needs)


def interval(
    scatter: float | Array, pairs: int, assumed_cv: float, line: float
) -> Array:
    """Half of the interval of the loss: by so much the mean of so many pairs may be wrong; shaped like `scatter`.

    Args:
        scatter: standard deviation of the losses within pairs (logarithms).
        assumed_cv: of single launches of the metric. It counts as one more pair, but
            never so much that three pairs which agree could not tell the line.
        line: the alarm line.

    """
    import numpy as np  # here: collecting tests must not wait for it

    own, freedom, three = (
        pairs - 1,
        pairs - 1 + GRANTED_PAIRS,
        PAIRS - 1 + GRANTED_PAIRS,
    )
    most = (
        line / t_quantile(three, 1 - DOUBT) * math.sqrt(PAIRS * three / GRANTED_PAIRS)
    )
    granted = min(math.sqrt(2) * assumed_cv, most)
    both = np.sqrt((own * np.square(scatter) + GRANTED_PAIRS * granted**2) / freedom)
    wide = np.maximum(
        t_quantile(own, 1 - DOUBT) * np.asarray(scatter),
        t_quantile(freedom, 1 - DOUBT) * both,
    )
    return np.asarray(wide / math.sqrt(pairs))


def _mean(pairs: Sequence[tuple[float, float]], side: int) -> float:
    return statistics.geometric_mean(pair[side] for pair in pairs)


def _verdict(
    case: Case,
    pairs: Sequence[tuple[float, float]],
    outcome: Outcome,
    sums: tuple[float, float, float, float],
    more: Sequence[str],
) -> Verdict:
    loss, error, line, promised = sums
    metric = METRICS[case.metric]
    unit, higher = (
        "" if case.over is not None else metric.unit,
        metric.better == "higher",
    )
    tried = (
        f"{ratio.name(case)}: candidate against base, "
        f"{wording.count(len(pairs), 'pair')} launched in turn"
    )
    if outcome is Outcome.INVALID:
        got = ", ".join(f"({base:.4g}, {new:.4g})" for base, new in pairs) or "none"
        seen = f"needs {PAIRS} pairs of positive values, got {got}"
        message = wording.told(
            tried,
            seen,
            "remove the cause, then measure the missing launches again",
            more,
        )
        return Verdict(
            case=case.id,
            metric=case.metric,
            outcome=outcome,
            gate=case.gate,
            message=message,
        )
    base, new = _mean(pairs, 0), _mean(pairs, 1)
    seen = (
        f"{wording.number(new, unit)}, base {wording.number(base, unit)}: "
        f"{wording.moved(new / base - 1)} "
        f"({100 * (1 - 2 * DOUBT):.0f} % interval of the loss: "
        f"{100 * fraction_of(loss - error, higher):+.1f} to "
        f"{100 * fraction_of(loss + error, higher):+.1f} %), "
        f"alarm line {wording.percent(fraction_of(line, higher))}, to be caught: "
        f"{wording.percent(promised)}"
    )
    return Verdict(
        case=case.id,
        metric=case.metric,
        outcome=outcome,
        gate=case.gate,
        message=wording.told(tried, seen, ADVICE[outcome], more),
        value=new,
        baseline=base,
        change=new / base - 1,
        worse_by=fraction_of(loss, higher),
        alarm_line=fraction_of(line, higher),
        delta=promised,
        launches=len(pairs),
    )


ADVICE = {
    Outcome.PASSED: "nothing",
    Outcome.IMPROVED: "nothing; record a baseline once it is merged",
    Outcome.REGRESSED: (
        "look at what the candidate changed for this load; the logs of both builds "
        "lie in the run"
    ),
    Outcome.INCONCLUSIVE: (
        "the pairs contradict each other and may have lost nothing: find what else "
        "ran, then measure"
    ),
}
