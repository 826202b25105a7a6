"""Ending: what is written when a session ends, whether or not a terminal shows it.

The history, the report with its exports, and proposed baselines. Nothing here may
change a verdict: what cannot be written is reported, and the session goes on.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from perfgate.accept import accept
from perfgate.errors import Failure
from perfgate.history.store import History
from perfgate.judge.baseline_store import Store
from perfgate.report import trends
from perfgate.report.artifacts import write_safely
from perfgate.report.page import Report
from perfgate.results import timing
from perfgate.results.schema import RunResults

PROPOSED = "proposed-baselines"


@dataclass(frozen=True)
class Wanted:
    """What a session writes.

    Attributes:
        store: the baselines that it was judged by.
        history: the file that complete runs are added to.
        report: whether report.html and its exports are wanted.
        proposal: the store that proposed baselines are made for; None for no proposal.
        is_gathered: whether the run was merged from workers; its time then ends when
            they did.
    """

    store: Store
    history: Path
    report: bool = True
    proposal: Path | None = None
    is_gathered: bool = False


def write(results: RunResults, run_dir: Path, wanted: Wanted) -> list[str]:
    """Write what is wanted beside a run; returns lines for the terminal."""
    lines = []
    if wanted.report:

        def made() -> Report:
            history = History(wanted.history)
            history.append(results)
            return Report(
                [results], wanted.store, trends.of_run(results, history.entries())
            )

        lines += write_safely(made, run_dir, os.environ)
    until_unix_s = None
    if not wanted.is_gathered:
        until_unix_s = time.time()
    spent = timing.format_sessions(results.sessions, until_unix_s)
    if spent:
        lines.append(f"time: {spent}")
    if wanted.proposal is not None:
        lines.append(_propose(results, wanted.proposal, run_dir))
    return lines


def _propose(results: RunResults, baselines: Path, run_dir: Path) -> str:
    folder = run_dir / PROPOSED
    try:
        written = accept.propose(results, Store(baselines), folder)
    except Failure as failure:
        return f"no proposed baselines: {failure}"
    return (
        f"proposed baselines: {len(written)} files in {folder}; take them over with "
        f"`perfgate accept {run_dir}`"
    )
