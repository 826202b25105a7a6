"""Run data: results.json, the schema of everything that a run measured, read and written.

A run directory holds ``results.json`` (everything: hardware, servers, launches,
repetitions, verdicts) and ``logs/`` with one file per launch. While a session measures,
what is newer than ``results.json`` is in its journal (`perfgate.results.journal`). A
session that dies loses at most the repetition under way, and every verdict can be
decided again from these files alone.
"""

from __future__ import annotations

import datetime
import gzip
import os
import zlib
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec

from perfgate.cases import Case
from perfgate.engines.base import ServerConfig
from perfgate.errors import NOT_JSON, FailureRow
from perfgate.files import (
    RepeatedKey,
    RunDataError,
    is_named,
    refuse_repeated_keys,
    write_atomically,
)
from perfgate.load.metrics import METRICS, Metric
from perfgate.load.metrics import register as register_metrics
from perfgate.load.repetition import Repetition
from perfgate.load.workload import Workload
from perfgate.machine.hardware import Hardware
from perfgate.models.catalogue import CATALOGUE, Architecture, Model
from perfgate.models.catalogue import register as register_models
from perfgate.models.routing import Routing
from perfgate.results import head, journal
from perfgate.results.answer import Answer
from perfgate.results.diagnosis import Diagnosis
from perfgate.results.gates import Gate
from perfgate.results.group_verdict import GroupVerdict
from perfgate.results.head import RunHead
from perfgate.results.profile import CounterProof, Profile
from perfgate.results.timing import Session
from perfgate.results.upgrade import upgrade_content
from perfgate.results.verdict import Verdict
from perfgate.servers.launch_record import LaunchRecord

SCHEMA: Literal[2] = 2
RESULTS_FILE = "results.json"
# Of the name under which an environment has the commit of its engine.
COMMIT_SUFFIX = " commit"
Mode = Literal["sequential", "paired", "screened"]
_NO_MEASUREMENTS = '\n "measurements": [],\n'


class BadReference(ValueError):
    """A part of a run refers to another part that is not there, or is there twice."""


class Launch(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """One start of one server process: the unit of replication.

    Attributes:
        server: key of the server's configuration.
        index: 0 for the first launch of this server in the run. `start.session_index`
            counts the launches of all servers of one command, as log names do.
        start: command, log, phases and how it ended.
        values: metrics of the server itself, such as its memory. "ready_s" is
            `start.ready_s` as a metric, so that it can be judged like the others.
        notes: what could not be read, and why.
        effective: what the engine chose itself (attention backend, ...), as it reported
            it.
        settings: others, by which two engines are compared as well. Neither is identity:
            a change is named as the cause of a verdict.
        facts: what it logged besides, and what explains no speed: "compile_cache".
        injected: what was changed on purpose (`perfgate.engines.injection`), delays in
            ms; such a run never becomes a baseline.
        measured: False while it is measured, and for good where the session ended
            meanwhile.
        answers: first 12 hex digits of the SHA-256 of each greedy answer to the fixed
            prompts (`perfgate.run.probes.answers`), in their order; empty where they
            were not read.
        answer_tokens: the same answers, token by token, with log-probabilities; empty
            where the server gave none.

    """

    server: str
    index: int
    start: LaunchRecord
    values: dict[str, float] = {}
    notes: tuple[str, ...] = ()
    effective: dict[str, str] = {}
    settings: dict[str, str] = {}
    facts: dict[str, str] = {}
    injected: dict[str, float | str] = {}
    measured: bool = True
    answers: tuple[str, ...] = ()
    answer_tokens: tuple[Answer, ...] = ()


class Measurement(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """One workload on one launch: all of its repetitions, the invalid ones included.

    Attributes:
        failure: how the server died or hung before it was done; then nothing of it is
            judged.
        vllm_bench_command: `vllm bench serve` with arguments that send the same load to
            that server.
        routing: of a workload that asks for it: which experts each request's tokens
            chose.
        intervals: 90 % intervals of its values, by drawing requests again.
        operators: of a batch whose work was counted: operator of torch -> calls.
        answers: hashes of the answers to that batch.
    """

    server: str
    launch: int
    workload: str
    repetitions: tuple[Repetition, ...]
    failure: FailureRow | None = None
    vllm_bench_command: str = msgspec.field(default="", name="by_hand")
    routing: Routing | None = None
    intervals: dict[str, tuple[float, float]] = {}
    operators: dict[str, int] = {}
    answers: tuple[str, ...] = ()

    @property
    def is_sound(self) -> bool:
        """Whether the server lived through it and failed no request."""
        return self.failure is None and not any(
            repetition.failed for repetition in self.repetitions
        )


class Server(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """A server configuration of this run and the software that ran it.

    Attributes:
        python: path of its Python; "external" for a server that its operator runs.
        python_origin: what named that Python, such as "--engine-python"; for an external
            server its address.
        environment: variables that it inherited and that may change how it runs.
        packages: every distribution of its environment with its version; in a run they
            stand once for each environment, in `RunResults.environments`.
        attached: address of the external server that was measured instead; "" for a
            server that the suite launched.
    """

    config: ServerConfig
    python: str
    python_origin: str = ""
    versions: dict[str, str]
    environment: dict[str, str] = {}
    packages: dict[str, str] = {}
    attached: str = ""

    @property
    def python_path(self) -> Path:
        """Absolute path of its Python, whatever named it."""
        return Path(self.python).absolute()

    @property
    def python_label(self) -> str:
        """Its Python and what named it: "/opt/vllm/bin/python (--engine-python)"."""
        if not self.python_origin:
            return self.python
        return f"{self.python} ({self.python_origin})"


class RunResults(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """Everything that one run measured and decided.

    Attributes:
        run_id: unique, sorts by time.
        complete: True once the test loop returned by itself, with every launch measured
            and every case answered; see `is_whole`.
        servers: by server key. workloads: by workload name.
        environments: path of an engine's Python -> its distributions with versions.
        cases: every case that was selected, judged or not.
        group_verdicts: what is wrong with several rows together.
        diagnoses: why servers lost speed, one for each cause; none where nothing is red.
        profiles: kernels of red loads, of launches that are not judged.
        counter_proofs: pairs in which an argument put back what the engine had chosen.
        unexplained: server key -> why a red load of it has no profile.
        skipped: test id -> reason, for perf tests that did not run.
        lacking: case id -> reason, for those of their cases that would have been
            judged.
        left_out: what of the suite the (last) command did not select:
            "tests/perf/test_memory.py".
        mode: "sequential": each server is judged against its baseline. "paired": a
            candidate is launched in turn with its base build, and judged against it.
            "screened": sequential first; then suspect cases are judged in pairs.
        base_builds: engine -> Python of the base build, where pairs are launched.
        target_effect: the loss that pairs must catch; None for the baseline's in a
            screened run, and for the policy's.
        suspects: ids of the cases that a screened run launched in pairs, or tried to.
        fail_over: ceilings in place of the policy's, as fractions, by family of
            metrics; "all" is that of every rate.
        sessions: the commands that measured it, several where it was resumed.
        models: name -> shape of the models that it served. metrics: those that are not
            built in.
        failures: server key -> how it failed to start, or to take its load.

    """

    schema: Literal[2] = SCHEMA
    run_id: str
    suite_version: str
    command: tuple[str, ...]
    started: str
    finished: str | None = None
    complete: bool = False
    gate: Gate = "advisory"
    hardware: Hardware
    servers: dict[str, Server] = {}
    environments: dict[str, dict[str, str]] = {}
    workloads: dict[str, Workload] = {}
    launches: tuple[Launch, ...] = ()
    measurements: tuple[Measurement, ...] = ()
    cases: tuple[Case, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    group_verdicts: tuple[GroupVerdict, ...] = ()
    diagnoses: tuple[Diagnosis, ...] = ()
    profiles: tuple[Profile, ...] = ()
    counter_proofs: tuple[CounterProof, ...] = ()
    unexplained: dict[str, str] = {}
    skipped: dict[str, str] = {}
    lacking: dict[str, str] = {}
    left_out: tuple[str, ...] = ()
    mode: Mode = "sequential"
    base_builds: dict[str, str] = {}
    target_effect: float | None = None
    suspects: tuple[str, ...] = ()
    fail_over: dict[str, float] = {}
    sessions: tuple[Session, ...] = ()
    failures: dict[str, FailureRow] = {}
    models: dict[str, Architecture] = {}
    metrics: dict[str, Metric] = {}

    @property
    def is_paired(self) -> bool:
        """Whether base builds judge every case, so that no baseline counts."""
        return self.mode == "paired"

    @property
    def is_screened(self) -> bool:
        """Whether baselines judge first, and base builds the suspect cases then."""
        return self.mode == "screened"

    @property
    def failed_servers(self) -> list[str]:
        """Servers that failed, less those launched in pairs after a screen.

        The verdict of the screen stands in for pairs that failed.
        """
        replaceable = set()
        for case in self.cases:
            if case.id in self.suspects:
                for load in case.loads:
                    replaceable.add(load.server.base.key)
                    replaceable.add(load.server.candidate.key)
        return [key for key in self.failures if key not in replaceable]

    @property
    def cut_off(self) -> tuple[Launch, ...]:
        """Launches whose measurement began and did not end."""
        launches = self.launches
        return tuple(launch for launch in launches if not launch.measured)

    @property
    def unanswered(self) -> tuple[Case, ...]:
        """Cases without a verdict, a skip or a failed server."""
        answered = {row.case for row in self.verdicts}
        answered |= self.lacking.keys()
        cases = []
        for case in self.cases:
            if case.id not in answered and not self.why_without_verdict(case):
                cases.append(case)
        return tuple(cases)

    def why_without_verdict(self, case: Case) -> str:
        """The skip or the failed server of a case; "" where there is neither."""
        for test, reason in self.skipped.items():
            if f"-{case.id}]" in test:
                return reason
        if self._has_failed(case):
            return "a server of it failed"
        return ""

    def _has_failed(self, case: Case) -> bool:
        """Whether a server of the case, or another build of it, failed."""
        for load in case.loads:
            server = load.server
            keys = {server.key, server.base.key, server.candidate.key}
            if keys & self.failures.keys():
                return True
        return False

    def commit_of(self, server: str) -> str:
        """The commit that a server's engine was built from; "" where that is unknown."""
        row = self.servers.get(server)
        if row is None:
            return ""
        packages = self.environments.get(row.python, {})
        for name, commit in packages.items():
            if name.endswith(COMMIT_SUFFIX):
                return commit
        return ""

    @property
    def is_empty(self) -> bool:
        """Whether no server was launched, so that it holds reasons alone."""
        return not (self.launches or self.failures or self.verdicts)

    @property
    def is_whole(self) -> bool:
        """Whether the run says that it is complete, and its launches do not deny it."""
        return self.complete and not self.cut_off

    @property
    def measured_nothing(self) -> bool:
        """Whether it came to its end without a launch, as where every test is skipped."""
        if self.launches or self.failures or self.cases:
            return False
        return self.finished is not None


def new_run_id(started: datetime.datetime | None = None) -> str:
    """Unique per process, sorts by time: "20260131-142233-4711"."""
    moment = started or datetime.datetime.now(datetime.UTC)
    return f"{moment:%Y%m%d-%H%M%S}-{os.getpid()}"


def to_json(value: Any) -> str:
    """Readable JSON with keys in a stable order and a newline at the end."""
    encoded = msgspec.json.encode(value, order="deterministic")
    return msgspec.json.format(encoded, indent=1).decode() + "\n"


def line(measurement: Measurement) -> bytes:
    """A measurement as JSON on one line, with keys in a stable order."""
    return msgspec.json.encode(measurement, order="deterministic")


def encode(results: RunResults) -> bytes:
    """The content of results.json, with each measurement on one line."""
    text = to_json(msgspec.structs.replace(results, measurements=()))
    if results.measurements:
        rows = [line(measurement) for measurement in results.measurements]
        lines = b",\n  ".join(rows).decode()
        measurements = f'\n "measurements": [\n  {lines}\n ],\n'
        text = text.replace(_NO_MEASUREMENTS, measurements, 1)
    return text.encode()


def save(results: RunResults, run_dir: Path) -> Path:
    """Write results.json whole; returns its path."""
    path = run_dir / RESULTS_FILE
    write_atomically(path, encode(results))
    return path


def stored(
    folder: Path,
    newest_first: bool = False,
    on_failure: Callable[[RunDataError], None] = lambda _: None,
    is_wanted: Callable[[RunHead], bool] = lambda _: True,
) -> Iterator[RunResults]:
    """The runs of a run store in the order of their folders' names, read one by one.

    Args:
        on_failure: called for each run that cannot be read, which is left out.
        is_wanted: of the rest of a run nothing is read if its head says no. Where the
            head cannot be read by itself it is not asked.
    """
    files: dict[Path, Path] = {}
    for name in (f"{RESULTS_FILE}.gz", RESULTS_FILE):
        files |= {file.parent: file for file in folder.glob(f"*/{name}")}
    for run_dir in sorted(files, reverse=newest_first):
        run_head = head.read(files[run_dir])
        if run_head is not None and not is_wanted(run_head):
            continue
        try:
            results = load(run_dir)
        except RunDataError as failure:
            on_failure(failure)
        else:
            yield results


def load(run_dir: Path) -> RunResults:
    """Read a run directory, or its results.json, which may be packed (results.json.gz).

    Raises:
        RunDataError: it is missing, not JSON, of another schema, or a field is wrong;
            file and field are named.

    """
    path = run_dir / RESULTS_FILE if run_dir.is_dir() else run_dir
    packed = path.with_name(path.name + ".gz")
    if run_dir.is_dir() and packed.exists() and not is_named(path):
        path = packed
    try:
        content, steps = journal.read(path)
        return _registered(_decoded(journal.continued(content, steps)))
    except (
        *NOT_JSON,
        RepeatedKey,
        gzip.BadGzipFile,
        EOFError,
        zlib.error,
        BadReference,
        journal.BadStep,
    ) as error:
        raise RunDataError(
            tried=f"reading {path}",
            seen=str(error),
            remedy=(
                "the file was edited, truncated or written by another version of the "
                "suite; restore it, or use another run"
            ),
        ) from error
    except OSError as error:
        raise RunDataError(
            tried=f"reading the run at {run_dir}",
            seen=error.strerror or str(error),
            remedy="name a run directory: a folder with results.json, as in runs/",
        ) from error


def _decoded(content: bytes) -> RunResults:
    results = msgspec.json.decode(upgrade_content(content), type=RunResults)
    refuse_repeated_keys(content)
    _check_values(results)
    check_references(results)
    return results


def _check_values(results: RunResults) -> None:
    """Refuse what has the right type and cannot be used: half an answer.

    Raises:
        msgspec.ValidationError: with the field.
    """
    for number, launch in enumerate(results.launches):
        for place, answer in enumerate(launch.answer_tokens):
            if not answer.is_whole:
                field = f"$.launches[{number}].answer_tokens[{place}]"
                raise msgspec.ValidationError(
                    f"Tokens and log-probabilities do not match - at `{field}`"
                )


def _registered(results: RunResults) -> RunResults:
    """The run, after its models and metrics were registered where they are unknown."""
    for name, architecture in results.models.items():
        if name not in CATALOGUE:
            model = Model(name=name, architecture=architecture, served=False)
            register_models([model])
    for name, metric in results.metrics.items():
        if name not in METRICS:
            register_metrics([metric])
    return results


def check_references(results: RunResults) -> None:
    """Refuse a run whose parts do not belong together.

    Raises:
        BadReference: with the field.
    """
    launches: set[tuple[str, int]] = set()
    for number, launch in enumerate(results.launches):
        field = f"$.launches[{number}]"
        if launch.server not in results.servers:
            raise BadReference(f"{field}.server: no server {launch.server!r}")
        key = launch.server, launch.index
        if key in launches:
            raise BadReference(f"{field}.index: {launch.index} is there twice")
        launches.add(key)
    _check_measurements(results, launches)
    case_ids = {case.id for case in results.cases}
    for number, verdict in enumerate(results.verdicts):
        if verdict.case not in case_ids:
            field = f"$.verdicts[{number}].case"
            raise BadReference(f"{field}: no case {verdict.case!r}")


def _check_measurements(
    results: RunResults, launches: Collection[tuple[str, int]]
) -> None:
    rows: set[tuple[str, int, str]] = set()
    for number, row in enumerate(results.measurements):
        field = f"$.measurements[{number}]"
        if (row.server, row.launch) not in launches:
            raise BadReference(
                f"{field}.launch: no launch {row.launch} of {row.server!r}"
            )
        if row.workload not in results.workloads:
            raise BadReference(
                f"{field}.workload: no workload {row.workload!r}"
            )
        name = row.server, row.launch, row.workload
        if name in rows:
            raise BadReference(f"{field}: the same load is there twice")
        rows.add(name)
