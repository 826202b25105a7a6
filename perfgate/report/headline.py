"""What must a person know of a run before anything else?

The verdict in one sentence, what needs attention and what to do about it, and what
drifted since the baselines.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from perfgate import formatting as wording
from perfgate.cases import Case
from perfgate.judge import run_status
from perfgate.judge.baseline_store import Recorded, Store
from perfgate.judge.observation import RunReader
from perfgate.judge.verdict import ALWAYS_RED, GREEN, Outcome, unjudged
from perfgate.report import terminal as report
from perfgate.results.schema import RunResults, VerdictRow

SIGNS = {
    Outcome.PASSED: "✓",
    Outcome.IMPROVED: "▲",
    Outcome.REGRESSED: "✗",
    Outcome.INVALID: "!",
    Outcome.INCONCLUSIVE: "?",
    Outcome.NO_BASELINE: "–",
    Outcome.INCOMPARABLE: "≠",
}
# How a run ended, and the sign that says so without colour.
STATES = {"Red": "✗", "Green": "✓", "Undecided": "?"}


def state(results: RunResults) -> str:
    """How the run stands: "Red" as its gate has it, "Green" if every case was judged and passed, else "Undecided"."""
    if run_status.fails(results, results.gate == "required"):
        return "Red"
    hard = [Outcome(row.outcome) for row in results.verdicts if row.gate == "hard"]
    whole = not unjudged(results.cases, results.verdicts)
    return (
        "Green"
        if hard and whole and all(outcome in GREEN for outcome in hard)
        else "Undecided"
    )


def verdict_sentence(results: RunResults) -> str:
    """The run's verdict in one sentence."""
    if not results.verdicts:
        return "No verdict: nothing was measured"
    hard = [row for row in results.verdicts if row.gate == "hard"]
    counts = Counter(row.outcome for row in hard)
    other = [f"{n} {name}" for name, n in sorted(counts.items()) if name not in GREEN]
    missing = run_status.missing(results)
    other += [f"{missing} without a verdict"] * bool(missing)
    other += [
        f"{wording.count(len(results.failures), 'server')} could not be had"
    ] * bool(results.failures)
    good = sum(counts[name] for name in GREEN)
    said = f"{good} of {len(hard)} judged cases passed"
    if not hard:
        said = f"nothing was judged; {wording.count(len(results.verdicts), 'value')} only reported"
    return f"{state(results)}: {said}" + (f"; {', '.join(other)}" if other else "")


@dataclass(frozen=True)
class Item:
    """Something that needs a person: one case, or several of which the same was seen.

    Attributes:
        level: "fail" for what is red at a desk too, "pass" for what improved, else
            "open".
        seen: in one line. do: what to do next. messages: all that was said of each
            case.
    """

    title: str
    level: str
    seen: str
    do: str
    messages: tuple[str, ...]


def attention(results: RunResults) -> list[Item]:
    """What needs a person, failures first; cases of which the same was seen, to be done the same about, are one."""
    cases = {case.id: case for case in results.cases}
    alike: dict[tuple[str, ...], list[VerdictRow]] = {}
    for row in run_status.judged(results):
        if row.outcome != Outcome.PASSED and row.case in cases:
            alone = (row.case,) * (
                row.outcome in (Outcome.REGRESSED, Outcome.INCONCLUSIVE)
            )
            alike.setdefault(
                (row.outcome, _line(row, "seen:"), _line(row, "do:"), *alone), []
            ).append(row)
    return [_item(rows, cases) for rows in alike.values()]


def _item(rows: Sequence[VerdictRow], cases: dict[str, Case]) -> Item:
    row = rows[0]
    outcome, seen = Outcome(row.outcome), _line(row, "seen:")
    names = [f"{report.what(cases[each.case])}, {each.metric}" for each in rows]
    if len(rows) > 1:
        what, seen = f"{len(rows)} cases", f"{seen}. {wording.listed(names)}"
    else:
        what = names[0]
        if outcome not in (
            Outcome.NO_BASELINE,
            Outcome.INCOMPARABLE,
        ):  # what these stand beside is not their baseline
            seen = _beside(row, cases[row.case]) or seen
    return Item(
        title=f"{SIGNS[outcome]} {row.outcome}: {what}",
        level=level(outcome),
        seen=seen,
        do=_line(row, "do:"),
        messages=tuple(each.message for each in rows),
    )


def level(outcome: Outcome) -> str:
    """How loudly an outcome is shown."""
    if outcome in GREEN:
        return "pass"
    return "fail" if outcome in ALWAYS_RED else "open"


def _beside(row: VerdictRow, case: Case) -> str:
    """The value beside its baseline, in words, and which side of a ratio moved; empty where there is no baseline."""
    if row.baseline is None or row.value is None:
        return ""
    ratio = case.over is not None
    value, before = (
        report.figure(number, row.metric, ratio) for number in (row.value, row.baseline)
    )
    which = [
        line.strip()
        for line in row.message.splitlines()
        if line.strip().startswith("so ")
    ]
    return "; ".join(
        [f"{value} beside {before}: {report.in_words(row, ratio)}", *which]
    )


def _line(row: VerdictRow, name: str) -> str:
    lines = (line.strip() for line in row.message.splitlines())
    return next(
        (line.removeprefix(name).strip() for line in lines if line.startswith(name)), ""
    )


@dataclass(frozen=True)
class Drift:
    """What of the context moved since the baselines were recorded.

    Attributes:
        rows: (field, now, in the baseline, cases).
        compared: cases of the run that have a recorded baseline; 0 where none was
            looked at.
    """

    rows: tuple[tuple[str, str, str, int], ...] = ()
    compared: int = 0

    @property
    def sentence(self) -> str:
        """In one line."""
        if not self.compared:
            return "No case has a recorded baseline that could have drifted."
        names = list(dict.fromkeys(name for name, *_ in self.rows))
        if not names:
            return "Nothing drifted since the baselines were recorded."
        return f"Drifted since the baselines were recorded: {wording.listed(names)}."


def drift(results: RunResults, store: Store | None) -> Drift:
    """Compares the context of each case with that of its recorded baseline, if there is one."""
    if store is None or results.against:
        return Drift()  # beside a base build no baseline was looked at
    counts: Counter[tuple[str, str, str]] = Counter()
    reader, compared = RunReader(results), 0
    for case in results.cases:
        seen = reader.observe(case)
        baseline = store.find(case, seen.hardware_label)
        if not isinstance(baseline, Recorded):
            continue
        compared += 1
        now, then = seen.context, baseline.context
        counts.update(
            {
                (
                    name.removeprefix("numerator.").removeprefix("denominator."),
                    now.get(name, "-"),
                    then.get(name, "-"),
                )
                for name in wording.differing(now, then)
            }
        )
    return Drift(
        tuple((*what, cases) for what, cases in sorted(counts.items())), compared
    )
