"""Explainer: profiles what is red at the end of a session, and puts back what the engine chose.

Each diagnosis of a loss gets one profile: of the load that lost most, on one more launch
of base and candidate. Where the cause is a choice that an argument can put back, one more
pair shows whether the loss goes with it.
"""

from __future__ import annotations

from collections.abc import Iterator

from perfgate.config.config import Config
from perfgate.errors import Failure
from perfgate.judge.causes import next_step
from perfgate.judge.causes.next_step import PutBack
from perfgate.machine.hardware import Hardware
from perfgate.progress import ProgressDisplay
from perfgate.results.profile import (
    CounterProof,
    Explanation,
    Profile,
    Unexplained,
)
from perfgate.results.schema import RunResults
from perfgate.run.explain import counter_proof, profiling
from perfgate.run.explain.builds import Build, Launcher, base_of, candidate_of
from perfgate.run.explain.profiling import Profiled
from perfgate.run.explain.subject import Subject, subject_of, takes_longer
from perfgate.servers.pool import ServerPool


def is_wanted(settings: Config, results: RunResults) -> bool:
    """Whether red loads of this session are explained.

    Workers know only their own part; an external server is not launched here.
    """
    if settings.worker is not None or settings.external_urls:
        return False
    if settings.explain == "pairs":
        return results.is_paired or results.is_screened
    return settings.explain == "red"


class Explainer:
    """Explains the diagnoses of a session.

    Args:
        pool: launches the servers; who made it closes it.
    """

    def __init__(
        self,
        settings: Config,
        pool: ServerPool,
        hardware: Hardware,
        tell: ProgressDisplay,
    ) -> None:
        self._settings = settings
        self._launcher = Launcher(pool, hardware, tell)

    def explain(self, results: RunResults) -> Iterator[Explanation]:
        """What can be said of each loss that has no profile yet.

        Args:
            results: with verdicts and diagnoses.
        """
        known = {profile.server for profile in results.profiles}
        for diagnosis in results.diagnoses:
            if not diagnosis.is_loss or known & set(diagnosis.servers):
                continue
            if not takes_longer(results, diagnosis):
                continue
            subject = subject_of(results, diagnosis)
            if subject is None:
                continue
            yield self._profile(subject)
            back = next_step.of_diagnosis(
                results, diagnosis, self._settings.store
            )
            if back is not None:
                yield self._counter_proof(subject, back)

    def _profile(self, subject: Subject) -> Profile | Unexplained:
        """The profile of a load; a failure is a reason, for the verdicts stand."""
        base, candidate = self._builds(subject)
        before = None
        try:
            if base is not None:
                before = base, self._profiled(base, subject)
            now = self._profiled(candidate, subject)
        except Failure as failure:
            return Unexplained(server=subject.config.key, reason=failure.seen)
        return profiling.profile_of(
            subject, now, before, self._settings.run_dir
        )

    def _counter_proof(self, subject: Subject, back: PutBack) -> CounterProof:
        return counter_proof.proof(
            self._launcher, self._builds(subject), subject, back
        )

    def _builds(self, subject: Subject) -> tuple[Build | None, Build]:
        settings, config = self._settings, subject.config
        return base_of(settings, config), candidate_of(settings, config)

    def _profiled(self, build: Build, subject: Subject) -> Profiled:
        return profiling.profiled(
            self._launcher, build, subject.workload, self._settings.run_dir
        )
