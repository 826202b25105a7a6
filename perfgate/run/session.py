"""Session: what one pytest session, or one of its workers, knows of its perf tests.

Which platforms were selected, which cases can run here, where the data go, and (at
first use, so that collecting tests costs nothing) the open campaign. Under pytest-xdist
each worker has such a session, and the controller has one that merges the workers'
runs.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import psutil

from perfgate import formatting
from perfgate.cases import Case, Load
from perfgate.config import choices, usage
from perfgate.config.project import Project
from perfgate.engines.base import ServerConfig
from perfgate.engines.registry import ENGINES
from perfgate.errors import Failure
from perfgate.judge import gate
from perfgate.judge.baseline_store import Store
from perfgate.judge.verdict import Verdict, unjudged
from perfgate.machine import hardware
from perfgate.progress import Tell
from perfgate.results import merge
from perfgate.results.schema import RunResults
from perfgate.run import opening
from perfgate.run.opening import OpenSession, Place
from perfgate.run.requirements import Needs
from perfgate.study import Study, Versus, study_of


class PerfSession:
    """One session, or one worker of it.

    Args:
        option: the parsed options.
        project: the project that the session works in.
        words: every word of -m; platforms among them are selected.
        worker: name of this worker, None without workers and in the controller.
        run_dir: of the whole session, as the controller tells its workers; None chooses
            one.

    Attributes:
        suite: where all of its perf tests lie; what of them was not read was left out.
        expected: every case that was selected, whether it can run here or not.
        runnable: those that can.
        skipped: test id -> what it needs and this machine lacks.
        lacking: the same by case, of those to be judged.
        files: those whose tests were collected.
        asked: ids of all cases of theirs on the selected platforms, and of all tests of
            theirs that start servers themselves.
        in_hand: ids of the selected tests that start servers themselves.
    """

    def __init__(
        self,
        option: argparse.Namespace,
        project: Project,
        words: set[str],
        worker: str | None = None,
        run_dir: Path | None = None,
    ) -> None:
        self.option = option
        self.project = project
        self.study = project.study
        self.suite = project.tests
        self.words = words
        self.requested = tuple(name for name in self.study.platforms if name in words)
        self.worker = worker
        self.run_dir = run_dir or choices.run_dir(option, project)
        self._run_id = choices.run_id(option, self.run_dir)
        self.expected: tuple[Case, ...] = ()
        self.runnable: tuple[Case, ...] = ()
        self.skipped: dict[str, str] = {}
        self.lacking: dict[str, str] = {}
        self._needs = Needs(option, self.study, lambda: self.hardware)
        self.files: set[Path] = set()
        self.asked: set[str] = set()
        self.in_hand: set[str] = set()
        self._hardware: hardware.Hardware | None = None
        self._open: OpenSession | None = None
        self._refused: Failure | None = None
        self._gathered: RunResults | None = None
        self._began_unix_s = psutil.Process().create_time()

    @property
    def hardware(self) -> hardware.Hardware:
        """The machine, asked once; with --attach what -m says it is."""
        if self._hardware is None:
            if self.option.attach:
                self._hardware = hardware.attached(self.requested[0])
            else:
                self._hardware = hardware.detect()
        return self._hardware

    @property
    def required(self) -> bool:
        """Whether everything but PASSED and IMPROVED is red."""
        return bool(self.option.gate == "required")

    @property
    def results(self) -> RunResults | None:
        """Everything measured so far; None if nothing was."""
        if self._open is None:
            return self._gathered
        return self._open.campaign.results

    @property
    def is_gathered(self) -> bool:
        """Whether the results were merged from workers, which ran side by side."""
        return self._gathered is not None

    @property
    def against(self) -> dict[str, str]:
        """Base builds to compare with: engine -> Python."""
        return choices.pairs("--against-engine", self.option.against_engine)

    @property
    def store(self) -> Store:
        """The baselines that this session is judged by."""
        return choices.store(self.option, self.project)

    def engines(self) -> Sequence[str]:
        """Engines under test: the option's, those with a base build, the study's, or all."""
        named = self.option.engine or sorted(self.against) or self.study.engines
        return list(named) or sorted(ENGINES)

    def studies(self) -> Iterator[Study]:
        """One for each selected platform and engine."""
        engines = self.engines()
        for platform in self.requested:
            for engine in engines:
                study = study_of(
                    self.study, platform, engine, self.option.tp, self.option.weights
                )
                yield dataclasses.replace(
                    study,
                    beside_base=bool(self.against),
                    beside_engines=len(engines) > 1,
                )

    def versus(self) -> Iterator[Versus]:
        """Each engine relative to the study's first one; none with base builds."""
        if self.against:
            return
        by_platform: dict[str, dict[str, Study]] = {}
        for study in self.studies():
            by_platform.setdefault(study.platform, {})[study.moe.engine] = study
        for studies in by_platform.values():
            names = sorted(
                studies, key=lambda name: (name not in self.study.engines[:1], name)
            )
            for name in names[1:]:
                yield Versus(of=studies[name], over=studies[names[0]])

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
            usage.check_gate(self.requested, self.option, tuple(self.study.platforms))
        usage.check(
            self.option,
            self.study,
            self.requested,
            self.run_dir,
            lambda: self.hardware,
            worker_count,
        )

    def cannot_run(self, platform: str, case: Case) -> str | None:
        """What the case needs and this machine lacks, or None."""
        return self._needs.lacking(platform, case)

    def lacks_for(self, platform: str, config: ServerConfig) -> str | None:
        """Why a test cannot have a server in hand: what this machine lacks, mostly; or None."""
        if self.worker is not None:
            return "starts a server itself, which workers do not share: leave -n out"
        case = Case(experiment="", metric="", of=Load(server=config))
        return self._needs.lacking(platform, case)

    def _gpus_in_hand(self) -> int:
        """GPUs to lease for servers that tests start themselves: the study's, of those here."""
        if not self.in_hand:
            return 0
        wanted = max(study.gpu_count for study in self.studies())
        if wanted:
            wanted = min(wanted, self.hardware.count)
        return wanted

    def open(self, tell: Tell) -> OpenSession:
        """The session's campaign, its devices leased; opened at the first call.

        Raises:
            Failure: it cannot be opened; where that took time, such as waiting for
                GPUs, it is not tried again.
        """
        if self._refused is not None:
            raise self._refused.with_traceback(None)
        if self._open is None:
            place = Place(self.run_dir, self._run_id, began_unix_s=self._began_unix_s)
            if self.worker is not None:
                own = self.run_dir / merge.FOLDER / self.worker
                place = Place(own, self._run_id, shared=self.run_dir / "shared")
            try:
                self._open = opening.open_campaign(
                    self.option,
                    self.project,
                    place,
                    self.hardware,
                    opening.Planned(
                        self.runnable, self._gpus_in_hand(), bool(self.in_hand)
                    ),
                    tell,
                )
            except Failure as failure:
                self._refused = failure
                raise
            self._note_not_asked(self._open)
        return self._open

    def _note_not_asked(self, session: OpenSession) -> None:
        known = session.campaign.results.cases
        session.campaign.note_not_asked(
            self.skipped, self.lacking, self.left_out(known)
        )

    def expect(self, case: Case) -> None:
        """A case that a test asks while it runs: it counts as selected from now on."""
        if case not in self.expected:
            self.expected = (*self.expected, case)
            self.asked.add(case.id)

    def close(self, complete: bool) -> None:
        """Stop the servers and write the run down; in the controller, merge the workers' runs."""
        if self._open is not None:
            self._note_not_asked(self._open)  # some of it is known only now
            self._open.close(complete)
        elif self.worker is None:
            self._gathered = merge.gather(
                self.run_dir, complete, self._run_id, self.left_out
            )

    def hear(self, asked: Iterable[str], files: Iterable[str]) -> None:
        """Note what a worker's tests ask and which files it read: the controller reads none."""
        self.asked, self.files = set(asked), set(map(Path, files))

    def left_out(self, known: Iterable[Case] = ()) -> tuple[str, ...]:
        """What was left out of the suite, however it was: not everything that drops a test says so.

        Args:
            known: cases that an earlier command of the same run has asked.
        """
        parts = []
        for path in sorted(self._test_files() - self.files):
            if path.is_relative_to(self.project.root):
                path = path.relative_to(self.project.root)
            parts.append(str(path))
        left = len(
            self.asked - self.in_hand - {case.id for case in (*self.expected, *known)}
        )
        if left:
            parts.append(
                f"{formatting.count(left, 'case')} that -k, -m, --lf, a test's "
                "name or the like did not select"
            )
        return tuple(parts)

    def _test_files(self) -> set[Path]:
        found: set[Path] = set()
        for place in self.suite:
            if place.is_dir():
                found |= set(place.rglob("test_*.py"))
            elif place.is_file():
                found.add(place)
        return found

    def unused_baselines(self) -> list[str]:
        """Recorded cases that the suite no longer asks; known only after a complete run of it."""
        if (
            self.results is None
            or not self.results.complete
            or self.left_out()
            or self.against
        ):
            return []
        return gate.unused_baselines(self.expected, self.hardware, self.store)

    def unjudged(self) -> Sequence[Case]:
        """Selected cases without a verdict."""
        verdicts: Sequence[Verdict] = ()
        if self.results is not None:
            verdicts = self.results.verdicts
        return unjudged(self.expected, verdicts)
