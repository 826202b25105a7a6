"""Verdict text: the one renderer that turns the fields of a verdict into lines.

A summary or a detail may quote what a server said, also that of an older run.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Sequence

from perfgate import formatting
from perfgate.cases import is_ratio, title
from perfgate.foreign_text import continued
from perfgate.judge import wording
from perfgate.judge.noise import fraction_of, log_loss
from perfgate.judge.verdict import Outcome, Verdict
from perfgate.judge.wording import RUN
from perfgate.load.metrics import METRICS
from perfgate.results.group_verdict import GroupVerdict

# A threshold of more says that the noise hides any loss.
LARGEST_FALL = 0.9999
_MOVED = {
    "numerator": "the numerator moved",
    "denominator": "the denominator moved",
    "both": "both sides moved",
}


def heading(verdict: Verdict) -> str:
    """What was judged: "vllm llama-3.1-8b-tp1, batch-32, itl_median_ms"."""
    return f"{title(verdict.case)}, {verdict.metric}"


def value(verdict: Verdict) -> str:
    """The value with its unit; a dash where there is none."""
    return formatting.number(verdict.value, verdict.unit)


def baseline(verdict: Verdict) -> str:
    """The value that it was compared with, with its unit; a dash where there is none."""
    return formatting.number(verdict.baseline, verdict.unit)


def change(verdict: Verdict) -> str:
    """The change in words: "-3.5 % (slower)"; of NOT_EXCLUDED also "may be -7.9 %"."""
    if verdict.change is None:
        return "-"
    extra = formatting.extra_digits(verdict.change, limits(verdict))
    text = formatting.change_in_words(verdict.change, verdict.unit, extra)
    if verdict.outcome is Outcome.NOT_EXCLUDED and verdict.excluded:
        possible = _signed_loss(verdict, verdict.excluded)
        extra = formatting.extra_digits(possible, limits(verdict))
        text += f", may be {formatting.signed_percent(possible, extra)}"
    return text


def short_change(verdict: Verdict) -> str:
    """The change alone: "-3.5 %"."""
    if verdict.change is None:
        return "-"
    extra = formatting.extra_digits(verdict.change, limits(verdict))
    text = formatting.change_in_words(verdict.change, verdict.unit, extra)
    number, _, _ = text.partition(" (")
    return number


def allowed(verdict: Verdict) -> str:
    """The change that decides: "+1.3 %", of a ratio "-4.8 % / +5.0 %".

    A loss beyond it never passed: the smaller of threshold and ceiling.
    """
    changes = limits(verdict)
    if not changes:
        return "-"
    if verdict.change is None:
        return formatting.percent(verdict.threshold or 0.0)
    extra = formatting.extra_digits(verdict.change, changes)
    if verdict.outcome is Outcome.NOT_EXCLUDED and verdict.excluded:
        possible = _signed_loss(verdict, verdict.excluded)
        extra = max(extra, formatting.extra_digits(possible, changes))
    return wording.threshold(changes, extra)


def limits(verdict: Verdict) -> tuple[float, ...]:
    """The changes, as fractions, that decide; none where nothing was compared."""
    loss = verdict.limit
    if loss is None:
        return ()
    # Pairs see the sides of a ratio by themselves, so that it has a direction.
    either_way = is_ratio(verdict.case) and verdict.reference != "paired"
    higher = _is_higher_better(verdict)
    return wording.limits(as_log(loss, higher), higher, either_way)


def as_log(loss: float, higher_is_better: bool) -> float:
    """The logarithm of a loss that is given as a fraction; of LARGEST_FALL at most."""
    if higher_is_better:
        loss = min(loss, LARGEST_FALL)
    return log_loss(loss, higher_is_better)


def _signed_loss(verdict: Verdict, loss: float) -> float:
    """A loss as a change of the value, in the direction of this one's loss."""
    higher = _is_higher_better(verdict)
    falls = higher
    if is_ratio(verdict.case) and verdict.change is not None:
        falls = verdict.change < 0
    size = as_log(loss, higher)
    if falls:
        return -fraction_of(size, higher_is_better=True)
    return fraction_of(size, higher_is_better=False)


def _is_higher_better(verdict: Verdict) -> bool:
    """By the metric; one that is not registered shows it by the sign of its loss."""
    if verdict.metric in METRICS:
        return METRICS[verdict.metric].better == "higher"
    if not verdict.change or not verdict.worse_by:
        return False
    return (verdict.change > 0) != (verdict.worse_by > 0)


def outcome(verdict: Verdict) -> str:
    """The outcome, marked where pairs decided it, or where it never fails a run."""
    if verdict.gate == "report":
        return f"{verdict.outcome} (report-only)"
    if verdict.screen is not None:
        return f"{verdict.outcome} (pairs)"
    return verdict.outcome.value


def summary(verdict: Verdict) -> str:
    """The summary and, where something explains the change, its cause."""
    text = continued(verdict.summary)
    if not verdict.cause:
        return text
    return f"{text}, cause: {continued(verdict.cause)}"


def finding(verdict: Verdict) -> str:
    """Value and summary: "24.74 ms, +413.1 % vs the baseline 4.821 ms, threshold +2.3 %"."""
    if verdict.value is None:
        return summary(verdict)
    return f"{value(verdict)}, {summary(verdict)}"


def finding_with_side(verdict: Verdict) -> str:
    """The finding and, for a ratio, which side moved."""
    if verdict.moved is None:
        return finding(verdict)
    return f"{finding(verdict)}; {_MOVED[verdict.moved]}"


def advice(verdict: Verdict | GroupVerdict, run: str = "RUN") -> str:
    """What to do next.

    Args:
        run: the run directory, for commands that can be copied.
    """
    return continued(verdict.advice).replace(RUN, shlex.quote(run))


def render(verdict: Verdict, run: str = "RUN") -> str:
    """The whole verdict: a line with the decision, a line for each fact, the advice.

    Args:
        run: the run directory, for commands that can be copied.
    """
    lines = [f"{outcome(verdict)}: {heading(verdict)}: {finding(verdict)}"]
    lines += [f"  {continued(detail)}" for detail in verdict.details]
    if verdict.report_only_reason:
        lines.append(f"  Report-only: {verdict.report_only_reason}.")
    if verdict.injected:
        lines.append(
            f"  Injected: {verdict.injected}. `accept` refuses such a run."
        )
    return "\n".join([*lines, *_advice_line(verdict, run)])


def render_alike(verdict: Verdict, cases: int, run: str = "RUN") -> str:
    """One text for several cases that have the same verdict, without their values."""
    count = formatting.count(cases, "case")
    line = f"{verdict.outcome}: {count}: {summary(verdict)}"
    return "\n".join([line, *_advice_line(verdict, run)])


def ceilings(rows: Iterable[Verdict]) -> str:
    """What rows cannot exclude: "a loss of 5.0 %", "a loss of 5.0 to 10.0 %"."""
    limits = set()
    for row in rows:
        if row.outcome is Outcome.NOT_EXCLUDED and row.fail_over is not None:
            limits.add(row.fail_over)
    if not limits:
        return "a loss"
    low = formatting.percent(min(limits))
    high = formatting.percent(max(limits))
    if low == high:
        return f"a loss of {low}"
    return f"a loss of {low.removesuffix(' %')} to {high}"


def most_common_advice(rows: Sequence[Verdict], run: str = "RUN") -> str:
    """The advice that most rows have; the first one of several equally common."""
    ((text, _),) = Counter(advice(row, run) for row in rows).most_common(1)
    return text


def render_brief(verdict: Verdict, run: str = "RUN") -> str:
    """The decision, for a ratio which side moved, and the advice.

    Args:
        run: the run directory, for commands that can be copied.
    """
    text = (
        f"{outcome(verdict)}: {heading(verdict)}: {finding_with_side(verdict)}"
    )
    return "\n".join([text, *_advice_line(verdict, run)])


def render_not_excluded(
    rows: Sequence[Verdict], run: str = "RUN", everything: bool = True
) -> str:
    """What may have been lost, a line each, and the commonest advice once.

    Args:
        run: the run directory, for commands that can be copied.
        everything: False says how many there are, not which.
    """
    count = formatting.count(len(rows), "case")
    lines = [f"{rows[0].outcome}: {count} cannot exclude {ceilings(rows)}"]
    listed = rows if everything else ()
    for row in listed:
        line = f"{heading(row)}: {value(row)}, {change(row)}"
        lines.append(f"  {line}, allowed {allowed(row)}")
    text = most_common_advice(rows, run)
    if text:
        lines.append(f"  do:   {text}")
    return "\n".join(lines)


def skip_reason(verdict: Verdict, run: str = "RUN") -> str:
    """Why a test is skipped.

    The same text for all cases without a baseline, since pytest counts equal reasons.
    In one line where a loss is not excluded: what to do is said once for all of them.
    """
    if verdict.outcome is Outcome.NO_BASELINE and verdict.baseline is None:
        line = f"{verdict.outcome}: {summary(verdict)}"
        return "\n".join([line, *_advice_line(verdict, run)])
    if verdict.outcome is Outcome.NOT_EXCLUDED:
        return f"{verdict.outcome}: {heading(verdict)}: {finding(verdict)}"
    return render(verdict, run)


def group_heading(row: GroupVerdict) -> str:
    """The check and what it speaks of: "stalls, vllm-llama-small-tp2, closed-c8"."""
    if not row.subject:
        return row.check
    return f"{row.check}, {row.subject}"


def render_group(
    row: GroupVerdict, run: str = "RUN", everything: bool = True
) -> str:
    """A verdict over several rows: the decision, a line for each fact, the advice.

    Args:
        run: the run directory, for commands that can be copied.
        everything: False leaves facts and advice out, but of stalls, whose times it
            needs.
    """
    kind = row.outcome.value
    if row.gate == "report":
        kind += " (report-only)"
    lines = [f"{kind}: {group_heading(row)}: {continued(row.summary)}"]
    if not everything and row.scope != "load":
        return lines[0]
    lines += [f"  {continued(detail)}" for detail in row.details]
    return "\n".join([*lines, *_advice_line(row, run)])


def _advice_line(verdict: Verdict | GroupVerdict, run: str) -> list[str]:
    if not verdict.advice:
        return []
    return [f"  do:   {advice(verdict, run)}"]
