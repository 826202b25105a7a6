"""Verdict text: the one renderer that turns the fields of a verdict into lines."""

from __future__ import annotations

import math

from perfgate import formatting
from perfgate.cases import title
from perfgate.judge.verdict import Outcome, Verdict
from perfgate.judge.wording import RUN
from perfgate.results.group_verdict import GroupVerdict

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
    """The change, also in units of noise: "+6.2 % (slower), 3.1x the noise"."""
    if verdict.change is None:
        return "-"
    text = formatting.change_in_words(verdict.change, verdict.unit)
    if not verdict.noise or abs(verdict.change) < formatting.SMALLEST_CHANGE:
        return text
    multiple = abs(math.log1p(verdict.change)) / verdict.noise
    return f"{text}, {multiple:.1f}x the noise"


def outcome(verdict: Verdict) -> str:
    """The outcome, marked where pairs decided it, or where it never fails a run."""
    if verdict.gate == "report":
        return f"{verdict.outcome} (report-only)"
    if verdict.screen is not None:
        return f"{verdict.outcome} (pairs)"
    return verdict.outcome.value


def summary(verdict: Verdict) -> str:
    """The summary and, where something explains the change, its cause."""
    if not verdict.cause:
        return verdict.summary
    return f"{verdict.summary}, cause: {verdict.cause}"


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
    return verdict.advice.replace(RUN, run)


def render(verdict: Verdict, run: str = "RUN") -> str:
    """The whole verdict: a line with the decision, a line for each fact, the advice.

    Args:
        run: the run directory, for commands that can be copied.
    """
    lines = [f"{outcome(verdict)}: {heading(verdict)}: {finding(verdict)}"]
    lines += [f"  {detail}" for detail in verdict.details]
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


def skip_reason(verdict: Verdict, run: str = "RUN") -> str:
    """Why a test is skipped.

    The same text for all cases without a baseline, since pytest counts equal reasons.
    """
    if verdict.outcome is Outcome.NO_BASELINE and verdict.baseline is None:
        line = f"{verdict.outcome}: {summary(verdict)}"
        return "\n".join([line, *_advice_line(verdict, run)])
    return render(verdict, run)


def group_heading(row: GroupVerdict) -> str:
    """The check and what it speaks of: "stalls, vllm-llama-small-tp2, closed-c8"."""
    if not row.subject:
        return row.check
    return f"{row.check}, {row.subject}"


def render_group(row: GroupVerdict, run: str = "RUN") -> str:
    """A verdict over several rows: the decision, a line for each fact, the advice.

    Args:
        run: the run directory, for commands that can be copied.
    """
    kind = row.outcome.value
    if row.gate == "report":
        kind += " (report-only)"
    lines = [f"{kind}: {group_heading(row)}: {row.summary}"]
    lines += [f"  {detail}" for detail in row.details]
    return "\n".join([*lines, *_advice_line(row, run)])


def _advice_line(verdict: Verdict | GroupVerdict, run: str) -> list[str]:
    if not verdict.advice:
        return []
    return [f"  do:   {advice(verdict, run)}"]
