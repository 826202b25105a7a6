"""Artifacts: the page, summary and exports that are written into a run directory.

Each is written by itself, what a CI service reads first: one that fails takes nothing
else along. Nothing here may change a verdict, so that an error becomes a line.
"""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from perfgate.errors import Failure, describe_error
from perfgate.files import write_atomically
from perfgate.report import exports, junit, summary
from perfgate.report.figures.trend import Trend
from perfgate.report.page import Report, build

PAGE = "report.html"
SUMMARY = "summary.md"
JUNIT = "junit.xml"
BENCHMARK = "pytest-benchmark.json"

Trends = Callable[[], Mapping[str, Trend]]
"""Reads the courses of the last run's cases; it may fail."""

_MAKERS: Mapping[str, Callable[[Report], str]] = {
    JUNIT: lambda report: junit.junit(report.runs[-1]),
    SUMMARY: lambda report: summary.markdown(report.runs[-1], report.store),
    BENCHMARK: lambda report: exports.pytest_benchmark(report.runs[-1]),
    PAGE: build,
}
"""File -> its text: exports of the last run, and the page of all runs."""


@dataclass(frozen=True)
class Written:
    """What was written, and a line for each thing that was not, or not in full."""

    paths: tuple[Path, ...] = ()
    problems: tuple[str, ...] = ()

    def __add__(self, other: Written) -> Written:
        return Written(self.paths + other.paths, self.problems + other.problems)


def write(report: Report, trends: Trends, folder: Path, again: str) -> Written:
    """Write the exports of the last run, then the page of all runs, into a folder.

    Args:
        again: what to do once more where something was not written.
    """
    written = _write_exports(report, folder, again)
    return _write_page(report, trends, folder, again) + written


def write_safely(
    report: Report, trends: Trends, folder: Path, environment: Mapping[str, str]
) -> list[str]:
    """Write everything, and annotate in a CI service; returns lines for the terminal.

    Args:
        environment: tells whether this is a CI service.
    """
    commands: list[str] = []
    again = f"`perfgate report {shlex.quote(str(folder))}`"

    def annotate() -> None:
        commands.extend(summary.workflow_commands(report.runs[-1], environment))

    def add_to_step() -> None:
        text = (folder / SUMMARY).read_text(encoding="utf-8")
        summary.append_to_step(text, environment)

    written = _write_exports(report, folder, again)
    problems = [
        *_problem("job summary", again, add_to_step),
        *_problem("annotations", again, annotate),
    ]
    page = _write_page(report, trends, folder, again)
    lines = [*commands, *written.problems, *problems, *page.problems]
    names = [path.name for path in written.paths]
    if page.paths:
        exported = ""
        if names:
            exported = f" ({_in_words(names)} in the same folder)"
        lines.append(f"report: {page.paths[0]}{exported}")
    elif names:
        lines.append(f"written to {folder}: {_in_words(names)}")
    return lines


def _write_exports(report: Report, folder: Path, again: str) -> Written:
    written = Written()
    for name in (SUMMARY, JUNIT, BENCHMARK):
        written += _write_file(name, report, folder, again)
    return written


def _write_page(
    report: Report, trends: Trends, folder: Path, again: str
) -> Written:
    """The page, without trends where the history cannot be read."""
    courses: dict[str, Trend] = {}
    problems = _problem("trends", again, lambda: courses.update(trends()))
    report = dataclasses.replace(report, history=courses)
    return Written(problems=problems) + _write_file(PAGE, report, folder, again)


def _write_file(name: str, report: Report, folder: Path, again: str) -> Written:
    """Write one file; without the baselines where one of them cannot be read."""
    notes: list[str] = []

    def make() -> None:
        try:
            text = _MAKERS[name](report)
        except Failure as failure:
            if report.store is None:
                raise
            notes.append(f"{name} is without baselines: {failure}")
            bare = dataclasses.replace(report, store=None)
            text = _MAKERS[name](bare)
        write_atomically(folder / name, text)

    problems = _problem(name, again, make)
    if problems:
        return Written(problems=problems)
    return Written(paths=(folder / name,), problems=tuple(notes))


def _in_words(names: Sequence[str]) -> str:
    """The names with commas, and "and" before the last one."""
    *others, last = names
    if not others:
        return last
    return f"{', '.join(others)} and {last}"


def _problem(
    what: str, again: str, step: Callable[[], None]
) -> tuple[str, ...]:
    """Do a step; a line with the reason if it fails, whatever stops it."""
    try:
        step()
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001
        return (f"no {what}: {_reason(error)} (try again: {again})",)
    return ()


def _reason(error: BaseException) -> str:
    if isinstance(error, Failure):
        return str(error)
    if isinstance(error, OSError):
        return describe_error(error)
    reason = type(error).__name__
    if str(error):
        reason += f": {error}"
    return reason
