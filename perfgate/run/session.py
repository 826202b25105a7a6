"""Session: the perf tests of one pytest session, or of one of its workers.

It knows the selected cases, those that cannot run here, and the run directory. It opens
its campaign at first use, so that collecting tests costs nothing. Under pytest-xdist
each worker has a session, and the controller's session merges their runs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence

import msgspec
import psutil

from perfgate.cases import Case, Load
from perfgate.config import machine_checks
from perfgate.config.config import Config
from perfgate.config.other_options import other_sessions
from perfgate.config.project import Project
from perfgate.config.run_folder import refuse_occupied
from perfgate.config.studies import selected_studies
from perfgate.engines.base import ServerConfig
from perfgate.errors import Failure
from perfgate.files import remove_temporary
from perfgate.judge import gate
from perfgate.judge.groups import with_group_verdicts
from perfgate.judge.verdict import unjudged
from perfgate.machine import hardware
from perfgate.machine.hardware import Hardware
from perfgate.progress import Progress, ProgressDisplay
from perfgate.results import merge, schema
from perfgate.results.recorder import now
from perfgate.results.schema import RunResults
from perfgate.results.verdict import Verdict
from perfgate.run import run_lock
from perfgate.run.campaign import Campaign
from perfgate.run.initial_results import initial_results, own_command
from perfgate.run.open_session import (
    Crew,
    OpenSession,
    PlannedTests,
    open_session,
)
from perfgate.run.requirements import Requirements
from perfgate.run.run_lock import Reservation
from perfgate.run.suite_coverage import SuiteCoverage
from perfgate.run.unused import Question, asked_otherwise, versus_of
from perfgate.study import Study, Versus
from perfgate.study.judged import JudgedMetrics, judged_metrics


class PerfSession:
    """The perf tests of one pytest session, or of one worker of it.

    Attributes:
        coverage: which tests of the suite were read and selected.
        cases: every selected case, whether it can run here or not.
        runnable_cases: the selected cases that can run here.
        server_tests: ids of the selected tests that start servers themselves.
        skip_reasons: test id -> what it requires and this machine lacks.
        skipped_cases: the same by case id, of hard cases.
        questions: what the collected tests ask, of this study or of another one.
        other_baselines: ids of recorded cases that a session with other options asks;
            None until it is known.
        has_finished_loop: whether the test loop returned by itself: an exit status does
            not tell, for a second Ctrl-C may come before pytest has set it.
    """

    def __init__(self, config: Config, project: Project) -> None:
        self.config = config
        self.project = project
        self.study = project.study
        self.platforms = config.platforms
        self.coverage = SuiteCoverage(project.tests, project.root)
        self.cases: tuple[Case, ...] = ()
        self.runnable_cases: tuple[Case, ...] = ()
        self.server_tests: set[str] = set()
        self.skip_reasons: dict[str, str] = {}
        self.skipped_cases: dict[str, str] = {}
        self.questions: list[Question] = []
        self.other_baselines: frozenset[str] | None = None
        self.has_finished_loop = False
        self._requirements = Requirements(
            config, self.study, lambda: self.hardware
        )
        self._hardware: Hardware | None = None
        self._open_session: OpenSession | None = None
        self._open_failure: Failure | None = None
        self._merged: RunResults | None = None
        self._unmeasured: RunResults | None = None
        self._reservation: Reservation | None = None
        self._began_unix_s = psutil.Process().create_time()

    @property
    def hardware(self) -> Hardware:
        """The machine, detected once; with --attach the one that -m names."""
        if self._hardware is None:
            if self.config.external_urls and self.platforms:
                self._hardware = hardware.attached(self.platforms[0])
            else:
                self._hardware = hardware.detect(wanted=self._wanted_gpus())
        return self._hardware

    def _wanted_gpus(self) -> list[str]:
        """The GPU products that this session asks for."""
        products = [self.study.gpu_of(name) for name in self.platforms]
        if self.config.hardware_kind:
            products.insert(0, self.config.hardware_kind)
        return [product for product in products if product]

    @property
    def results(self) -> RunResults | None:
        """Everything measured so far; None if nothing was, and nothing is recorded."""
        if self._open_session is None:
            return self._merged or self._unmeasured
        return self._open_session.campaign.results

    @property
    def is_merged(self) -> bool:
        """Whether the results were merged from workers, which ran at the same time."""
        return self._merged is not None

    # Selected cases.

    def studies(self) -> Iterator[Study]:
        """The study of each selected platform, engine and pair."""
        return selected_studies(self.config, self.study)

    def versus(self) -> Iterator[Versus]:
        """Each engine relative to the study's first one; none if all are launched in pairs."""
        if self.config.is_paired:
            return
        yield from versus_of(self.studies(), self._first_engine)

    @property
    def _first_engine(self) -> str | None:
        """The engine that the study compares others with."""
        return next(iter(self.study.engines), None)

    def judged_metrics(self, platform: str) -> JudgedMetrics:
        """Which metrics can fail a run on a platform."""
        return judged_metrics(self.study, platform)

    def add_case(self, case: Case) -> None:
        """Add a case that a test asks while it runs to the selected ones."""
        if case not in self.cases:
            self.cases = (*self.cases, case)
            self.coverage.ids.add(case.id)

    def note_skip(self, test: str, case: Case, reason: object) -> None:
        """Note that a test skipped its case, unless the case has a verdict."""
        verdicts: Sequence[Verdict] = ()
        if self.results is not None:
            verdicts = self.results.verdicts
        is_judged = any(row.case == case.id for row in verdicts)
        if is_judged or test in self.skip_reasons:
            return
        if isinstance(reason, tuple):
            reason = reason[-1]
        self.skip_reasons[test] = str(reason).removeprefix("Skipped: ")

    def left_out(self, earlier: Iterable[Case] = ()) -> tuple[str, ...]:
        """The part of the suite that was not selected, as text.

        Args:
            earlier: cases of an earlier command of the same run.
        """
        selected = set(self.server_tests)
        selected.update(case.id for case in self.cases)
        selected.update(case.id for case in earlier)
        return self.coverage.left_out(selected)

    # What cannot run here.

    def refuse_impossible(self) -> None:
        """Refuse options that this machine cannot satisfy.

        Raises:
            BadOption: with what to do instead.
        """
        machine_checks.refuse_impossible(
            self.config, self.study, lambda: self.hardware
        )

    def skip_reason(self, platform: str, case: Case) -> str | None:
        """What the case requires and this machine lacks; None if it can run."""
        return self._requirements.skip_reason(platform, case)

    def server_skip_reason(
        self, platform: str, server: ServerConfig
    ) -> str | None:
        """Why a test cannot start this server; None if it can."""
        if self.config.worker is not None:
            return "starts a server of its own, which workers cannot share: leave -n out"
        case = Case(experiment="", metric="", numerator=Load(server=server))
        return self._requirements.skip_reason(platform, case)

    # Open and close.

    def reserve(self) -> None:
        """Keep other sessions out of the run directory until `release`.

        What an earlier session left is made ready to be resumed.

        Raises:
            BadOption: the run directory holds a run. RunInUse: another session uses it.
            RunDataError: it cannot be written, or its data cannot be read.
        """
        config = self.config
        self._reservation = run_lock.reserve(config.run_dir)
        refuse_occupied(config.run_dir, config.resume)
        remove_temporary(config.run_dir)
        if config.resume:
            merge.recover(config.run_dir)

    def release(self) -> None:
        """Let other sessions use the run directory."""
        if self._reservation is not None:
            self._reservation.release()

    def open(self, tell: ProgressDisplay) -> OpenSession:
        """The session's campaign with its devices leased; opened at the first call.

        Raises:
            Failure: it cannot be opened. There is no second attempt, because it may
                take as long as the wait for GPUs.
        """
        if self._open_failure is not None:
            raise self._open_failure.with_traceback(None)
        if self._open_session is None:
            planned = PlannedTests(
                cases=self.runnable_cases,
                has_server_tests=bool(self.server_tests),
                server_test_gpus=self._server_test_gpus(),
            )
            try:
                self._open_session = open_session(
                    self._process_config(),
                    self.hardware,
                    planned,
                    tell,
                    self._crew(),
                )
            except Failure as failure:
                self._open_failure = failure
                raise
            self._record_omissions(self._open_session.campaign)
        return self._open_session

    def close(self, complete: bool) -> None:
        """Stop the servers and write the run; in the controller, merge the workers' runs.

        Args:
            complete: whether the session reached its end.
        """
        if self._open_session is not None:
            # Tests have added cases since it was opened.
            self._record_omissions(self._open_session.campaign)
            self._open_session.close(complete)
        elif self.config.worker is None:
            self._merged = merge.gather(
                self.config.run_dir,
                self.config.run_id,
                complete,
                self.left_out,
                self._conclude,
            )

    def record_nothing(self, reason: str) -> None:
        """Write a run without measurements, so that its files say why there are none.

        A run that an earlier command left in the run directory stays as it is.

        Args:
            reason: why what can run here was not measured.
        """
        if self.config.worker or merge.has_run(self.config.run_dir):
            return
        if self._open_failure is not None:
            reason = self._open_failure.seen
        lacking = {case.id: reason for case in self.runnable_cases}
        results = initial_results(
            self._process_config(),
            self.hardware,
            (),
            None,
            Progress(lambda text: None, rewritable=False),
        )
        self._unmeasured = msgspec.structs.replace(
            results,
            finished=now(),
            skipped=dict(self.skip_reasons),
            lacking=lacking | self.skipped_cases,
            left_out=self.left_out(),
        )
        schema.save(self._unmeasured, self.config.run_dir)

    def _conclude(self, results: RunResults) -> RunResults:
        """The merged run with the verdicts over several of its rows.

        Its command is that of the controller: those of workers say nothing.
        """
        results = msgspec.structs.replace(results, command=own_command())
        return with_group_verdicts(results, self.config.store)

    def unused_baselines(self) -> list[str]:
        """Recorded cases that no test asks under any options.

        They are known after a complete run only.

        Raises:
            BaselineError: a file is there and cannot be read.
        """
        results = self.results
        if results is None or not results.is_whole:
            return []
        if self._asks_a_part:
            return []
        unasked = self._unasked()
        others = self.other_baselines
        if others is None:
            others = self._asked_otherwise(unasked)
        return [case for case in unasked if case not in others]

    def find_other_baselines(self) -> None:
        """Find the recorded cases that a session with other options asks.

        Raises:
            BaselineError: a file is there and cannot be read.
        """
        if not self._asks_a_part:
            self.other_baselines = self._asked_otherwise(self._unasked())

    def _asked_otherwise(self, case_ids: list[str]) -> frozenset[str]:
        """Those of the cases that a session with other options asks."""
        servers = {load.server for case in self.cases for load in case.loads}
        return asked_otherwise(
            case_ids,
            self.questions,
            other_sessions(self.config, self.study, servers),
            self._first_engine,
        )

    @property
    def _asks_a_part(self) -> bool:
        """Whether tests were left out, or compare two builds and no baselines."""
        return bool(self.left_out()) or self.config.is_paired

    def _unasked(self) -> list[str]:
        """Recorded cases of the selected servers that this session does not ask."""
        return gate.unused_baselines(
            self.cases, self.hardware, self.config.store
        )

    def unjudged(self) -> Sequence[Case]:
        """Selected cases without a verdict."""
        verdicts: Sequence[Verdict] = ()
        if self.results is not None:
            verdicts = self.results.verdicts
        return unjudged(self.cases, verdicts)

    def _process_config(self) -> Config:
        """The configuration of this process; a worker has a folder of its own."""
        config = self.config
        if config.worker is None:
            return dataclasses.replace(config, began_unix_s=self._began_unix_s)
        folder = merge.session_dir(config.run_dir, config.session)
        return dataclasses.replace(config, run_dir=folder / config.worker)

    def _crew(self) -> Crew | None:
        """What the workers of this session have in common; None without workers."""
        config = self.config
        if config.worker is None:
            return None
        folder = merge.session_dir(config.run_dir, config.session)
        return Crew(run_dir=config.run_dir, shared=folder / "shared")

    def _server_test_gpus(self) -> int:
        """GPUs to lease for tests that start servers: as many as the study's servers use."""
        if not self.server_tests:
            return 0
        gpu_count = max(study.gpu_count for study in self.studies())
        if gpu_count == 0:
            return 0
        return min(gpu_count, self.hardware.count)

    def _record_omissions(self, campaign: Campaign) -> None:
        campaign.note_not_asked(
            self.skip_reasons,
            self.skipped_cases,
            self.left_out(campaign.results.cases),
        )
