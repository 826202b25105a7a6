"""What does one test session know of its perf tests?

Which platforms were selected, which cases can run here, where the data go, and (at first use, so that collecting tests
costs nothing) the open campaign. Under pytest-xdist each worker has such a session, and the controller one that only
puts the workers' runs together.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import psutil

from perfgate import formatting as wording
from perfgate.cases import Case
from perfgate.config import usage
from perfgate.engines.registry import ENGINES
from perfgate.errors import Failure
from perfgate.history.store import HISTORY_FILE, History
from perfgate.judge import gate
from perfgate.judge.baseline_store import Store
from perfgate.judge.verdict import unjudged
from perfgate.machine import hardware
from perfgate.progress import Tell
from perfgate.results import merge as workers
from perfgate.results import timing as timesheet
from perfgate.results.schema import RunResults
from perfgate.run import opening
from perfgate.run.opening import OpenSession, Place
from perfgate.run.requirements import Needs
from perfgate.study.study import PLATFORMS, Study, Versus, study_of

# Where it is among those compared, the others are judged over it.
REFERENCE = "vllm"


class PerfSession:
    """One session, or one worker of it.

    Args:
        option: the parsed options.
        root: the project.
        words: every word of -m; platforms among them are selected.
        worker: name of this worker, None without workers and in the controller.
        run_dir: of the whole session, as the controller tells its workers; None chooses one.

    Attributes:
        expected: every case that was selected, whether it can run here or not.
        runnable: those that can.
        skipped: test id -> what it needs and this machine has not. lacking: the same by case, of those to be judged.
        files: those whose tests were collected. asked: ids of all cases of theirs on the selected platforms.
    """

    def __init__(
        self,
        option: argparse.Namespace,
        root: Path,
        words: set[str],
        worker: str | None = None,
        run_dir: Path | None = None,
    ) -> None:
        self.option = option
        self.root = root
        self.words = words
        self.requested = tuple(platform for platform in PLATFORMS if platform in words)
        self.worker = worker
        self.run_dir = run_dir or opening.choose_run_dir(option, root)
        self._run_id = opening.choose_run_id(option, self.run_dir)
        self.expected: tuple[Case, ...] = ()
        self.runnable: tuple[Case, ...] = ()
        self.skipped: dict[str, str] = {}
        self.lacking: dict[str, str] = {}
        self._needs = Needs(option, lambda: self.hardware)
        self.files: set[Path] = set()
        self.asked: set[str] = set()
        self._hardware: hardware.Hardware | None = None
        self._open: OpenSession | None = None
        self._refused: Failure | None = None
        self._gathered: RunResults | None = None
        self._began_unix_s = psutil.Process().create_time()

    @property
    def hardware(self) -> hardware.Hardware:
        """The machine, asked once; where somebody else runs the servers, what -m says it is."""
        if self._hardware is None:
            self._hardware = hardware.attached(self.requested[0]) if self.option.attach else hardware.detect()
        return self._hardware

    @property
    def required(self) -> bool:
        """Whether everything but PASSED and IMPROVED is red."""
        return bool(self.option.gate == "required")

    @property
    def results(self) -> RunResults | None:
        """Everything measured so far; None if nothing was."""
        return self._gathered if self._open is None else self._open.campaign.results

    @property
    def against(self) -> dict[str, str]:
        """Base builds to compare with: engine -> Python."""
        return opening.pairs("--against-engine", self.option.against_engine)

    def studies(self) -> Iterator[Study]:
        """One for each platform and engine."""
        engines = self.option.engine or sorted(self.against or ENGINES)
        for platform in PLATFORMS:
            for engine in engines:
                study = study_of(platform, engine, self.option.tp, self.option.weights)
                yield dataclasses.replace(study, beside_base=bool(self.against), beside_engines=len(engines) > 1)

    def versus(self) -> Iterator[Versus]:
        """One for each platform and engine besides the one that the others are judged over; none beside base builds."""
        if self.against:
            return
        by_platform: dict[str, dict[str, Study]] = {}
        for study in self.studies():
            by_platform.setdefault(study.platform, {})[study.moe.engine] = study
        for studies in by_platform.values():
            names = sorted(studies, key=lambda name: (name != REFERENCE, name))
            yield from (Versus(of=studies[name], over=studies[names[0]]) for name in names[1:])

    @property
    def only_looks(self) -> bool:
        """Whether nothing is to be run."""
        return bool(self.option.collectonly or self.option.plan)

    def check(self, worker_count: int, gated: bool) -> None:
        """Refuse options that contradict the machine or each other.

        Args:
            worker_count: that of `-n`, 0 without it.
            gated: whether --gate was written out.

        Raises:
            Failure: with what to do instead.
        """
        if gated and self.required:
            usage.check_gate(self.requested, self.option)
        usage.check(self.option, self.requested, self.run_dir, lambda: self.hardware, worker_count)

    def cannot_run(self, platform: str, case: Case) -> str | None:
        """What the case needs and this machine has not, or None."""
        return self._needs.lacking(platform, case)

    def open(self, tell: Tell) -> OpenSession:
        """The session's campaign, its devices leased; opened at the first call.

        Raises:
            Failure: it cannot be opened; where that took time, such as waiting for GPUs, it is not tried again.
        """
        if self._refused is not None:
            raise self._refused.with_traceback(None)
        if self._open is None:
            place = Place(self.run_dir, self._run_id, began_unix_s=self._began_unix_s)
            if self.worker is not None:
                own = self.run_dir / workers.FOLDER / self.worker
                place = Place(own, self._run_id, shared=self.run_dir / "shared")
            try:
                self._open = opening.open_campaign(self.option, self.root, place, self.hardware, self.runnable, tell)
            except Failure as failure:
                self._refused = failure
                raise
            campaign = self._open.campaign
            campaign.note_not_asked(self.skipped, self.lacking, self.left_out(campaign.results.cases))
        return self._open

    def close(self, complete: bool) -> None:
        """Stop the servers and write the run down; in the controller, put the workers' runs together."""
        if self._open is not None:
            self._open.close(complete)
        elif self.worker is None:
            self._gathered = workers.gather(self.run_dir, complete, self._run_id, self.left_out)

    def plan(self, width: int) -> str:
        """What this session would do."""
        from perfgate.report import plan as preview

        cases = self.runnable or self.expected
        if not cases:
            return f"no perf test is selected: add -m {' or -m '.join(PLATFORMS)}"
        runs = Path(self.option.history).parent if self.option.history else self.root / "runs"
        store = Store(opening.baselines_dir(self.option, self.root))
        earlier = preview.earlier_runs(runs, self.hardware)
        rows = preview.servers(cases, self.option.launches, bool(self.against), earlier)
        platform = self.hardware.kind if self.hardware.kind in self.requested else self.requested[0]
        caught = {} if self.against else preview.promises(cases, store, self.hardware, platform)
        missing = [f"not on this machine: {reason}" for reason in dict.fromkeys(self.skipped.values())]
        return "\n".join([preview.told(rows, caught, width), *missing])

    def propose(self) -> str | None:
        """Write proposed baselines if they were asked for; returns what to do with them."""
        if not self.option.baseline_record or self.results is None or self.worker is not None:
            return None
        return opening.propose(self.results, opening.baselines_dir(self.option, self.root), self.run_dir)

    def report(self) -> list[str]:
        """Add the run to the history and write the report beside it, if wanted; returns lines for the terminal."""
        if self.results is None or self.worker is not None or self.option.perf_report == "no":
            return []
        from perfgate.report import trends
        from perfgate.report.artifacts import write_safely
        from perfgate.report.page import Report

        results, store = self.results, Store(opening.baselines_dir(self.option, self.root))

        def made() -> Report:
            history = History(Path(self.option.history or self.root / "runs" / HISTORY_FILE))
            history.append(results)
            return Report([results], store, trends.of_run(results, history.entries()))

        return write_safely(made, self.run_dir, os.environ)

    def time_spent(self) -> str | None:
        """Where the session's time went until now; of workers until their ends, for they ran side by side."""
        if self.results is None:
            return None
        return timesheet.told(self.results.sessions, None if self._gathered is not None else time.time())

    def hear(self, asked: Iterable[str], files: Iterable[str]) -> None:
        """Take over from a worker what the tests ask, and which files were read: the controller reads none itself."""
        self.asked, self.files = set(asked), set(map(Path, files))

    def left_out(self, known: Iterable[Case] = ()) -> tuple[str, ...]:
        """What was left out of the suite, however it was: not everything that drops a test says so.

        Args:
            known: cases that an earlier command of the same run has asked.
        """
        missing = sorted(set((self.root / "tests" / "perf").rglob("test_*.py")) - self.files)
        parts = [str(path.relative_to(self.root)) for path in missing]
        if left := len(self.asked - {case.id for case in (*self.expected, *known)}):
            parts.append(f"{wording.count(left, 'case')} that -k, -m, --lf, a test's name or the like did not select")
        return tuple(parts)

    def is_green(self) -> bool:
        """Whether required mode has nothing against this session."""
        from perfgate.report import terminal as report

        return self.results is not None and not self.unjudged() and report.is_green(self.results)

    def unused_baselines(self) -> list[str]:
        """Recorded cases that the suite no longer asks; known only after a complete run of all of it."""
        if self.results is None or not self.results.complete or self.left_out() or self.against:
            return []
        store = Store(opening.baselines_dir(self.option, self.root))
        return gate.unused_baselines(self.expected, self.hardware, store)

    def unjudged(self) -> Sequence[Case]:
        """Selected cases without a verdict."""
        return unjudged(self.expected, self.results.verdicts if self.results is not None else ())
