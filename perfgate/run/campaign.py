"""Campaign: what one session measures and judges, for its tests; records all of it.

Servers are launched by `perfgate.run.launcher`, once each, so that the order of tests
does not matter. What this leaves in doubt gets more launches
(`perfgate.run.escalation`).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import msgspec

from perfgate.cases import Case
from perfgate.config.config import Config
from perfgate.engines.base import ServerConfig
from perfgate.errors import Failure
from perfgate.judge.groups import with_group_verdicts
from perfgate.judge.verdict import Outcome, Verdict
from perfgate.load.metrics import Metric
from perfgate.load.workload import Workload
from perfgate.progress import ProgressDisplay
from perfgate.results.recorder import LaunchEnd, LaunchFigures, Recorder, now
from perfgate.results.schema import Launch, Measurement, RunResults
from perfgate.run.escalation import Escalation
from perfgate.run.launcher import Launcher
from perfgate.run.one_launch import after_failed_launch
from perfgate.run.schedule import measured_cases, schedule_of
from perfgate.run.single_flight import SharedResults
from perfgate.servers.launch_record import LaunchRecord
from perfgate.servers.pool import ServerPool
from perfgate.servers.running import RunningServer
from perfgate.study import servers_of

EARLIER = "(measured by an earlier command)"  # in place of the test's id


class TwoWorkloads(Failure):
    """Two different workloads have one name."""


class TwoNumbers(Failure):
    """Two numbers that a test measured have one name."""


class Campaign:
    """One session's launches, measurements and verdicts, written to the run directory.

    Args:
        results: what is known at the start (`perfgate.run.initial_results`).
        planned: every case that the session will judge; what they need of a server is
            measured on its one launch.
        pool: owns the devices; who made it closes it.
        shared: where several workers of one session find each other's results.
    """

    def __init__(
        self,
        settings: Config,
        results: RunResults,
        planned: Sequence[Case],
        pool: ServerPool,
        tell: ProgressDisplay,
        shared: SharedResults | None = None,
    ) -> None:
        self._settings = settings
        self._store = settings.store
        self._tell = tell
        self._pool = pool
        self._is_worker = shared is not None
        self._planned = tuple(planned)
        self._schedule = schedule_of(settings)
        self._recorder = Recorder(results, settings.run_dir)
        self._launcher = Launcher(
            settings,
            servers_of(measured_cases(self._schedule, planned)),
            self._recorder,
            pool,
            tell,
            shared,
        )
        self._escalation = Escalation(
            self._launcher, self._recorder, self._schedule, self._store, tell
        )

    @property
    def results(self) -> RunResults:
        """Everything so far."""
        return self._recorder.results

    def judge(self, case: Case, test: str) -> Verdict:
        """Measure what the case still needs, judge it, and record the verdict.

        Args:
            test: id of the test that asks, for the report.

        Raises:
            Failure: a server that it needs failed to start; cases of other servers can
                still be judged. A verdict is recorded first: INVALID if nothing of the
                case was measured, INCONCLUSIVE if it needs the launch that failed.
        """
        try:
            if case.is_duel:
                self._launcher.measure_duel(case.numerator.server)
            else:
                for load in case.loads:
                    self._launcher.measure_server(load.server.key)
        except Failure:
            decision = self._escalation.decide(case)
            if decision.outcome is Outcome.INVALID:
                self._record_verdict(case, test, decision)
            raise
        try:
            verdict = self._escalation.verdict(case, self._planned)
        except Failure as failure:
            verdict = after_failed_launch(
                self._escalation.decide(case), failure
            )
            self._record_verdict(case, test, verdict)
            raise
        self._record_verdict(case, test, verdict)
        return verdict

    def adopt(self, case: Case) -> None:
        """Take in a case that was not planned, so that it can be judged.

        Raises:
            AmbiguousServer: a planned server has its key and another configuration.
        """
        if case in self._planned:
            return
        self._launcher.expect(
            servers_of(measured_cases(self._schedule, [case]))
        )
        self._planned = (*self._planned, case)
        workloads_by_name = dict(self.results.workloads)
        for load in case.loads:
            if load.workload is not None:
                workloads_by_name[load.workload.name] = load.workload
        cases = dict.fromkeys((*self.results.cases, case))
        self._recorder.update(cases=tuple(cases), workloads=workloads_by_name)

    def hold(self, config: ServerConfig) -> RunningServer:
        """A server that is ready, for a test that sends its own load.

        Raises:
            Failure: it failed to start.
            AmbiguousServer: a server of another configuration has its key.
        """
        return self._launcher.hold(config)

    def load(self, config: ServerConfig, workload: Workload) -> Measurement:
        """Send a workload to a running server, with all of its repetitions.

        A workload that this launch has measured already is not sent again.

        Raises:
            TwoWorkloads: another workload has its name.
            Failure: the server failed to start, or died of it.
        """
        known = self.results.workloads.get(workload.name, workload)
        if known != workload:
            raise TwoWorkloads(
                tried=f"sending the workload {workload.name} to {config.key}",
                seen=f"another workload of this run has this name: {known}",
                remedy='use another name: perf_load(server, "NAME", ...)',
            )
        return self._launcher.send(config, workload)

    def note_number(
        self, config: ServerConfig, metric: Metric, value: float
    ) -> None:
        """Record a number that a test measured, as a metric of its server's launch.

        Raises:
            TwoNumbers: this launch has another number of that name.
        """
        launch = self._launcher.latest(config)
        if metric.name in launch.values:
            known = launch.values[metric.name]
            raise TwoNumbers(
                tried=f"recording {metric.name} of {config.key}",
                seen=f"this launch has {metric.name} = {known:g} already",
                remedy="use another metric name for each number",
            )
        self._recorder.update(
            metrics=self.results.metrics | {metric.name: metric}
        )
        self._recorder.add(
            LaunchFigures(config.key, launch.index, values={metric.name: value})
        )
        self._recorder.add(LaunchEnd(config.key, launch.index))

    def note_not_asked(
        self,
        skipped: Mapping[str, str],
        lacking: Mapping[str, str],
        left_out: Sequence[str],
    ) -> None:
        """Record which tests cannot run here, and what of the suite was not selected.

        Args:
            skipped, lacking: test or case id -> reason.
            left_out: parts of the suite, as text.
        """
        self._recorder.update(
            skipped=dict(skipped),
            lacking=dict(lacking),
            left_out=tuple(left_out),
        )

    def explain(self) -> None:
        """Profile what is red, where this session asks for it; verdicts stay as they are."""
        # Imported here: collecting tests must not wait for the load client.
        from perfgate.run.explain.explainer import Explainer, is_wanted

        if not is_wanted(self._settings, self.results):
            return
        explainer = Explainer(
            self._settings, self._pool, self.results.hardware, self._tell
        )
        judged = with_group_verdicts(self.results, self._store)
        began_s = time.monotonic()
        for explanation in explainer.explain(judged):
            now_s = time.monotonic()
            self._recorder.spend(explain_s=now_s - began_s)
            began_s = now_s
            self._recorder.put_explanation(explanation)

    def finish(self, complete: bool, end_s: float = 0.0) -> None:
        """Record the end of the session, and how each launch ended.

        Cases that an earlier command measured and did not judge are judged here.

        Args:
            complete: whether the test loop returned by itself. The run is complete
                if its data lack nothing, too.
            end_s: seconds spent on ending servers.
        """
        self._recorder.spend(end_s=end_s)
        verdicts = (*self.results.verdicts, *self._earlier_verdicts())
        self._recorder.update(
            finished=now(), launches=self._ended_launches(), verdicts=verdicts
        )
        judged = self.results
        broken: Failure | None = None
        try:
            judged = with_group_verdicts(self.results, self._store)
        except Failure as failure:
            broken = failure
        self._recorder.finish(
            complete=complete and self._lacks_nothing(),
            group_verdicts=judged.group_verdicts,
            diagnoses=judged.diagnoses,
        )
        if broken is not None:
            raise broken

    def _earlier_verdicts(self) -> list[Verdict]:
        """Verdicts on cases that an earlier command measured and did not judge."""
        known = {row.case for row in self.results.verdicts}
        known |= {case.id for case in self._planned}
        verdicts = []
        for case in self.results.cases:
            if case.id not in known:
                decision = self._escalation.decide(case)
                verdicts.append(decision.row(case, EARLIER))
        return verdicts

    def _ended_launches(self) -> tuple[Launch, ...]:
        """The launches, with how the pool ended their servers."""
        records = {_process(record): record for record in self._pool.launches}
        launches = []
        for launch in self.results.launches:
            start = launch.start
            if start.stop is None:
                start = records.get(_process(start), start)
            launches.append(msgspec.structs.replace(launch, start=start))
        return tuple(launches)

    def _lacks_nothing(self) -> bool:
        """Whether nothing is missing; a worker has only some of the session's cases."""
        if self.results.cut_off:
            return False
        return self._is_worker or not self.results.unanswered

    def _record_verdict(self, case: Case, test: str, verdict: Verdict) -> None:
        rows = (*self.results.verdicts, verdict.row(case, test))
        self._recorder.update(verdicts=rows)


def _process(record: LaunchRecord) -> tuple[int, float]:
    return record.pid, record.started_unix_s
