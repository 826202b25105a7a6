"""Artifacts of a session's end: history, report with exports, proposed baselines.

They are written whether or not a terminal shows the session. Nothing here changes a
verdict: what cannot be written becomes a line for the terminal.
"""

from __future__ import annotations

import os
import shlex
import time
from pathlib import Path

from perfgate import formatting
from perfgate.accept import accept
from perfgate.config.config import Config
from perfgate.errors import Failure
from perfgate.history.store import History
from perfgate.judge.baseline_store import Store
from perfgate.report import trends
from perfgate.report.artifacts import write_safely
from perfgate.report.figures.trend import Trend
from perfgate.report.page import Report
from perfgate.results import timing
from perfgate.results.schema import RunResults

PROPOSED = "proposed-baselines"


def write_artifacts(
    results: RunResults, config: Config, is_merged: bool = False
) -> list[str]:
    """Write what the options ask for; returns lines for the terminal.

    Args:
        is_merged: whether the run was merged from workers; its time ended with theirs.
    """
    lines: list[str] = []
    if config.writes_report:
        report = Report([results], config.store, run_path=str(config.run_dir))
        lines += write_safely(
            report, lambda: _trends(results, config), config.run_dir, os.environ
        )
    until_unix_s = None
    if not is_merged:
        until_unix_s = time.time()
    time_spent = timing.format_sessions(results.sessions, until_unix_s)
    if time_spent:
        lines.append(f"time: {time_spent}")
    if config.proposes_baselines:
        lines.append(_propose(results, config.store, config.run_dir))
    return lines


def _trends(results: RunResults, config: Config) -> dict[str, Trend]:
    """The courses of the run's cases, after the run was added to the history."""
    history = History(config.history)
    history.append(results)
    return trends.of_run(results, history.entries())


def _propose(results: RunResults, store: Store, run_dir: Path) -> str:
    folder = run_dir / PROPOSED
    try:
        files = accept.propose(results, store, folder)
    except Failure as failure:
        return f"no proposed baselines: {failure}"
    count = formatting.count(len(files), "file")
    return (
        f"proposed baselines: {count} in {folder}; accept them with "
        f"`perfgate accept {shlex.quote(str(run_dir))}{store.in_commands}`"
    )
