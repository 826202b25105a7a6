"""Artifacts: the page, summary and exports that are written into a run directory.

Nothing here may change a verdict: what cannot be written is reported, and the session
goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from perfgate.files import write_atomically
from perfgate.report import exports, summary
from perfgate.report.page import Report, build

PAGE = "report.html"
SUMMARY = "summary.md"
JUNIT = "junit.xml"
BENCHMARK = "pytest-benchmark.json"


def write(report: Report, folder: Path) -> list[Path]:
    """Write summary and exports of the last run, and the page of all runs, into a folder.

    Raises:
        RunDataError: the folder cannot be written.
    """
    results = report.runs[-1]
    texts = {
        PAGE: build(report),
        SUMMARY: summary.markdown(results, report.store),
        JUNIT: exports.junit(results),
        BENCHMARK: exports.pytest_benchmark(results),
    }
    for name, text in texts.items():
        write_atomically(folder / name, text)
    return [folder / name for name in texts]


def write_safely(
    make: Callable[[], Report], folder: Path, environment: Mapping[str, str]
) -> list[str]:
    """Write everything, and annotate in a CI service; returns lines for the terminal.

    An error becomes a line, too.

    Args:
        make: puts the report together; it may fail.
        environment: tells whether this is a CI service.
    """
    try:
        report = make()
        write(report, folder)
        summary.append_to_step(
            (folder / SUMMARY).read_text(encoding="utf-8"), environment
        )
        commands = summary.workflow_commands(report.runs[-1], environment)
    # Whatever stops the report must not change the verdict.
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001
        reason = type(error).__name__
        if str(error):
            reason += f": {error}"
        return [f"no report: {reason} (try again: `perfgate report {folder}`)"]
    exported = f"{SUMMARY}, {JUNIT} and {BENCHMARK} in the same folder"
    return [*commands, f"report: {folder / PAGE} ({exported})"]
