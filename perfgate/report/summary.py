"""Summary: summary.md and GitHub annotations, for a CI job.

A job summary takes summary.md as well; annotations are GitHub's workflow commands.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from perfgate import formatting
from perfgate.cases import title
from perfgate.foreign_text import clean
from perfgate.judge import run_status
from perfgate.judge.baseline_store import Store
from perfgate.judge.verdict import Outcome, Verdict, is_red
from perfgate.report import notices, terminal, verdict_text
from perfgate.report.headline import (
    STATES,
    Drift,
    attention,
    drift,
    other_versions,
    verdict_sentence,
)
from perfgate.results import timing
from perfgate.results.schema import RunResults

# Of one step's summary; of a larger one GitHub shows nothing.
STEP_LIMIT_BYTES = 1024 * 1024
FENCE = "```"
BROKEN_FENCE = "` ` `"
_TAG = re.compile("<(?=[A-Za-z/!?])")
DETAILS = ("<details>", "</details>")
MOST_TO_DO = 4  # pieces of advice outside of what is folded away
NOT_STARTED = "perfgate did not start"
# Errors, and as many warnings, that GitHub shows of one step.
MOST_ANNOTATIONS = 10


def markdown(results: RunResults, store: Store | None) -> str:
    """The run as a page of Markdown: verdict, advice, the table, the context."""
    sign = STATES[run_status.state(results)]
    lines = [f"## {sign} {inert(verdict_sentence(results))}", ""]
    place = inert(results.hardware.place)
    lines += [f"Run `{results.run_id}` on {place}.", ""]
    versions = other_versions(results, store)
    notes = [*notices.important(results), versions]
    for line in [*notes, terminal.in_common(results)]:
        if line:
            lines += [f"**{inert(line)}**", ""]
    rows = run_status.ordered(results)
    hard = [row for row in rows if row.gate == "hard"]
    report_only = [row for row in rows if row.gate != "hard"]
    passed = [row for row in hard if row.outcome is Outcome.PASSED]
    lines += _table([row for row in hard if row.outcome is not Outcome.PASSED])
    lines += _attention(results)
    lines += _folded(f"{len(passed)} passed", passed)
    lines += _folded(f"{len(report_only)} report-only values", report_only)
    lines += _context(drift(results, store))
    lines += _time(results)
    return "\n".join(lines).rstrip() + "\n"


def _attention(results: RunResults) -> list[str]:
    lines = []
    for number, item in enumerate(attention(results)):
        if item.advice and number < MOST_TO_DO:
            lines += [inert(f"{item.title}. To do: {item.advice}"), ""]
        heading = inert(f"{item.title}: {item.finding}")
        messages = "\n\n".join(item.messages)
        lines += [f"<details><summary>{heading}</summary>", "", FENCE]
        lines += [messages.replace(FENCE, BROKEN_FENCE), FENCE]
        lines += ["", "</details>", ""]
    return lines


def inert(text: str) -> str:
    """One line of text in which no tag, image or fence of Markdown is obeyed."""
    line = " ".join(text.split()).replace(FENCE, BROKEN_FENCE)
    return _TAG.sub("&lt;", line).replace("![", "!\\[")


def table_row(cells: Iterable[str]) -> str:
    """A row of a table: a bar in a cell ends none."""
    texts = [inert(cell).replace("|", "\\|") for cell in cells]
    return f"| {' | '.join(texts)} |"


def _folded(heading: str, rows: Sequence[Verdict]) -> list[str]:
    if not rows:
        return []
    lines = [f"<details><summary>{heading}</summary>", ""]
    return [*lines, *_table(rows), "</details>", ""]


def _context(changed: Drift) -> list[str]:
    if not changed.rows:
        return []
    lines = ["Context changed since the baselines were recorded:", ""]
    for name, current, recorded, cases in changed.rows:
        count = formatting.count(cases, "case")
        lines.append(
            inert(
                f"* {name}: {current} now, {recorded} in the baseline ({count})"
            )
        )
    return lines


def _time(results: RunResults) -> list[str]:
    """Where the session's time went, and each step of the servers' starts."""
    lines = []
    spent = timing.format_sessions(results.sessions)
    if spent:
        lines += ["", f"Time: {spent}"]
    steps = timing.phases(launch.start for launch in results.launches)
    if not steps:
        return lines
    lines += ["", "<details><summary>Server start-up by step</summary>", ""]
    lines += [
        "| server | step | first launch, s | later launches (median), s |",
        "|---|---|--:|--:|",
    ]
    lines += [table_row(row.cells) for row in steps]
    return [*lines, "", "</details>"]


def _title(row: Verdict) -> str:
    text = f"{row.outcome}: {verdict_text.heading(row)}"
    if row.change is not None:
        text += f": {verdict_text.change(row)}"
    return text


def _table(rows: Sequence[Verdict]) -> list[str]:
    if not rows:
        return []
    lines = [
        "| verdict | test | load | metric | value | baseline | change | allowed |",
        "|---|---|---|---|--:|--:|---|---|",
    ]
    for row in rows:
        outcome = row.outcome.value
        if row.screen is not None:
            outcome = verdict_text.outcome(row)
        cells = (
            outcome,
            row.experiment,
            title(row.case),
            row.metric,
            verdict_text.value(row),
            verdict_text.baseline(row),
            verdict_text.change(row),
            verdict_text.allowed(row),
        )
        lines.append(table_row(cells))
    return [*lines, ""]


def fitted(text: str, room_bytes: int) -> str:
    """The text, cut at the end of a line where it does not fit; a sentence says so.

    Args:
        room_bytes: that it may take in UTF-8.
    """
    raw = text.encode()
    if len(raw) <= room_bytes:
        return text
    sizes = (
        f"the summary has {len(raw):,} bytes, the limit here is {room_bytes:,}"
    )
    note = f"\n**Truncated:** {sizes}; see summary.md for all of it.\n"
    # What is open at the cut is closed, so that the note is outside of it.
    longest = len(f"\n{FENCE}\n\n</details>\n{note}".encode())
    if room_bytes < longest:
        return ""
    start = raw[: room_bytes - longest].decode(errors="ignore")
    whole_lines = start.rpartition("\n")[0]
    if not whole_lines:
        return ""
    end = ""
    if whole_lines.split("\n").count(FENCE) % 2:
        end = f"\n{FENCE}\n"
    opened, closed = (whole_lines.count(tag) for tag in DETAILS)
    end += "\n</details>\n" * (opened - closed)
    return f"{whole_lines}\n{end}{note}"


def append_to_step(text: str, environment: Mapping[str, str]) -> None:
    """Add the text to the job summary of GitHub Actions, if this is one.

    What earlier steps wrote counts to its limit.

    Raises:
        OSError: the file cannot be written.
    """
    file_name = environment.get("GITHUB_STEP_SUMMARY")
    if not file_name:
        return
    path = Path(file_name)
    used_bytes = 0
    if path.exists():
        used_bytes = path.stat().st_size
    with path.open("a", encoding="utf-8") as file:
        file.write(fitted(text, STEP_LIMIT_BYTES - used_bytes))


def refusal(text: str, environment: Mapping[str, str]) -> list[str]:
    """Why a session did not start, in the job summary and as an annotation.

    None outside GitHub Actions.
    """
    if environment.get("GITHUB_ACTIONS") != "true":
        return []
    with contextlib.suppress(OSError):
        lines = [f"## ✗ {NOT_STARTED}", "", FENCE, clean(text), FENCE, ""]
        append_to_step("\n".join(lines), environment)
    return [f"::error title={NOT_STARTED}::{_escaped(clean(text))}"]


def workflow_commands(
    results: RunResults, environment: Mapping[str, str]
) -> list[str]:
    """Annotations for failed servers and for what needs attention.

    None outside GitHub Actions.
    """
    if environment.get("GITHUB_ACTIONS") != "true":
        return []
    lines = _start_commands(results)
    lines += _whole_commands(results)[: MOST_ANNOTATIONS - len(lines)]
    lines += _group_commands(results)[: MOST_ANNOTATIONS - len(lines)]
    room = {"error": MOST_ANNOTATIONS - len(lines), "warning": MOST_ANNOTATIONS}
    hidden = []
    for verdict in run_status.judged_verdicts(results):
        if verdict.outcome is Outcome.PASSED:
            continue
        if verdict.outcome is Outcome.NOT_EXCLUDED:
            hidden.append(verdict)
            continue
        level = _level(verdict, results)
        if room[level]:
            room[level] -= 1
            name = _property(_title(verdict))
            text = _escaped(verdict_text.render(verdict))
            lines.append(f"::{level} title={name}::{text}")
    if hidden and room[_level(hidden[0], results)]:
        lines.append(_not_excluded_command(hidden, _level(hidden[0], results)))
    return lines


def _start_commands(results: RunResults) -> list[str]:
    """What failed, and that nothing was measured."""
    lines = []
    for key, row in list(results.failures.items())[:MOST_ANNOTATIONS]:
        name = _property(f"{key} failed")
        text = _escaped(f"{row.seen}. {row.remedy}")
        lines.append(f"::error title={name}::{text}")
    if results.is_empty:
        lines.append(_empty_command(results))
    return lines


def _whole_commands(results: RunResults) -> list[str]:
    """One annotation for what fails the run beside its rows: it is not whole."""
    if results.is_empty or results.gate == "advisory":
        return []
    reasons = [*notices.lacking(results), *notices.ended_early(results)]
    if run_status.missing(results):
        reasons += results.skipped.values()
    if not reasons:
        return []
    text = _escaped("\n".join(dict.fromkeys(reasons)))
    return [f"::error title=perfgate lacks a part of the run::{text}"]


def _empty_command(results: RunResults) -> str:
    """That nothing was measured, and each reason once."""
    level = "warning" if results.gate == "advisory" else "error"
    reasons = [*notices.lacking(results), *results.skipped.values()]
    text = _escaped("\n".join(dict.fromkeys(reasons)))
    return f"::{level} title=perfgate measured nothing::{text}"


def _level(verdict: Verdict, results: RunResults) -> str:
    """Whether GitHub shows it as an error or as a warning."""
    if is_red(verdict.outcome, "hard", results.gate):
        return "error"
    return "warning"


def _not_excluded_command(rows: Sequence[Verdict], level: str) -> str:
    """One annotation for all rows that may hide a loss."""
    count = formatting.count(len(rows), "row")
    ceilings = verdict_text.ceilings(rows)
    name = _property(
        f"{Outcome.NOT_EXCLUDED}: {count} cannot exclude {ceilings}"
    )
    text = _escaped(verdict_text.render_not_excluded(rows))
    return f"::{level} title={name}::{text}"


def _group_commands(results: RunResults) -> list[str]:
    lines = []
    for row in run_status.red_groups(results):
        heading = verdict_text.group_heading(row)
        name = _property(f"{row.outcome}: {heading}")
        text = _escaped(verdict_text.render_group(row))
        lines.append(f"::error title={name}::{text}")
    return lines


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _escaped(text).replace(":", "%3A").replace(",", "%2C")
