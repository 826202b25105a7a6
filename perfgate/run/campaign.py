"""Which launches, and in which order?

A server is launched once, and everything that the session will ask of it is measured
then, so that the order of tests does not matter. A verdict near the alarm line is worth
two more launches (three more pairs, beside a base build), once; then all data decide.
Nothing is measured again until it passes.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec
import psutil

import perfgate
from perfgate.cases import Case, asking_routing
from perfgate.config.settings import Settings
from perfgate.engines import injection
from perfgate.engines.base import LaunchPlan, ServerConfig
from perfgate.errors import Failure
from perfgate.judge import gate
from perfgate.judge.paired import PAIRS, ab_order
from perfgate.judge.verdict import Decision, Outcome, Verdict
from perfgate.load.metrics import CUSTOM, Metric
from perfgate.load.workload import Workload
from perfgate.machine.hardware import Hardware
from perfgate.progress import Tell
from perfgate.results import merge as workers
from perfgate.results.recorder import Ledger, now
from perfgate.results.schema import Measurement, RunResults
from perfgate.results.timing import Session
from perfgate.run import launch_planner as planning
from perfgate.run.resume import (
    cut_off,
    left_by,
    refuse_other_builds,
    resumed,
    still_needed,
)
from perfgate.run.single_flight import SharedResults
from perfgate.servers.external import AttachedServer
from perfgate.servers.launch_record import ServerDied
from perfgate.servers.pool import ServerPool
from perfgate.servers.server import Server
from perfgate.study import servers_of

if TYPE_CHECKING:
    from perfgate.run.launch_runner import LaunchMeasurement

ESCALATION_LAUNCHES = 2
EARLIER = "(measured by an earlier command)"  # in place of the test that asked


class TwoWorkloads(Failure):
    """Two different workloads under one name."""


class TwoNumbers(Failure):
    """Two numbers of a test's own under one name."""


class Campaign:
    """One session's launches, measurements and verdicts, written to the run directory as they come.

    Args:
        planned: every case that the session will ask; what they need of a server is
            measured on its one launch.
        pool: owns the devices; who made it closes it.
        previous: a run to go on with: launches that it measured whole are kept.
    """

    def __init__(
        self,
        settings: Settings,
        hardware: Hardware,
        planned: Sequence[Case],
        pool: ServerPool,
        tell: Tell,
        previous: RunResults | None = None,
    ) -> None:
        self.store = settings.store
        self._settings = settings
        self._tell = tell
        self._pool = pool
        self._shared: SharedResults | None = None
        self._needs = servers_of(
            (*planned, *(case.base for case in planned))
            if settings.against
            else planned
        )
        self._planned = tuple(planned)
        self._failed: dict[str, Failure] = {}
        self._launched: set[str] = set()
        self._escalated: set[tuple[str, str]] = set()
        # The servers that were started last, each with what measures its launch.
        self._held: dict[str, tuple[Server | AttachedServer, LaunchMeasurement]] = {}
        began_s = settings.began_unix_s or time.time()
        results = RunResults(
            run_id=settings.run_id,
            suite_version=perfgate.__version__,
            command=tuple(psutil.Process().cmdline()),
            started=now(),
            gate=settings.gate,
            hardware=hardware,
            workloads={
                w.name: w for _, workloads in self._needs.values() for w in workloads
            },
            cases=self._planned,
            against=dict(settings.against),
            against_delta=settings.against_delta,
            sessions=(Session(started_unix_s=began_s, seen_unix_s=time.time()),),
            metrics={
                name: custom.metric for name, custom in CUSTOM.items() if custom.compute
            },
        )
        if previous is not None:
            results = resumed(
                results, previous, self._needs, settings.recorded_injection
            )
            kept, had = len(results.launches), len(previous.launches)
            for line in (
                f"resuming {previous.run_id}: {kept} launches kept of {had}",
                *cut_off(previous),
            ):
                self._tell.line(line)
            refuse_other_builds(
                results, self._needs, functools.partial(planning.software, settings)
            )
        self._ledger = Ledger(results, settings.run_dir)
        self._planner = planning.Planner(settings, self._ledger, tell.line)

    @property
    def results(self) -> RunResults:
        """Everything so far."""
        return self._ledger.results

    def join(self, shared: SharedResults) -> None:
        """Work as one of several workers, who find in `shared` what another one has measured."""
        self._shared = shared

    def judge(self, case: Case, test: str) -> Verdict:
        """Measure what the case still needs, decide it, and write the verdict down.

        Args:
            test: id of the test that asks, for the report.

        Raises:
            Failure: a server that it needs cannot be had; the other servers' cases go
                on. The case is INVALID then, unless launches from before say something
                of it.
        """
        try:
            for load in case.loads:
                self._need(load.server.key)
        except Failure:
            if (verdict := self._decide(case)).outcome is Outcome.INVALID:
                self._put(case, test, verdict)
            raise
        verdict = self._decide(case)
        if verdict.needs_launches and not self._cannot_repeat(case):
            self._escalate(case)
            verdict = self._decide(case)
        elif verdict.needs_launches and verdict.outcome is not Outcome.INVALID:
            reason = self._cannot_repeat(case)
            detail = f"One launch does not decide this, and {reason}."
            verdict = msgspec.structs.replace(
                verdict,
                outcome=Outcome.INCONCLUSIVE,
                details=(*verdict.details, detail),
            )
        self._put(case, test, verdict)
        return verdict

    def _cannot_repeat(self, case: Case) -> str:
        """Why the suite cannot measure the case on more launches; empty if it can."""
        if any(self._attached(load.server) for load in case.loads):
            return "a server of somebody else's has no other"
        if case.metric in self.results.metrics and case.of.workload is None:
            return "this number is measured by the test itself, once a session: run it again"
        return ""

    def adopt(self, case: Case) -> None:
        """Take in a case that was not planned, so that `judge` can be asked for it."""
        if case in self._planned:
            return
        self._planned = (*self._planned, case)
        cases = (case, case.base) if self._settings.against else (case,)
        for key, (config, workloads) in servers_of(cases).items():
            known, sent = self._needs.get(key, (config, ()))
            if known != config:
                servers_of((*self._planned,))  # which raises, and names both
            self._needs[key] = (config, tuple(dict.fromkeys((*sent, *workloads))))
            if any(workload not in sent for workload in workloads):
                self._launched.discard(key)
        sends = {
            load.workload.name: load.workload
            for load in case.loads
            if load.workload is not None
        }
        known_cases = self.results.cases
        if case not in known_cases:
            known_cases = (*known_cases, case)
        self._ledger.update(cases=known_cases, workloads=self.results.workloads | sends)

    def hold(self, config: ServerConfig) -> Server | AttachedServer:
        """A server that is ready, for a test that wants it in hand; the one that lives, if it is this one.

        Raises:
            Failure: it cannot be had.
        """
        server: Server | AttachedServer | None = self._attached(config)
        if server is None:
            try:
                server = self._start(self._planner.plan(config), fresh=False)
            except Failure as failure:
                self._ledger.update(
                    failures=self.results.failures | {config.key: failure.row()}
                )
                raise
        held = self._held.get(config.key)
        if held is None or held[0] is not server:
            runner = self._runner_of(config, server)
            settings = self._settings
            runner.begin(
                settings.injection(config),
                settings.silence_timeout_s,
                settings.telemetry,
            )
            self._held[config.key] = server, runner
        return server

    def load(self, config: ServerConfig, workload: Workload) -> Measurement:
        """Send a workload to a server in hand, all of its repetitions; returns what was measured.

        What this launch has been sent already is not sent again.

        Raises:
            TwoWorkloads: the name is that of another workload.
            Failure: the server cannot be had, or died of it.
        """
        known = self.results.workloads.get(workload.name, workload)
        if known != workload:
            raise TwoWorkloads(
                tried=f"sending the workload {workload.name} to {config.key}",
                seen=f"another one has this name in this run: {known}",
                remedy='give each a name of its own: perf_load(server, "NAME", ...)',
            )
        self.hold(config)
        _, runner = self._held[config.key]
        rows = self._ledger.measurements_of(config.key, runner.index)
        if not any(row.workload == workload.name and row.is_sound for row in rows):
            self._ledger.update(
                workloads=self.results.workloads | {workload.name: workload}
            )
            death = runner.more([workload], part=True)
            if death is not None:
                del self._held[config.key]
                raise death
        return self._ledger.measurement(config.key, runner.index, workload.name)

    def note_number(self, config: ServerConfig, metric: Metric, value: float) -> None:
        """Write a number down that a test measured on a server in hand, as a metric of its launch.

        Raises:
            TwoNumbers: this launch has one of that name.
        """
        if config.key not in self._held:
            self.hold(config)
        _, runner = self._held[config.key]
        launch = self._ledger.launches_of(config.key)[-1]
        if metric.name in launch.values:
            raise TwoNumbers(
                tried=f"noting {metric.name} of {config.key}",
                seen=(
                    f"it is {launch.values[metric.name]:g} already: a server has one "
                    "number of a name"
                ),
                remedy="give each number a name of its own",
            )
        self._ledger.update(metrics=self.results.metrics | {metric.name: metric})
        self._ledger.amend_launch(config.key, runner.index, {metric.name: value}, ())
        self._ledger.end_launch(config.key, runner.index)

    def note_not_asked(
        self,
        skipped: Mapping[str, str],
        lacking: Mapping[str, str],
        left_out: Sequence[str],
    ) -> None:
        """Write down which tests cannot run here, which cases are not judged for that, and what was not selected.

        Args:
            skipped, lacking: test or case id -> reason.
            left_out: of the suite, in words.
        """
        self._ledger.update(
            skipped=dict(skipped), lacking=dict(lacking), left_out=tuple(left_out)
        )

    def finish(self, complete: bool, end_s: float = 0.0) -> None:
        """Write the end of the session down, with how each launch ended; `end_s` was spent on ending servers.

        What an earlier command has measured, and was ended before it could decide it,
        is decided now.
        """
        self._ledger.spend(end_s=end_s)
        told = {row.case for row in self.results.verdicts} | {
            case.id for case in self._planned
        }
        late = tuple(
            self._decide(case).row(case, EARLIER)
            for case in self.results.cases
            if case.id not in told
        )
        self._ledger.update(verdicts=(*self.results.verdicts, *late))
        ends = {
            (record.pid, record.started_unix_s): record
            for record in self._pool.launches
        }
        launches = tuple(
            launch
            if launch.start.stop is not None
            else msgspec.structs.replace(
                launch,
                start=ends.get(
                    (launch.start.pid, launch.start.started_unix_s), launch.start
                ),
            )
            for launch in self.results.launches
        )
        self._ledger.update(finished=now(), complete=complete, launches=launches)

    def _attached(self, config: ServerConfig) -> AttachedServer | None:
        """The server that somebody else runs in place of this one, if there is one."""
        return self._settings.attached.get((config.engine, config.model))

    def _put(self, case: Case, test: str, verdict: Verdict) -> None:
        self._ledger.update(verdicts=(*self.results.verdicts, verdict.row(case, test)))

    def _decide(self, case: Case) -> Decision:
        return gate.judge_case(self.results, case, self.store)

    def _need(self, key: str) -> None:
        if key in self._failed:
            raise self._failed[key].with_traceback(None)
        config, workloads = self._needs[key]
        try:
            if self._settings.against:
                self._launch_in_turn(config, workloads)
            elif key not in self._launched:
                self._launched.add(key)
                self._launch_often(config, workloads)
        except Failure as failure:
            self._failed[key] = failure
            raise

    def _launch_often(
        self, config: ServerConfig, workloads: Sequence[Workload]
    ) -> None:
        """Launch it as often as was asked for, less what was measured whole before."""
        key, wanted = (
            config.key,
            1 if self._attached(config) else self._settings.launches,
        )
        for number in range(wanted):
            if (
                needed := still_needed(self.results, key, workloads, number + 1)
            ) is None:
                continue
            if wanted > 1:
                self._tell.line(f"{key}: launch {number + 1} of {wanted}")
            again = functools.partial(self._launch, config, needed, fresh=number > 0)
            self._once(f"{key}, launch {number + 1}" if number else key, key, again)

    def _launch_in_turn(
        self, config: ServerConfig, workloads: Sequence[Workload]
    ) -> None:
        """Launch base and candidate in turn, as often as they were not launched yet."""
        order = ab_order(max(PAIRS, self._settings.launches))
        sides = {"A": config.base, "B": config}
        for place, side in enumerate(order):
            build, number = sides[side], order[: place + 1].count(side)
            needed = still_needed(self.results, build.key, workloads, number)
            if needed is not None:
                self._tell.line(
                    f"{config.key}: {'base' if side == 'A' else 'candidate'}, "
                    f"launch {number} of {order}"
                )
                again = functools.partial(self._launch, build, needed, fresh=True)
                self._once(f"{build.key}, launch {number} of {order}", build.key, again)

    def _once(self, what: str, key: str, measure: Callable[[], None]) -> None:
        """Measure a server here, or take over what another worker of this session has measured of it.

        Args:
            what: name of this piece of work, the same in all workers.
            key: of the server.

        Raises:
            Failure: it cannot be had; the run's data say so too.
        """
        try:
            self._here_or_elsewhere(what, key, measure)
        except Failure as failure:
            self._ledger.update(failures=self.results.failures | {key: failure.row()})
            raise

    def _here_or_elsewhere(
        self, what: str, key: str, measure: Callable[[], None]
    ) -> None:
        if self._shared is None:
            return measure()

        def measured() -> bytes:
            measure()
            return workers.cut(self.results, key)

        sent = self._shared.once(what, measured)
        merged = workers.paste(self.results, key, sent)
        self._ledger.update(
            servers=merged.servers,
            launches=merged.launches,
            measurements=merged.measurements,
        )
        return None

    def _escalate(self, case: Case) -> None:
        """Two fresh launches, or three pairs, for every workload that is undecided by now and has not had them yet."""
        undecided = [
            other
            for other in self._planned
            if all(self._ledger.launches_of(load.server.key) for load in other.loads)
            and self._decide(other).needs_launches
        ]
        wanted: dict[str, list[Workload]] = {}
        for load in (load for other in (case, *undecided) for load in other.loads):
            key = load.server.key
            # What a server holds, it holds after all of its load.
            for workload in (
                self._timed(key) if load.workload is None else [load.workload]
            ):
                if (key, workload.name) not in self._escalated:
                    self._escalated.add((key, workload.name))
                    wanted.setdefault(key, []).append(workload)
        order = (
            ab_order(before=PAIRS)
            if self._settings.against
            else "B" * ESCALATION_LAUNCHES
        )
        for place, side in enumerate(order):
            for key, workloads in wanted.items():
                config, _ = self._needs[key]
                build = config.base if side == "A" else config
                names = ", ".join(workload.name for workload in workloads)
                self._tell.line(
                    f"{build.key}: not clearly fine in {names}; launch "
                    f"{place + 1} of {len(order)} more"
                )
                again = functools.partial(self._launch, build, workloads, fresh=True)
                self._once(
                    f"{build.key}, launch {place + 1} more for {names}",
                    build.key,
                    again,
                )

    def _timed(self, key: str) -> list[Workload]:
        """All load of a server but what asks where its tokens go."""
        config, workloads = self._needs[key]
        asked = asking_routing(config, workloads)
        return [workload for workload in workloads if workload not in asked]

    def _launch(
        self, config: ServerConfig, workloads: Sequence[Workload], fresh: bool = False
    ) -> None:
        """Launch and measure, or go on with a server in hand; if it dies meanwhile, launch once more."""
        settings = self._settings
        part = self._is_part(config.key, {workload.name for workload in workloads})
        if not fresh and (held := self._held.pop(config.key, None)) and held[0].alive():
            self._tell.line(
                f"{config.key}: the server in hand is sent the rest of its load"
            )
            index = held[1].index
            before = {
                row.workload for row in self._ledger.measurements_of(config.key, index)
            }
            part = self._is_part(
                config.key, before | {workload.name for workload in workloads}
            )
            if held[1].more(workloads, part) is None:
                self._held[config.key] = held
                return
            workloads = left_by(
                self.results, self._ledger.launches_of(config.key)[-1], workloads
            )
        if (attached := self._attached(config)) is not None:
            launch = self._runner_of(config, attached)
            launch.run(workloads, injection.NOTHING, settings.silence_timeout_s)
            self._held[config.key] = attached, launch
            return
        for attempt in (1, 2):
            plan = self._planner.plan(config)
            place = (
                "" if fresh else f", server {len(self._launched)} of {len(self._needs)}"
            )
            self._tell.line(
                f"{config.key}: launching{place}, log in {settings.run_dir / 'logs'}"
            )
            server = self._start(plan, fresh)
            launch = self._runner_of(config, server)
            death = launch.run(
                workloads,
                settings.injection(config),
                settings.silence_timeout_s,
                settings.telemetry,
                part,
            )
            if death is None:
                self._held[config.key] = server, launch
                return
            self._tell.line(
                f"{config.key}: {death.seen}{'; trying one fresh launch' if attempt == 1 else ''}"
            )
            workloads = left_by(
                self.results, self._ledger.launches_of(config.key)[-1], workloads
            )

    def _is_part(self, key: str, sent: set[str]) -> bool:
        """Whether a server that was sent so much has not seen all of its load."""
        return not {workload.name for workload in self._timed(key)} <= sent

    def _runner_of(
        self, config: ServerConfig, server: Server | AttachedServer
    ) -> LaunchMeasurement:
        """What measures the next launch of a server."""
        # Imported here: collecting tests must not wait for the load client (uvloop,
        # httptools).
        from perfgate.run.launch_runner import LaunchMeasurement

        give_up: Callable[[str], ServerDied] = self._pool.abandon
        if isinstance(server, AttachedServer):
            give_up = server.death
            self._ledger.put_server(planning.attached(config, server.url))
        index = self._ledger.next_index(config.key)
        return LaunchMeasurement(
            config, server, index, self._ledger, self._tell, give_up
        )

    def _start(self, plan: LaunchPlan, fresh: bool) -> Server:
        """A server that is ready, and how long that took: what is more than its start is the end of the one before."""
        began, before = time.monotonic(), len(self._pool.launches)
        try:
            return self._pool.get(plan, fresh=fresh)
        finally:
            took_s = time.monotonic() - began
            started = self._pool.launches[before:]
            start_s = min(took_s, started[-1].ready_s or took_s) if started else 0.0
            self._ledger.spend(start_s=start_s, end_s=took_s - start_s)
