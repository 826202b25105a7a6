"""Escalation: further launches for cases in doubt, and launches in pairs for suspects.

What one launch leaves in doubt gets more launches, once; then all data decide. Nothing
is repeated until it passes.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from perfgate.cases import Case
from perfgate.engines.base import ServerConfig
from perfgate.errors import Failure
from perfgate.judge import gate
from perfgate.judge import screen as screening
from perfgate.judge.baseline_store import Store
from perfgate.judge.verdict import Decision, Verdict
from perfgate.load.workload import Workload
from perfgate.progress import ProgressDisplay
from perfgate.results.recorder import Recorder
from perfgate.results.schema import RunResults
from perfgate.run.initial_results import builds_in_pairs
from perfgate.run.launcher import Launcher
from perfgate.run.one_launch import in_doubt, is_clearly_worse, of_one_launch
from perfgate.run.schedule import Schedule, ScheduledLaunch, Screened


@dataclass(frozen=True)
class _Further:
    """A launch of an escalation.

    Attributes:
        server: key of the one that is in doubt; the launch may be of its base build.
    """

    server: str
    launch: ScheduledLaunch
    workloads: Sequence[Workload]


class Escalation:
    """Decides the cases of one session, with further launches where they need them.

    Args:
        schedule: of the session.
        store: the baselines.
    """

    def __init__(
        self,
        launcher: Launcher,
        recorder: Recorder,
        schedule: Schedule,
        store: Store,
        tell: ProgressDisplay,
    ) -> None:
        self._launcher = launcher
        self._recorder = recorder
        self._schedule = schedule
        self._store = store
        self._tell = tell
        # (server, workload) that had further launches, and those launched in pairs.
        self._escalated: set[tuple[str, str]] = set()
        self._paired: set[tuple[str, str]] = set()
        self._failures: dict[str, Failure] = {}

    @property
    def _results(self) -> RunResults:
        return self._recorder.results

    def decide(self, case: Case) -> Decision:
        """The verdict on what is measured so far."""
        return gate.judge_case(self._results, case, self._store)

    def verdict(self, case: Case, planned: Sequence[Case]) -> Verdict:
        """The verdict, after further launches where it needs them and they are possible.

        Args:
            planned: the cases of the session: those in doubt share the launches.

        Raises:
            Failure: a launch that this case needs failed, now or for another case.
        """
        decision = self.decide(case)
        if self._goes_to_pairs(case, decision):
            self._launch_pairs(planned)
            decision = self.decide(case)
        if not decision.needs_launches:
            return decision
        if case.is_duel:
            self._launcher.take_turns(
                case.numerator.server, decision.needs_launches
            )
            return self.decide(case)
        reason = self._cannot_repeat(case)
        if not reason:
            self._escalate(case, planned)
            return self.decide(case)
        is_own_number = screening.is_own_number(self._results, case)
        if is_own_number and is_clearly_worse(decision):
            return of_one_launch(decision)
        return in_doubt(decision, reason)

    def _goes_to_pairs(self, case: Case, screen: Decision) -> bool:
        """Whether pairs decide the case, as the screen does not clear it."""
        schedule = self._schedule
        if not isinstance(schedule, Screened) or not schedule.has_pairs(case):
            return False
        if case.id in self._results.suspects:
            return True
        is_suspect = screening.is_suspect(case, screen)
        return is_suspect and screening.can_repeat(self._results, case)

    def _launch_pairs(self, planned: Iterable[Case]) -> None:
        """Launch the servers of all suspect cases in turn with their base builds.

        Of each server once a session, and with the workloads of suspect cases alone.
        After a failure the verdict of the screen stands.
        """
        suspects = []
        for case in self._measured(planned):
            if self._goes_to_pairs(case, self.decide(case)):
                suspects.append(case)
        ids = [case.id for case in suspects]
        known = dict.fromkeys((*self._results.suspects, *ids))
        self._recorder.update(suspects=tuple(known))
        needs = self._launcher.needs
        needs.update(builds_in_pairs(needs, suspects))
        candidates = [case.candidate for case in suspects]
        loads = self._new_loads(candidates, self._paired)
        for key, workloads in loads.items():
            candidate, _ = needs[key]
            names = ", ".join(workload.name for workload in workloads)
            self._say(
                candidate, f"launching pairs for {names}, which is suspect"
            )
            try:
                self._launcher.measure_first(candidate, workloads)
            except Failure as failure:
                text = f"no pairs, the verdict of the screen stands: {failure.seen}"
                self._say(candidate, text)

    def _cannot_repeat(self, case: Case) -> str:
        """Why the case cannot be measured on more launches; empty if it can."""
        for load in case.loads:
            source = self._launcher.source_of(load.server)
            if source.schedule.no_escalation:
                return source.schedule.no_escalation
        if screening.is_own_number(self._results, case):
            return "the test measures this number once a session: run it again"
        return ""

    def _escalate(self, case: Case, planned: Iterable[Case]) -> None:
        """Make more launches for each workload that is in doubt, once a session.

        Raises:
            Failure: a launch that this case needs failed, now or for another case.
        """
        case = self._judged_case(case)
        undecided = (case, *self._undecided(planned))
        loads = self._new_loads(undecided, self._escalated)
        in_turn = self._further_launches(loads)
        for place, further in enumerate(in_turn):
            left = [later.launch for later in in_turn[place + 1 :]]
            self._measure_further(further, left)
        for load in case.loads:
            failure = self._failures.get(load.server.key)
            if failure is not None:
                raise failure.with_traceback(None)

    def _further_launches(
        self, loads: Mapping[str, Sequence[Workload]]
    ) -> list[_Further]:
        """The servers take turns: one launch of each, then the next one of each.

        Args:
            loads: server key -> workloads that are in doubt.
        """
        by_server = []
        for key, workloads in loads.items():
            config, _ = self._launcher.needs[key]
            names = ", ".join(workload.name for workload in workloads)
            schedule = self._launcher.source_of(config).schedule
            launches = []
            for launch in schedule.further(config, names):
                launches.append(_Further(key, launch, workloads))
            by_server.append(launches)
        in_turn = []
        for turn in itertools.zip_longest(*by_server):
            for further in turn:
                if further is not None:
                    in_turn.append(further)
        return in_turn

    def _measure_further(
        self, further: _Further, left: Sequence[ScheduledLaunch]
    ) -> None:
        """Measure a launch of an escalation; after a failure none of that server.

        Args:
            left: what is known of the launches after it.
        """
        if further.server in self._failures:
            return
        try:
            self._launcher.measure_launch(
                further.launch, further.workloads, left
            )
        except Failure as failure:
            self._failures[further.server] = failure

    def _judged_case(self, case: Case) -> Case:
        """The case; on the servers in pairs where pairs left a suspect one undecided."""
        if self.decide(case).screen is None:
            return case
        return case.candidate

    def _new_loads(
        self, cases: Iterable[Case], known: set[tuple[str, str]]
    ) -> dict[str, list[Workload]]:
        """Server -> workloads of these cases that ask for launches.

        Args:
            known: (server, workload) that had such launches, to leave out; the new
                ones are added.
        """
        doubtful: dict[str, list[Workload]] = {}
        for case in cases:
            for load in case.loads:
                key = load.server.key
                # Memory is recorded after all of the load.
                workloads = self._launcher.timed(key)
                if load.workload is not None:
                    workloads = [load.workload]
                for workload in workloads:
                    if (key, workload.name) not in known:
                        known.add((key, workload.name))
                        doubtful.setdefault(key, []).append(workload)
        return doubtful

    def _undecided(self, planned: Iterable[Case]) -> Iterator[Case]:
        """Those cases that were measured, and whose verdict needs more launches."""
        for case in self._measured(planned):
            if self.decide(case).needs_launches:
                yield self._judged_case(case)

    def _measured(self, planned: Iterable[Case]) -> Iterator[Case]:
        """Those cases whose servers were launched."""
        for case in planned:
            servers = [load.server.key for load in case.loads]
            if all(self._recorder.launches_of(key) for key in servers):
                yield case

    def _say(self, config: ServerConfig, text: str) -> None:
        self._tell.line(f"{config.key}: {text}")
