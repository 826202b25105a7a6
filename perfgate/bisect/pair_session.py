"""Pair session: pytest launches a build in turn with another one; read from the run's data."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from perfgate.bisect.state import BadBisection, PairOutcome, Row, Session
from perfgate.cases import Case
from perfgate.engines import environment
from perfgate.errors import Failure, FailureRow
from perfgate.foreign_text import clean
from perfgate.judge.baseline_store import Store
from perfgate.judge.noise import PRIOR_LAUNCHES
from perfgate.judge.noise_table import Spread
from perfgate.judge.observation import NOT_MEASURED, Observation, RunReader
from perfgate.judge.paired import pairs_of, reasons_not_counted
from perfgate.judge.policy import policy_for
from perfgate.load.metrics import METRICS
from perfgate.results import schema
from perfgate.results.schema import RunResults
from perfgate.results.verdict import unit_of
from perfgate.servers.supervisor.daemon import die_with_parent

LOG = "pytest.log"
# Exit statuses of pytest after which there is a run: passed, and failed.
RAN = (0, 1)
LOG_LINES = 12
# Of pytest: they change one server of a pair, and builds take turns in being that one.
INJECTIONS = ("--inject-", "--plant-")
OF_CI = ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY")
# Runs a command, its output to a file; returns the exit status.
Run = Callable[[Sequence[str], Path], int]


@dataclass(frozen=True)
class NamedPython:
    """A build that is ready to be launched."""

    name: str
    python: Path


@dataclass(frozen=True)
class Comparison:
    """What is to be launched.

    Attributes:
        run: name of the run directory.
        is_swapped: whether the build goes first: a drift must favour neither.
        confirms: three pairs with verdicts, and not one without.
    """

    reference: NamedPython
    build: NamedPython
    run: str
    is_swapped: bool = False
    confirms: bool = False


class Pairs(Protocol):
    """Compares two builds by launches in turn."""

    def measure(self, comparison: Comparison) -> Session:
        """Launch both, and read what was measured.

        Raises:
            BadBisection: nothing could be launched, or the reference does not start.
        """


def refuse_injections(arguments: Sequence[str]) -> None:
    """Refuse arguments of pytest that would change one of the two builds.

    Raises:
        BadBisection: one of them injects something.
    """
    for word in arguments:
        if word.startswith(INJECTIONS):
            raise BadBisection(
                tried=f"{word.partition('=')[0]} behind --",
                seen="it would change one build of each pair, and not always the same one",
                remedy="leave it out; arguments of all builds belong to extra_args of "
                "the server in the study file",
            )


def logged(
    command: Sequence[str], log: Path, without: Sequence[str] = ()
) -> int:
    """Run a command to its end, its output to a file; returns the exit status.

    A Ctrl-C reaches the command as well. It is waited for: pytest ends its servers, and
    writes what it has. Where this process is killed, the kernel kills the command.

    Args:
        without: variables that it does not get.
    """
    environment = {
        name: value for name, value in os.environ.items() if name not in without
    }
    log.parent.mkdir(parents=True, exist_ok=True)
    with (
        log.open("ab") as file,
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            env=environment,
            preexec_fn=die_with_parent,
        ) as process,
    ):
        try:
            return process.wait()
        except KeyboardInterrupt:
            process.wait()
            raise


def logged_quietly(command: Sequence[str], log: Path) -> int:
    """The same without annotations and a summary of each pair in CI."""
    return logged(command, log, without=OF_CI)


@dataclass(frozen=True)
class PytestPairs:
    """Pairs as a user would launch them: `pytest --against-engine ... --pairs one`.

    Attributes:
        arguments: of pytest: what is served, and which tests measure it.
        folder: of the run directories.
        store: knows the noise of the metrics.
    """

    engine: str
    arguments: tuple[str, ...]
    folder: Path
    store: Store
    run: Run = logged_quietly

    def measure(self, comparison: Comparison) -> Session:
        """Launch both, and read what was measured; an interrupted session is resumed."""
        try:
            environment.distributions(comparison.build.python)
        except Failure as failure:
            return _without_run(comparison, failure.seen)
        run_dir = self.folder / comparison.run
        command = self.command(comparison)
        status = self.run(command, run_dir / LOG)
        if status not in RAN or not (run_dir / schema.RESULTS_FILE).exists():
            raise BadBisection(
                tried=f"`{shlex.join(command)}`",
                seen=f"exit status {status}: {tail(run_dir / LOG)}",
                remedy="remove the cause and give the same command again: it goes on",
            )
        return self._session(comparison, schema.load(run_dir))

    def command(self, comparison: Comparison) -> list[str]:
        """The command that compares the two."""
        first = comparison.reference.python
        second = comparison.build.python
        if comparison.is_swapped:
            first, second = second, first
        run_dir = str(self.folder / comparison.run)
        pairs, report = "one", ["--perf-report", "no"]
        if comparison.confirms:
            pairs, report = "all", []
        return [
            *(sys.executable, "-m", *self.again(first, second, pairs)),
            *(f"--run-dir={run_dir}", "--resume", *report),
        ]

    def again(
        self, base: Path, candidate: Path, pairs: str = "all"
    ) -> list[str]:
        """The command by which a user compares two Pythons."""
        return [
            *("pytest", *self.arguments),
            *("--engine-python", f"{self.engine}={candidate}"),
            *("--against-engine", f"{self.engine}={base}"),
            *("--pairs", pairs),
        ]

    def _session(self, comparison: Comparison, results: RunResults) -> Session:
        build, reference = failures_of(results, comparison.is_swapped)
        if reference is not None:
            log = f" (log: {reference.log})" if reference.log else ""
            raise BadBisection(
                tried=f"launching {comparison.reference.name}, with which builds are "
                "compared",
                seen=reference.seen,
                remedy=f"{reference.remedy}{log}; then give the same command again",
            )
        _refuse_other_machine(results)
        rows = dict(self._rows(results, comparison.is_swapped))
        outcome: PairOutcome = "measured"
        reason = ""
        if build is not None:
            outcome, reason, rows = "failed", build.seen, {}
        elif not rows:
            outcome, reason = "invalid", reason_of(results)
        seconds = 0.0
        for part in results.sessions:
            seconds += part.seen_unix_s - part.started_unix_s
        return Session(
            reference=comparison.reference.name,
            build=comparison.build.name,
            run=comparison.run,
            outcome=outcome,
            seconds=seconds,
            reason=reason,
            confirms=comparison.confirms,
            rows=rows,
        )

    def _rows(
        self, results: RunResults, is_swapped: bool
    ) -> Iterator[tuple[str, Row]]:
        reader = RunReader(results)
        for case in judged_cases(results):
            base = reader.observe(case.base)
            candidate = reader.observe(case)
            policy = policy_for(
                candidate.hardware_label, case.metric, ratio=True
            )
            values = _pairs(base, candidate, is_swapped)
            if policy.gate != "hard" or not values:
                continue
            noise = Spread(
                cv=policy.assumed_cv, degrees_of_freedom=float(PRIOR_LAUNCHES)
            )
            group = self.store.group(case, candidate.hardware_label)
            if group is not None:
                noise = group.launches
            yield (
                case.id,
                Row(
                    values=values,
                    unit=unit_of(case.id, case.metric),
                    higher=METRICS[case.metric].better == "higher",
                    cv=noise.cv,
                    degrees_of_freedom=noise.degrees_of_freedom,
                    floor=policy.floor,
                ),
            )


def judged_cases(results: RunResults) -> list[Case]:
    """The absolute cases of a run that can fail it: a build shows in them by itself."""
    cases = []
    for case in results.cases:
        is_build = case.numerator.server.build
        if case.gate == "hard" and not case.is_ratio and not is_build:
            cases.append(case)
    return cases


def _refuse_other_machine(results: RunResults) -> None:
    """Refuse a machine on which no build can be measured, for want of a GPU or an engine.

    Raises:
        BadBisection: the tests were skipped there.
    """
    if results.lacking and not judged_cases(results):
        reasons = Counter(results.lacking.values())
        ((reason, _),) = reasons.most_common(1)
        raise BadBisection(
            tried="measuring a pair on this machine",
            seen=f"the selected tests are skipped here: {reason}",
            remedy="select others after --, or search on another machine, in another "
            "--folder",
        )


def _pairs(
    base: Observation, candidate: Observation, is_swapped: bool
) -> tuple[tuple[float, float], ...]:
    """(reference, build) of each pair of launches that counts."""
    pairs = pairs_of(base, candidate)
    if is_swapped:
        pairs = [(second, first) for first, second in pairs]
    return tuple(pairs)


def failures_of(
    results: RunResults, is_swapped: bool
) -> tuple[FailureRow | None, FailureRow | None]:
    """How the build, and how the reference, failed to start or to take its load."""
    base_keys = {case.base.numerator.server.key for case in results.cases}
    base = candidate = None
    for key, failure in results.failures.items():
        if key in base_keys:
            base = failure
        else:
            candidate = failure
    if is_swapped:
        return base, candidate
    return candidate, base


def reason_of(results: RunResults) -> str:
    """Why no launch of a run counts."""
    cases = judged_cases(results)
    if not cases:
        return (
            "none of the selected tests judges a value that pairs can compare"
        )
    reader = RunReader(results)
    reasons = reasons_not_counted(
        reader.observe(cases[0]), reader.observe(cases[0].base)
    )
    return (reasons or [NOT_MEASURED[0]])[0]


def _without_run(comparison: Comparison, reason: str) -> Session:
    return Session(
        reference=comparison.reference.name,
        build=comparison.build.name,
        run="",
        outcome="failed",
        reason=reason,
        confirms=comparison.confirms,
    )


def tail(log: Path) -> str:
    """The last lines of a log."""
    text = clean(log.read_text(encoding="utf-8", errors="replace"))
    lines = [line for line in text.splitlines() if line.strip()]
    return "\n".join([f"the last lines of {log}:", *lines[-LOG_LINES:]])
