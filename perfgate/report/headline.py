"""Headline: the run in one sentence, what needs attention, changed choices and context."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from perfgate import formatting
from perfgate.foreign_text import one_line
from perfgate.judge import answers, choices, packages, run_status
from perfgate.judge.baseline_store import Recorded, Store
from perfgate.judge.identity import without_side
from perfgate.judge.observation import Observation, RunReader
from perfgate.judge.verdict import ALWAYS_RED, GREEN, Outcome, Verdict
from perfgate.report import diagnosis_text, verdict_text
from perfgate.results.diagnosis import Diagnosis
from perfgate.results.group_verdict import GroupVerdict
from perfgate.results.schema import RunResults

SIGNS = {
    Outcome.PASSED: "✓",
    Outcome.IMPROVED: "▲",
    Outcome.REGRESSED: "✗",
    Outcome.INVALID: "!",
    Outcome.INCONCLUSIVE: "?",
    Outcome.NOT_EXCLUDED: "~",
    Outcome.NO_BASELINE: "–",
    Outcome.INCOMPARABLE: "≠",
}
# After a number of rows.
WORDS = {
    Outcome.REGRESSED: "regressed",
    Outcome.INVALID: "invalid",
    Outcome.INCONCLUSIVE: "inconclusive",
    Outcome.INCOMPARABLE: "cannot be compared",
    Outcome.NO_BASELINE: "without a baseline",
    Outcome.IMPROVED: "improved",
    Outcome.PASSED: "passed",
}
ISO_DAY = len("2026-11-28")
BUILT, ENVIRONMENT = "Built against other versions", "Other environment"
UNSET = "unset"
MOST_CHANGES = 8  # of the environment, in one line
# Of a context, what is neither a version nor a variable and may change a speed.
_ENVIRONMENT = frozenset({"driver", "cuda", "power_limit_w", "python"})
# How a run ended, and the sign that says so without colour.
STATES = {"Red": "✗", "Green": "✓", "Undecided": "?"}
# Cases of these outcomes stand alone: each has a change of its own.
_ALONE = frozenset({Outcome.REGRESSED, Outcome.INCONCLUSIVE})


def verdict_sentence(results: RunResults) -> str:
    """The run's verdict in one sentence."""
    if not results.verdicts:
        return _nothing_in_words(results)
    parts = _outcomes_in_words(run_status.judged_verdicts(results))
    if not parts:
        count = formatting.count(len(results.verdicts), "value")
        parts = [f"nothing was judged, {count} report-only"]
    parts += _report_only_in_words(run_status.regressed_report_only(results))
    parts += _groups_in_words(run_status.red_groups(results))
    missing = run_status.missing(results)
    if missing:
        parts.append(f"{missing} without a verdict")
    failed_servers = results.failed_servers
    if failed_servers:
        servers = formatting.count(len(failed_servers), "server")
        parts.append(f"{servers} failed")
    if results.gate != "advisory":
        parts += _parts_missing_in_words(results)
    return f"{run_status.state(results)}: {'; '.join(parts)}"


def _parts_missing_in_words(results: RunResults) -> list[str]:
    """Why a run fails of which every row may have passed."""
    parts = []
    if results.left_out:
        parts.append("only part of the suite ran")
    if not results.is_whole:
        parts.append("the run was cut off")
    return parts


def _nothing_in_words(results: RunResults) -> str:
    """That there is no verdict, and the commonest reason."""
    text = "No verdict: nothing was measured"
    failures = [row.seen for row in results.failures.values()]
    reasons = failures or [*results.lacking.values(), *results.skipped.values()]
    if reasons:
        ((reason, _),) = Counter(reasons).most_common(1)
        text += f" ({one_line(reason)})"
    return text


def _outcomes_in_words(rows: Sequence[Verdict]) -> list[str]:
    """How many rows came out how, what needs attention first; the first part has the total."""
    numbers = Counter(row.outcome for row in rows)
    counted = []
    for outcome in run_status.ORDER:
        if numbers[outcome] and outcome not in GREEN:
            words = _words(outcome, rows)
            counted.append((numbers[outcome], words))
    passed = sum(numbers[outcome] for outcome in GREEN)
    if passed:
        counted.append((passed, f"passed{_of_those_that_passed(rows)}"))
    parts = [f"{number} {words}" for number, words in counted]
    if counted:
        number, words = counted[0]
        parts[0] = f"{number} of {len(rows)} rows {words}"
    return parts


def _of_those_that_passed(rows: Sequence[Verdict]) -> str:
    """How many of them improved, or have a loss that is accepted; "" where none."""
    improved = sum(row.outcome is Outcome.IMPROVED for row in rows)
    accepted = sum(row.has_accepted_loss for row in rows)
    parts = []
    if improved:
        parts.append(f"{improved} of them improved")
    if accepted:
        parts.append(f"{accepted} of them with an accepted loss")
    if not parts:
        return ""
    return f" ({', '.join(parts)})"


def _words(outcome: Outcome, rows: Sequence[Verdict]) -> str:
    """What happened to rows, as a person says it."""
    if outcome is Outcome.NOT_EXCLUDED:
        return f"cannot exclude {verdict_text.ceilings(rows)}"
    return WORDS[outcome]


def _report_only_in_words(regressed: int) -> list[str]:
    if not regressed:
        return []
    return [f"{regressed} report-only {Outcome.REGRESSED}"]


def _groups_in_words(rows: Sequence[GroupVerdict]) -> list[str]:
    """Check, subject and outcome of one; the checks alone where there are more."""
    if not rows:
        return []
    if len(rows) == 1:
        row = rows[0]
        subject = row.subject or "the run"
        return [f"{row.check} of {subject} {row.outcome}"]
    checks = list(dict.fromkeys(row.check for row in rows))
    return [f"{len(rows)} groups of rows failed ({formatting.listed(checks)})"]


@dataclass(frozen=True)
class Item:
    """Something that needs attention: one case, or several with the same finding.

    Attributes:
        level: "fail" for what always fails a run, "pass" for what improved, else
            "open".
        finding: in one line.
        advice: what to do next.
        messages: the whole text of each case.
    """

    title: str
    level: str
    finding: str
    advice: str
    messages: tuple[str, ...]


def attention(results: RunResults, run: str = "RUN") -> list[Item]:
    """What needs attention, failures first; cases with equal finding and advice are one.

    Cases without a baseline are one, too, whatever was published of them.

    Args:
        run: the run directory, for commands that can be copied.
    """
    cases = {case.id for case in results.cases}
    alike: dict[tuple[str, ...], list[Verdict]] = {}
    for row in run_status.judged_verdicts(results):
        if row.outcome is Outcome.PASSED or row.case not in cases:
            continue
        finding = verdict_text.summary(row)
        key: tuple[str, ...] = (row.outcome, finding, row.advice)
        if row.outcome in _ALONE:
            key = (row.case,)
        elif row.outcome in (Outcome.NOT_EXCLUDED, Outcome.NO_BASELINE):
            key = (row.outcome,)
        alike.setdefault(key, []).append(row)
    items = [_diagnosis_item(results, row, run) for row in results.diagnoses]
    items += [_group_item(row, run) for row in run_status.red_groups(results)]
    items += [_item(rows, run) for rows in alike.values()]
    return items


def _diagnosis_item(results: RunResults, row: Diagnosis, run: str) -> Item:
    head, level_of_item = "Changed, and nothing is red", "pass"
    if row.is_loss:
        head, level_of_item = "Cause", "fail"
    return Item(
        title=f"{head}: {diagnosis_text.title(row)}",
        level=level_of_item,
        finding=diagnosis_text.finding(results, row),
        advice=diagnosis_text.advice(row),
        messages=(diagnosis_text.render(results, row, run),),
    )


def _group_item(row: GroupVerdict, run: str) -> Item:
    return Item(
        title=f"{SIGNS[row.outcome]} {row.outcome}: {verdict_text.group_heading(row)}",
        level=level(row.outcome),
        finding=row.summary,
        advice=verdict_text.advice(row, run),
        messages=(verdict_text.render_group(row, run),),
    )


def _item(rows: Sequence[Verdict], run: str) -> Item:
    row = rows[0]
    if row.outcome is Outcome.NOT_EXCLUDED:
        return _not_excluded_item(rows, run)
    headings = [verdict_text.heading(similar) for similar in rows]
    messages = [verdict_text.render(similar, run) for similar in rows]
    subject = headings[0]
    finding = verdict_text.finding_with_side(row)
    if len(rows) > 1:
        subject = f"{len(rows)} cases"
        summary = _most_common_summary(rows)
        finding = f"{summary}. {formatting.listed(headings)}"
    return Item(
        title=f"{SIGNS[row.outcome]} {row.outcome}: {subject}",
        level=level(row.outcome),
        finding=finding,
        advice=verdict_text.most_common_advice(rows, run),
        messages=tuple(messages),
    )


def _most_common_summary(rows: Sequence[Verdict]) -> str:
    """The summary that most rows have; the first one of several equally common."""
    ((text, _),) = Counter(map(verdict_text.summary, rows)).most_common(1)
    return text


def _not_excluded_item(rows: Sequence[Verdict], run: str) -> Item:
    """What may have been lost, row by row, and what would show it, once."""
    outcome = rows[0].outcome
    losses = []
    for row in rows:
        change = verdict_text.change(row)
        losses.append(f"{verdict_text.heading(row)}: {change}")
    count = formatting.count(len(rows), "row")
    ceilings = verdict_text.ceilings(rows)
    return Item(
        title=f"{SIGNS[outcome]} {outcome}: {count} cannot exclude {ceilings}",
        level=level(outcome),
        finding=formatting.listed(losses),
        advice=verdict_text.most_common_advice(rows, run),
        messages=tuple(verdict_text.render(row, run) for row in rows),
    )


def judged_now(results: RunResults, store: Store, day: str) -> str:
    """When and by what a run is judged that is judged anew.

    Args:
        day: today, ISO.
    """
    when = f"Judged on {day}, not as when it was measured,"
    if results.is_paired:
        return f"{when} by its own pairs of launches."
    return f"{when} by the baselines in {store.root}, without launches of this run."


def judged_then(results: RunResults) -> str:
    """When a run was judged whose stored verdicts are shown."""
    day = (results.finished or results.started)[:ISO_DAY]
    return f"As it was judged on {day}, when it was measured."


def other_versions(results: RunResults, store: Store | None) -> str:
    """What of the environment differs from the baselines': versions, driver, variables.

    "" where nothing does, or where nothing is recorded.
    """
    versions: set[str] = set()
    for server in results.servers.values():
        versions |= server.versions.keys() - {"python"}
    built = []
    others = []
    for name, current, recorded, _ in drift(results, store).rows:
        if name in versions or packages.is_package(name):
            plain = name.removeprefix(packages.PREFIX)
            built.append(f"{plain} {recorded} -> {current}")
        elif name in _ENVIRONMENT or name.startswith("$"):
            before, now = recorded.strip("-"), current.strip("-")
            others.append(f"{name} {before or UNSET} -> {now or UNSET}")
    parts = []
    for words, changes in ((BUILT, built), (ENVIRONMENT, others)):
        if changes:
            parts.append(
                f"{words} than the baseline: {_first_changes(changes)}"
            )
    return "; ".join(parts)


def _first_changes(changes: Sequence[str]) -> str:
    """The first changes, each once, and how many more there are."""
    different = list(dict.fromkeys(changes))
    text = ", ".join(different[:MOST_CHANGES])
    rest = len(different) - MOST_CHANGES
    if rest > 0:
        text += f" and {rest} more"
    return text


def level(outcome: Outcome) -> str:
    """Whether an outcome always fails a run, passes, or is left open."""
    if outcome in GREEN:
        return "pass"
    if outcome in ALWAYS_RED:
        return "fail"
    return "open"


@dataclass(frozen=True)
class Drift:
    """What of choices and context changed since the baselines were recorded.

    Attributes:
        rows: (field, now, in the baseline, cases).
        compared: cases of the run that have a recorded baseline; 0 where none was
            looked at.
        unknown_packages: whether baselines do not say which packages they had.
    """

    rows: tuple[tuple[str, str, str, int], ...] = ()
    compared: int = 0
    unknown_packages: bool = False

    @property
    def sentence(self) -> str:
        """In one line."""
        if not self.compared:
            return (
                "No case has a recorded baseline to compare the context with."
            )
        names = list(dict.fromkeys(name for name, *_ in self.rows))
        text = "The context has not changed since the baselines were recorded."
        if names:
            changed = formatting.listed(names)
            text = (
                f"Context changed since the baselines were recorded: {changed}."
            )
        if self.unknown_packages:
            text += " Their packages are not recorded, so unknown."
        return text


def drift(results: RunResults, store: Store | None) -> Drift:
    """Compare choices and context of each case with those of its recorded baseline."""
    if store is None or results.is_paired:
        # A run with a base build has no baseline.
        return Drift()
    counts: Counter[tuple[str, str, str]] = Counter()
    reader, compared, unknown = RunReader(results), 0, False
    for case in results.cases:
        observation = reader.observe(case)
        baseline = store.find(case, observation.hardware_label)
        if not isinstance(baseline, Recorded):
            continue
        compared += 1
        unknown = unknown or packages.are_unknown(
            observation.context, baseline.context
        )
        counts.update(_changes(observation, baseline))
    rows = []
    for change, cases in sorted(counts.items()):
        rows.append((*change, cases))
    return Drift(tuple(rows), compared, unknown)


def _changes(
    observation: Observation, baseline: Recorded
) -> set[tuple[str, str, str]]:
    """(field, now, in the baseline) of the fields that differ; sides of a ratio as one."""
    context = answers.with_counts(observation.context, baseline.context)
    changed = formatting.differing(*context)
    changed += choices.differing(observation.chosen, baseline.chosen)
    current = {**observation.chosen, **context[0]}
    recorded = {**baseline.chosen, **context[1]}
    changes = set()
    for name in changed:
        field = without_side(name)
        changes.add((field, current.get(name, "-"), recorded.get(name, "-")))
    return changes
