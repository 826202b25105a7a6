"""What came out, for a person at a terminal?

Text is computed here and printed elsewhere.
"""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Literal

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from perfgate import formatting as wording
from perfgate.cases import Case
from perfgate.judge import comparability as fairness
from perfgate.judge.run_status import judged, ordered
from perfgate.judge.verdict import ALWAYS_RED, GREEN, Outcome, is_red
from perfgate.load.metrics import METRICS
from perfgate.results.schema import RESULTS_FILE, RunResults, VerdictRow

_STYLES = {
    Outcome.PASSED: "green",
    Outcome.IMPROVED: "green",
    Outcome.REGRESSED: "bold red",
    Outcome.INVALID: "red",
    Outcome.INCONCLUSIVE: "yellow",
    Outcome.NO_BASELINE: "yellow",
    Outcome.INCOMPARABLE: "yellow",
}


# A log has no width: there a row takes one line. A terminal folds its cells, as long as
# their words stay whole.
LOG_WIDTH, NARROWEST = 170, 100
# Rows that passed are shown up to so many in all; beyond, a person would scroll past
# what matters.
ROOM = 24


def what(case: Case) -> str:
    """What is measured: "vllm llama-small-tp2 / mixtral-small-tp2, closed-c16"."""
    servers = [load.server for load in case.loads]
    engines = list(dict.fromkeys(server.engine for server in servers))
    if len(engines) == 1:
        names = [server.key.removeprefix(f"{server.engine}-") for server in servers]
    else:
        names = [server.key for server in servers]
    of = " / ".join(dict.fromkeys(names))
    under = " / ".join(dict.fromkeys(load.workload_name for load in case.loads))
    return f"{engines[0] + ' ' if len(engines) == 1 else ''}{of}, {under}"


def figure(value: float | None, metric: str, is_ratio: bool) -> str:
    """A value with its unit; a ratio with a times sign; a dash where there is none."""
    if value is None:
        return "-"
    if is_ratio:
        return f"{value:.3g}x"
    unit = METRICS[metric].unit
    if unit == "bytes":
        return f"{value / 1e9:.4g} GB"
    digits = f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"
    return f"{digits} {unit}".strip()


_WORDS = {
    # unit: (more of it, less of it)
    "ms": ("slower", "faster"),
    "s": ("slower", "faster"),
    "tok/s": ("faster", "slower"),
    "req/s": ("faster", "slower"),
    "bytes": ("larger", "smaller"),
    "tokens": ("more", "fewer"),
}


def moved(change_by: float, metric: str, is_ratio: bool) -> str:
    """A change in words of merit where they are plain: "slower by 6.2 %"; a ratio is only higher or lower."""
    size = wording.percent(change_by)
    if abs(change_by) < 5e-5:  # 0.00 % in print
        return "unchanged"
    more, less = (
        ("higher", "lower")
        if is_ratio
        else _WORDS.get(METRICS[metric].unit, ("higher", "lower"))
    )
    return f"{more if change_by > 0 else less} by {size}"


def in_words(row: VerdictRow, is_ratio: bool) -> str:
    """How far the value is from its baseline, and beside the noise: "slower by 6.2 %, 3.1x the noise"."""
    if row.change is None:
        return "-"
    text = moved(row.change, row.metric, is_ratio)
    if not row.noise or text == "unchanged":
        return text
    return f"{text}, {abs(math.log1p(row.change)) / row.noise:.1f}x the noise"


def verdict_word(row: VerdictRow) -> str:
    """The outcome; a reported case says so, since it never turns a run red."""
    return f"{row.outcome} (reported)" if row.gate == "report" else row.outcome


def shown(results: RunResults, everything: bool) -> tuple[list[VerdictRow], str]:
    """The rows that a terminal is worth, and a sentence about those left out.

    What needs attention always; what passed as long as there is room for it; what is
    only reported when asked for.
    """
    rows = ordered(results)
    if everything:
        return rows, ""
    hard = judged(results)
    loud = [row for row in hard if row.outcome != Outcome.PASSED]
    kept = hard if len(hard) <= ROOM else loud
    passed, reported = len(hard) - len(kept), len(rows) - len(hard)
    words = [f"{passed} passed"] * bool(passed) + [f"{reported} reported"] * bool(
        reported
    )
    return (
        kept,
        f"not shown: {', '.join(words)} (all with -v, or in the report)"
        if words
        else "",
    )


def table(
    results: RunResults, width: int, terminal: bool, everything: bool = True
) -> str:
    """One row for each verdict, those that need attention first; empty where there is nothing to show.

    Args:
        width: of the terminal, in columns.
        terminal: whether a terminal shows it, with its width and in colors, or it goes
            to a log.
        everything: False leaves out what nobody must look at.

    """
    rows, rest = shown(results, everything)
    if not rows:
        return rest
    cases = {case.id: case for case in results.cases}
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, expand=False)
    for name in (
        "test",
        "of",
        "metric",
        "value",
        "base" if results.against else "baseline",
        "change",
        "verdict",
    ):
        justify: Literal["left", "right"] = (
            "right" if name in ("value", "base", "baseline") else "left"
        )
        grid.add_column(name, justify=justify, overflow="fold")
    for row in rows:
        case = cases[row.case]
        ratio = case.over is not None
        grid.add_row(
            row.experiment,
            what(case),
            row.metric,
            figure(row.value, row.metric, ratio),
            figure(row.baseline, row.metric, ratio),
            in_words(row, ratio),
            Text(
                verdict_word(row),
                style="dim" if row.gate == "report" else _STYLES[Outcome(row.outcome)],
            ),
        )
    out = io.StringIO()
    width = max(width, NARROWEST if terminal else LOG_WIDTH)
    Console(
        file=out,
        width=width,
        force_terminal=terminal,
        no_color=not terminal,
        highlight=False,
    ).print(grid)
    return "\n".join([out.getvalue().rstrip("\n"), *([rest] if rest else [])])


def attention(results: RunResults) -> list[str]:
    """The message of each judged case that did not simply pass; those of which nothing is recorded are one."""
    alike: dict[str, list[str]] = {}
    for row in judged(results):
        if row.outcome != Outcome.PASSED:
            same = (
                row.message.partition("\n")[2]
                if row.outcome == Outcome.NO_BASELINE
                else row.case
            )
            alike.setdefault(same, []).append(row.message)
    return [
        told[0]
        if len(told) == 1
        else f"{len(told)} cases, {Outcome.NO_BASELINE}\n{rest}"
        for rest, told in alike.items()
    ]


def in_common(results: RunResults) -> str:
    """Which server all failures share, while those without it are fine; empty where they share none or stand alone.

    A ratio counts for the side that its message names as the one that moved.
    """
    cases = {case.id: case for case in results.cases}
    rows = [row for row in judged(results) if row.case in cases]
    bad = [row for row in rows if row.outcome in ALWAYS_RED]
    if len(bad) < 2:
        return ""
    shared = set.intersection(*(_moved_servers(row, cases[row.case]) for row in bad))
    every = {load.server.key for row in rows for load in cases[row.case].loads}
    if len(shared) != 1 or len(every) == 1:
        return ""
    (key,) = shared
    others = sum(
        all(load.server.key != key for load in cases[row.case].loads) for row in rows
    )
    fine = (
        f"; none is of the {wording.count(others, 'judged case')} without it"
        if others
        else ""
    )
    return f"All {len(bad)} failures are of {key}{fine}."


def _moved_servers(row: VerdictRow, case: Case) -> set[str]:
    keys = {load.server.key for load in case.loads}
    return {key for key in keys if f"so it is {key} " in row.message} or keys


def engines_beside(results: RunResults) -> list[str]:
    """What each engine was told and chose, where two were compared, and what makes the comparison unfair."""
    lines = (
        line
        for case in results.cases
        if _has_row(results, case)
        for line in fairness.beside(results, case)
    )
    return list(dict.fromkeys(lines))


def _has_row(results: RunResults, case: Case) -> bool:
    return any(row.case == case.id for row in results.verdicts)


def improvements(results: RunResults) -> list[str]:
    """Of these, those that pytest does not show by itself as failed or skipped."""
    return [row.message for row in judged(results) if row.outcome == Outcome.IMPROVED]


def headline(results: RunResults, required: bool, missing: int) -> str:
    """One sentence: how many cases were judged, how many of them are red or undecided, how many have no verdict."""
    hard = [Outcome(row.outcome) for row in results.verdicts if row.gate == "hard"]
    red = sum(is_red(outcome, "hard", required) for outcome in hard)
    undecided = sum(outcome not in GREEN for outcome in hard) - red
    words = [f"{len(hard)} judged, {red} red"]
    words += [f"{undecided} undecided"] * bool(undecided)
    words += [f"{len(results.verdicts) - len(hard)} reported"]
    words += [f"{missing} without a verdict"] * bool(missing)
    return ", ".join(words)


def where(run_dir: Path) -> str:
    """Where the run's data lie."""
    return f"{run_dir / RESULTS_FILE} (servers' logs beside it in logs/)"
