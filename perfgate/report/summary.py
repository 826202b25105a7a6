"""What does a run say to those who read it in a CI service?

summary.md (a job summary takes it as well), and annotations in the words of GitHub's
workflow commands.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from perfgate import formatting as wording
from perfgate.judge import run_status
from perfgate.judge.baseline_store import Store
from perfgate.judge.verdict import Outcome, is_red
from perfgate.report import notices
from perfgate.report import terminal as report
from perfgate.report.headline import STATES, attention, drift, state, verdict_sentence
from perfgate.results import timing as timesheet
from perfgate.results.schema import RunResults, VerdictRow

STEP_LIMIT_BYTES = (
    1024 * 1024
)  # of one step's summary; more, and GitHub shows none of it
FENCE = "```"
MOST_TO_DO = 4  # of which it is said outside of what is folded away
MOST_ANNOTATIONS = 10  # errors, and as many warnings, that GitHub shows of one step


def markdown(results: RunResults, store: Store | None) -> str:
    """The run as a page of Markdown: verdict, what to do, the table, the context."""
    lines = [f"## {STATES[state(results)]} {verdict_sentence(results)}", ""]
    lines += [f"Run `{results.run_id}` on {results.hardware.description}.", ""]
    for line in notices.important(results):
        lines += [f"**{line}**", ""]
    common = report.in_common(results)
    lines += [f"**{common}**", ""] * bool(common)
    hard, rest = (
        run_status.judged(results),
        [row for row in run_status.ordered(results) if row.gate != "hard"],
    )
    loud = [row for row in hard if row.outcome != Outcome.PASSED]
    lines += _table(results, loud)
    for number, item in enumerate(attention(results)):
        lines += [f"{item.title}. To do: {item.do}", ""] * bool(
            item.do and number < MOST_TO_DO
        )
        lines += [f"<details><summary>{item.title}: {item.seen}</summary>", "", FENCE]
        lines += ["\n\n".join(item.messages), FENCE, "", "</details>", ""]
    quiet = (
        (f"{len(hard) - len(loud)} passed", [row for row in hard if row not in loud]),
    )
    for what, mine in (*quiet, (f"{len(rest)} reported values, never red", rest)):
        if mine:
            lines += [
                f"<details><summary>{what}</summary>",
                "",
                *_table(results, mine),
                "</details>",
                "",
            ]
    drifted = drift(results, store)
    if drifted.rows:
        lines += ["Drifted since the baselines were recorded:", ""]
        lines += [
            f"* {name}: {now} now, {then} in the baseline ({wording.count(cases, 'case')})"
            for name, now, then, cases in drifted.rows
        ]
    lines += _time(results)
    return "\n".join(lines).rstrip() + "\n"


def _time(results: RunResults) -> list[str]:
    """Where the session's time went, and each step of the servers' starts."""
    spent = timesheet.format_sessions(results.sessions)
    steps = [
        row.cells
        for row in timesheet.phases(launch.start for launch in results.launches)
    ]
    lines = ["", f"Time: {spent}"] if spent else []
    if steps:
        lines += ["", "<details><summary>Servers' starts, step by step</summary>", ""]
        lines += [
            "| server | step | first launch, s | later launches (median), s |",
            "|---|---|--:|--:|",
        ]
        lines += [f"| {' | '.join(row)} |" for row in steps]
        lines += ["", "</details>"]
    return lines


def _title(results: RunResults, row: VerdictRow) -> str:
    case = next(case for case in results.cases if case.id == row.case)
    change = report.in_words(row, case.over is not None)
    return f"{row.outcome}: {report.what(case)}, {row.metric}" + (
        "" if change == "-" else f": {change}"
    )


def _table(results: RunResults, rows: Sequence[VerdictRow]) -> list[str]:
    if not rows:
        return []
    cases = {case.id: case for case in results.cases}
    lines = [
        "| verdict | test | of | metric | value | baseline | beside it |",
        "|---|---|---|---|--:|--:|---|",
    ]
    for row in rows:
        case = cases[row.case]
        ratio = case.over is not None
        value, before = (
            report.figure(v, row.metric, ratio) for v in (row.value, row.baseline)
        )
        lines.append(
            f"| {row.outcome} | {row.experiment} | {report.what(case)} | "
            f"{row.metric} | {value} | {before} "
            f"| {report.in_words(row, ratio)} |"
        )
    return [*lines, ""]


def fitted(text: str, room_bytes: int) -> str:
    """The text, cut at the end of a line where it does not fit, with a sentence that says so.

    Args:
        room_bytes: that it may take in UTF-8.
    """
    raw = text.encode()
    if len(raw) <= room_bytes:
        return text
    sizes = f"the summary has {len(raw):,} bytes and this place takes {room_bytes:,}"
    note = f"\n**Cut here:** {sizes}; summary.md is whole.\n"
    # The ends of what may be open where it is cut: the sentence is to stand outside of
    # it.
    longest = len(f"\n{FENCE}\n\n</details>\n{note}".encode())
    if room_bytes < longest:
        return ""
    kept = raw[: room_bytes - longest].decode(errors="ignore").rpartition("\n")[0]
    fence = f"\n{FENCE}\n" * (kept.split("\n").count(FENCE) % 2)
    details = "\n</details>\n" * (kept.count("<details>") - kept.count("</details>"))
    return f"{kept}\n{fence}{details}{note}" if kept else ""


def append_to_step(text: str, environment: Mapping[str, str]) -> None:
    """Add the text to the job summary of GitHub Actions, if this is one; earlier steps' words count to its limit.

    Raises:
        OSError: the file cannot be written.
    """
    named = environment.get("GITHUB_STEP_SUMMARY")
    if not named:
        return
    path = Path(named)
    used = path.stat().st_size if path.exists() else 0
    with path.open("a", encoding="utf-8") as file:
        file.write(fitted(text, STEP_LIMIT_BYTES - used))


def workflow_commands(results: RunResults, environment: Mapping[str, str]) -> list[str]:
    """Workflow commands for servers that could not be had and for what needs attention; none outside GitHub Actions."""
    if environment.get("GITHUB_ACTIONS") != "true":
        return []
    lines = [
        (
            "::error "
            f"title={_property(f'{key} could not be had')}::{_escaped(f'{row.seen}. {row.remedy}')}"
        )
        for key, row in list(results.failures.items())[:MOST_ANNOTATIONS]
    ]
    left = {"error": MOST_ANNOTATIONS - len(lines), "warning": MOST_ANNOTATIONS}
    for row in run_status.judged(results):
        if row.outcome == Outcome.PASSED:
            continue
        level = (
            "error"
            if is_red(Outcome(row.outcome), "hard", results.gate == "required")
            else "warning"
        )
        if left[level]:
            left[level] -= 1
            lines.append(
                f"::{level} title={_property(_title(results, row))}::{_escaped(row.message)}"
            )
    return lines


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _escaped(text).replace(":", "%3A").replace(",", "%2C")
