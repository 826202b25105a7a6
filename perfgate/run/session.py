"""Session: the perf tests of one pytest session, or of one of its workers.

It knows the selected cases, those that cannot run here, and the run directory. It opens
its campaign at first use, so that collecting tests costs nothing. Under pytest-xdist
each worker has a session, and the controller's session merges their runs.
"""

from __future__ import annotations

import dataclasses
import os
import shlex
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import psutil

from perfgate.cases import Case, Load
from perfgate.config import machine_checks
from perfgate.config.config import Config, refuse_occupied
from perfgate.config.option_values import BadOption
from perfgate.config.other_options import other_sessions
from perfgate.config.project import Project
from perfgate.config.studies import selected_studies
from perfgate.engines import injection
from perfgate.engines.base import ServerConfig
from perfgate.errors import Failure
from perfgate.files import remove_temporary
from perfgate.judge import gate
from perfgate.judge.groups import with_group_verdicts
from perfgate.judge.verdict import unjudged
from perfgate.load.ceilings import format_ceilings
from perfgate.machine import hardware, memory
from perfgate.machine.hardware import Hardware
from perfgate.machine.leases import CPU, Lease, acquire
from perfgate.progress import Progress, ProgressDisplay
from perfgate.results import merge, schema
from perfgate.results.recorder import now
from perfgate.results.schema import Mode, RunResults
from perfgate.results.verdict import Verdict
from perfgate.run import run_lock
from perfgate.run.campaign import Campaign
from perfgate.run.initial_results import initial_results, own_command
from perfgate.run.requirements import Requirements
from perfgate.run.run_lock import Reservation
from perfgate.run.schedule import schedule_of
from perfgate.run.single_flight import SharedResults
from perfgate.run.suite_coverage import SuiteCoverage
from perfgate.run.unused import Question, asked_otherwise, versus_of
from perfgate.servers import orphans
from perfgate.servers.pool import Devices, GpuProcess, ServerPool
from perfgate.servers.supervisor.processes import Process, command_of
from perfgate.study import Study, Versus
from perfgate.study.judged import JudgedMetrics, judged_metrics

# Shown to sessions that wait for the devices. A longer session launches no further
# server.
LONGEST_SESSION_S = 4 * 3600.0


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


@dataclass(frozen=True)
class PlannedTests:
    """The tests that a session is about to run.

    Attributes:
        cases: those that this machine can run.
        has_server_tests: whether some tests start servers themselves.
        server_test_gpus: GPUs that such tests may use.
    """

    cases: Sequence[Case] = ()
    has_server_tests: bool = False
    server_test_gpus: int = 0

    def servers(self) -> Iterator[ServerConfig]:
        """The server of each load; one server can occur many times."""
        for case in self.cases:
            for load in case.loads:
                yield load.server


@dataclass(frozen=True)
class Crew:
    """What the workers of one session have in common.

    Attributes:
        run_dir: of the whole run; an earlier session left its results there.
        shared: folder through which they do work once; of this session alone.
    """

    run_dir: Path
    shared: Path


class OpenSession:
    """A campaign with its server pool and the lease of its devices.

    The caller must close it whatever happens.
    """

    def __init__(
        self, campaign: Campaign, pool: ServerPool, lease: Lease
    ) -> None:
        self.campaign = campaign
        self._pool = pool
        self._lease = lease

    def close(self, complete: bool) -> None:
        """Stop the live server, release the devices, and record how the session ended.

        Args:
            complete: whether it reached its end: then what is red is explained first.
        """
        try:
            if complete:
                self.campaign.explain()
        finally:
            self._end(complete)

    def _end(self, complete: bool) -> None:
        began_s = time.monotonic()
        try:
            self._pool.close()
        finally:
            self._lease.release()
            self.campaign.finish(complete, end_s=time.monotonic() - began_s)


def open_session(
    config: Config,
    hardware: Hardware,
    planned: PlannedTests,
    tell: ProgressDisplay,
    crew: Crew | None = None,
) -> OpenSession:
    """Lease the devices, and make the server pool and the campaign.

    Args:
        config: of this process.
        planned: the tests that will run.
        crew: what the workers of one session have in common; None without workers.

    Raises:
        BadOption: the run directory holds a run that cannot be resumed so.
        BadInjection: no server of this session serves the model of an injection.
        NotLeased: another session holds the devices.
    """
    refuse_occupied(config.run_dir, config.resume)
    earlier_dir = crew.run_dir if crew else config.run_dir
    previous = _previous_run(config, earlier_dir, tell)
    if not planned.has_server_tests:
        models = [server.model for server in planned.servers()]
        injection.refuse_unserved(config.injections, models)
    # Nothing is refused after the lease: an unreleased lease would make the next attempt
    # wait for this process.
    lease = _lease(config, hardware, planned, tell)
    config = _with_leased(config, hardware, lease)
    pool = ServerPool(
        log_dir=_log_dir(config.run_dir, previous),
        progress=tell.line,
        devices=_devices(config.gpu_indices, hardware, tell),
        lease=lease,
        owners=_owners(crew),
        leased=_names(config, lease.devices),
    )
    try:
        results = initial_results(
            config, hardware, planned.cases, previous, tell
        )
        workers = None
        if crew is not None:
            workers = SharedResults(crew.shared, tell.line)
        campaign = Campaign(config, results, planned.cases, pool, tell, workers)
    except BaseException:
        pool.close()
        lease.release()
        raise
    return OpenSession(campaign, pool, lease)


def _previous_run(
    config: Config, run_dir: Path, tell: ProgressDisplay
) -> RunResults | None:
    """The run to resume; None where a new one starts.

    Args:
        run_dir: of the whole run.

    Raises:
        BadOption: it compares other builds, or has another target effect or ceiling.
    """
    if not config.resume:
        return None
    if not (run_dir / schema.RESULTS_FILE).exists():
        tell.line(f"no run to resume in {run_dir}: starting a new run there")
        return None
    previous = schema.load(run_dir)
    before = _comparison(
        previous.base_builds, previous.target_effect, previous.mode
    )
    after = _comparison(
        config.base_builds, config.target_effect, schedule_of(config).mode
    )
    if before != after:
        raise BadOption(
            tried=f"resuming the run in {run_dir}",
            seen=(f"it was started with {before}, this command has {after}"),
            remedy=(
                "use the same --against-engine and --target-effect, and the same "
                "--pairs, or another --run-dir"
            ),
        )
    _refuse_other_ceilings(config, run_dir, previous)
    return previous


def _refuse_other_ceilings(
    config: Config, run_dir: Path, previous: RunResults
) -> None:
    """Refuse to judge a part of a run by one ceiling, and the rest by another."""
    if previous.fail_over == config.fail_over:
        return
    before = format_ceilings(previous.fail_over)
    after = format_ceilings(config.fail_over)
    raise BadOption(
        tried=f"resuming the run in {run_dir}",
        seen=f"it was started with {before}, this command has {after}",
        remedy=(
            "use the same --fail-over and study, or another --run-dir; `perfgate judge "
            f"{shlex.quote(str(run_dir))} --fail-over SHARE` judges it by another ceiling"
        ),
    )


def _comparison(
    builds: Mapping[str, str], target_effect: float | None, mode: Mode
) -> str:
    """Base builds, target effect and mode, for a message."""
    names = [f"{engine}={python}" for engine, python in builds.items()]
    text = " ".join(names) or "no base build"
    if mode == "screened":
        text += " for suspect rows"
    if target_effect is None:
        return text
    return f"{text} and a target effect of {target_effect:g}"


def _lease(
    config: Config,
    hardware: Hardware,
    planned: PlannedTests,
    tell: ProgressDisplay,
) -> Lease:
    """The exclusive right to use the GPUs of the largest server, or the CPU."""
    gpu_count = 0
    if not config.external_urls:
        gpu_count = planned.server_test_gpus
        for server in planned.servers():
            gpu_count = max(gpu_count, server.gpu_count)
    devices = [CPU]
    if gpu_count:
        devices = [gpu.uuid for gpu in hardware.gpus]
    devices = _without_orphans(config, devices, max(gpu_count, 1))
    lease = acquire(
        devices,
        max(gpu_count, 1),
        wait_s=config.lease_wait_s,
        hold_s=LONGEST_SESSION_S,
        progress=tell.line,
        folder=config.leases_dir,
    )
    # Its last holder may have been killed in the meantime, and its supervisor too.
    left = orphans.orphans(_names(config, lease.devices))
    if left:
        lease.release()
        raise orphans.refusal(left, lease.devices)
    return lease


def _with_leased(config: Config, hardware: Hardware, lease: Lease) -> Config:
    """The configuration with the leased GPUs."""
    leased = [gpu for gpu in hardware.gpus if gpu.uuid in lease.devices]
    uuids: tuple[str, ...] = ()
    if hardware.is_renumbered:
        uuids = tuple(gpu.uuid for gpu in leased)
    return dataclasses.replace(
        config, gpu_indices=tuple(gpu.index for gpu in leased), gpu_uuids=uuids
    )


def _without_orphans(
    config: Config, devices: list[str], count: int
) -> list[str]:
    """The devices that no process of an earlier session's server uses unwatched.

    Raises:
        ServerLeft: they are too few.
    """
    free = []
    found: dict[str, list[Process]] = {}
    for device in devices:
        left = orphans.orphans(_names(config, [device]))
        if left:
            found[device] = left
        else:
            free.append(device)
    if found and len(free) < count:
        processes = {row for rows in found.values() for row in rows}
        raise orphans.refusal(
            sorted(processes, key=lambda row: row.pid), list(found)
        )
    return free


def _names(config: Config, devices: Sequence[str]) -> list[str]:
    """Names of leased devices; another folder of leases is another machine."""
    return [f"{config.leases_dir}/{device}" for device in devices]


def _log_dir(run_dir: Path, previous: RunResults | None) -> Path:
    """Folder of the servers' logs.

    A resumed session numbers its launches from 0, and must not overwrite earlier logs.
    """
    if previous is None:
        return run_dir / "logs"
    return run_dir / "logs" / f"session-{len(previous.sessions) + 1}"


def _owners(crew: Crew | None) -> tuple[int, ...]:
    """Processes besides this one whose end must stop the servers.

    A worker outlives a killed controller for a while; its servers must not.
    """
    if crew is None:
        return ()
    return (os.getppid(),)


def _devices(
    gpu_indices: tuple[int, ...], hardware: Hardware, tell: ProgressDisplay
) -> Devices | None:
    """How the pool inspects its GPUs; None if only the CPU is used."""
    if not gpu_indices:
        return None

    def strangers() -> Sequence[GpuProcess]:
        return memory.gpu_processes(gpu_indices, command_of)

    if hardware.memory_bytes is None:
        tell.line(
            f"{hardware.name} does not report its memory: whether a stopped server "
            "has freed it is not checked"
        )
        return Devices(strangers=strangers)

    def gpu_memory_used(indices: Sequence[int]) -> list[int]:
        return list(memory.gpu_bytes(indices).values())

    return Devices(strangers=strangers, gpu_memory_used=gpu_memory_used)
