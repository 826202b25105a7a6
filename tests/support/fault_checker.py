"""Fault checker: what must hold of a run after a fault, and of the session that resumes it.

The model is small. What was acknowledged (a step that was recorded) is not lost. What
was not measured whole is no whole launch, no baseline and no history. A run says that it
is complete only if nothing is missing. No process and no lease is left. No command ends
in a traceback. `--resume` without the fault ends in a whole run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from perfgate.cli.main import main
from perfgate.errors import Failure
from perfgate.files import TEMPORARY
from perfgate.judge.baseline_store import Store
from perfgate.machine import leases
from perfgate.results import merge
from perfgate.results.journal import SUFFIX
from perfgate.results.schema import RunResults, load
from perfgate.run.launch_runner import wants_more
from tests.support.junit_schema import SCHEMA
from tests.support.small_project import Project, SmallSession
from tests.support.write_faults import facts

TRACEBACK = "Traceback (most recent call last)"
IN_PYTEST = ("in pytest_keyboard_interrupt", "in _ensure_unconfigure")
# Python's last words where a Ctrl-C comes while it shows the one before.
LOST = "object type name: KeyboardInterrupt"
# The last line of a traceback, and pytest's last line.
RAISED = re.compile(
    r"^[A-Za-z_][\w.]*(?:Error|Exception|Interrupt|Exit)\b", re.MULTILINE
)
# asyncio cancels its tasks for a Ctrl-C.
INTERRUPTS = {"KeyboardInterrupt", "asyncio.exceptions.CancelledError"}
ENDED = re.compile(r"^=+ .* in [\d.]+s(?: \([\d:]+\))? =+$", re.MULTILINE)
REPORTS = ("report.html", "summary.md", "junit.xml", "pytest-benchmark.json")


@dataclass
class Findings:
    """What does not hold, a line for each."""

    lines: list[str] = field(default_factory=list)

    def require(self, is_so: object, text: str) -> None:
        """Note the text unless that is so."""
        if not is_so:
            self.lines.append(text)


def check(project: Project, run_dir: Path, session: SmallSession) -> list[str]:
    """What does not hold after a session that has ended; empty if all does."""
    found = Findings()
    found.require(not session.survivors(), f"left: {session.running()}")
    found.require(_is_free(project), "the lease is not free")
    found.require(not has_traceback(session), "traceback of the session")
    # As --resume does it: a killed controller merges nothing.
    merge.recover(run_dir)
    results = _results(run_dir, found)
    if results is None:
        found.require(
            not _acknowledged(project), "an acknowledged file is gone"
        )
        return found.lines
    _check_meaning(project, results, found)
    _check_commands(project, run_dir, results, found)
    return found.lines


def check_resumed(
    before: RunResults | None, run_dir: Path, session: SmallSession
) -> list[str]:
    """What does not hold after the run was resumed without a fault."""
    found = Findings()
    found.require(session.process.returncode == 0, "resumed: it is not green")
    found.require(not has_traceback(session), "resumed: traceback")
    found.require(not session.survivors(), "resumed: processes are left")
    results = _results(run_dir, found)
    if results is None:
        found.require(False, "resumed: no run")
        return found.lines
    found.require(results.is_whole, "resumed: the run is not whole")
    found.require(not results.unanswered, "resumed: cases lack a verdict")
    left = [path.name for path in run_dir.glob(f"{TEMPORARY}*")]
    left += [path.name for path in run_dir.glob(f"*{SUFFIX}")]
    found.require(not left, f"resumed: files of a session that writes {left}")
    if before is not None:
        found.require(
            _kept(before) <= _kept(results),
            "resumed: a whole launch was measured again",
        )
    return found.lines


def results_of(run_dir: Path) -> RunResults | None:
    """The run; None where there is none that can be read."""
    try:
        return load(run_dir)
    except Failure:
        return None


def has_traceback(session: SmallSession) -> bool:
    """Whether it showed a traceback that is none of a Ctrl-C.

    Python shows one of a Ctrl-C after pytest's last line, and pytest one of a second
    Ctrl-C while it handles the first or cleans up.
    """
    before, found, shown = session.output.partition(TRACEBACK)
    if not found:
        return False
    if not set(RAISED.findall(shown)) <= INTERRUPTS:
        return True
    if any(words in shown for words in (*IN_PYTEST, LOST)):
        return False
    return not ENDED.search(before)


def _results(run_dir: Path, found: Findings) -> RunResults | None:
    results = results_of(run_dir)
    is_there = (run_dir / "results.json").exists()
    found.require(results or not is_there, "results.json cannot be read")
    return results


def _is_free(project: Project) -> bool:
    folder = project.folder / "leases"
    devices = [path.stem for path in folder.glob("*.lock")]
    if not devices:
        return True
    try:
        lease = leases.acquire(
            devices,
            len(devices),
            wait_s=2.0,
            hold_s=1.0,
            progress=lambda _: None,
            folder=folder,
        )
    except leases.NotLeased:
        return False
    lease.release()
    return True


def _acknowledged(project: Project) -> list[dict[str, Any]]:
    """What was in the last step that each process recorded."""
    path = project.acknowledged
    if not path.exists():
        return []
    rows = map(json.loads, path.read_text().splitlines())
    return list({row["pid"]: row for row in rows}.values())


def _check_meaning(
    project: Project, results: RunResults, found: Findings
) -> None:
    """The file against what was acknowledged, and against itself."""
    now = facts(results)
    for row in _acknowledged(project):
        for name, count in row["repetitions"].items():
            has = now["repetitions"].get(name, 0)
            found.require(has >= count, f"lost: {count - has} of {name}")
        lost = set(row["verdicts"]) - set(now["verdicts"])
        found.require(not lost, f"lost: verdicts {sorted(lost)}")
    for launch, name in _partial(results):
        found.require(
            not launch.measured, f"{name} calls itself measured, and is not"
        )
    if results.complete:
        found.require(not results.cut_off, "complete, with a cut launch")
        found.require(not results.unanswered, "complete, without a verdict")


def _partial(results: RunResults) -> Iterator[tuple[Any, str]]:
    """Launches with a workload that wants more repetitions, or without any load."""
    for launch in results.launches:
        name = f"launch {launch.index} of {launch.server}"
        rows = [
            row
            for row in results.measurements
            if (row.server, row.launch) == (launch.server, launch.index)
        ]
        for row in rows:
            workload = results.workloads[row.workload]
            if row.failure is None and wants_more(workload, row.repetitions):
                yield launch, name
        if not rows and launch.server not in results.failures:
            yield launch, name


def _kept(results: RunResults) -> set[tuple[str, int, float]]:
    """Whole launches that nothing failed on, by server, index and start."""
    failed = {
        (row.server, row.launch)
        for row in results.measurements
        if not row.is_sound
    }
    return {
        (launch.server, launch.index, launch.start.started_unix_s)
        for launch in results.launches
        if launch.measured and (launch.server, launch.index) not in failed
    }


def _check_commands(
    project: Project, run_dir: Path, results: RunResults, found: Findings
) -> None:
    """What judge, accept, history and report make of it."""
    store = project.folder / f"accepted-{run_dir.name}"
    store.mkdir(exist_ok=True)
    history = project.folder / f"history-{run_dir.name}.sqlite3"
    pages = project.folder / f"pages-{run_dir.name}"
    baselines = ("--baselines", str(store))
    said = _run("judge", str(run_dir), *baselines, found=found)
    if not results.is_whole:
        found.require("The run was cut off" in said, "judge: not told")
    _run("accept", str(run_dir), *baselines, found=found)
    measured = {
        (row.server, row.index) for row in results.launches if row.measured
    }
    for server, launch in _recorded(store):
        found.require(
            (server, launch) in measured, f"accepted: launch {launch}, cut"
        )
    listed = _run(
        *("history", "--runs", str(run_dir.parent)),
        *("--history", str(history), "--csv", "-"),
        found=found,
    )
    if not results.is_whole:
        found.require(results.run_id not in listed, "in the history, not whole")
    _run(
        *("report", str(run_dir), *baselines),
        *("--history", str(history), "--out", str(pages)),
        found=found,
    )
    check_reports(pages, found)


def _recorded(store: Path) -> Iterator[tuple[str, int]]:
    """(server, launch) of each value that was accepted, but for ratios."""
    baselines = Store(store)
    for path in store.rglob("*.json"):
        file = baselines.file(path)
        if file is None or "--over--" in path.parent.name:
            continue
        for metric in file.metrics.values():
            for sample in metric.launches:
                yield path.parent.name, sample.launch


def check_reports(folder: Path, found: Findings) -> None:
    """Whether the four files are there, and parse."""
    for name in REPORTS:
        if not (folder / name).is_file():
            found.require(False, f"report: no {name}")
            return
    SCHEMA.validate((folder / "junit.xml").read_text())
    json.loads((folder / "pytest-benchmark.json").read_text())
    page = (folder / "report.html").read_text()
    found.require(page.rstrip().endswith("</html>"), "report.html is cut")


def _run(*arguments: str, found: Findings) -> str:
    """What a command prints; it must not end in an exception of Python."""
    result = CliRunner().invoke(main, list(arguments), env={"CI": ""})
    is_proper = result.exception is None or isinstance(
        result.exception, SystemExit
    )
    found.require(is_proper, f"{arguments[0]}: {result.exception!r}")
    return result.output
