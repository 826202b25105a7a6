"""Merge of the runs of pytest-xdist workers into one run.

Each worker is a process with a campaign and a run directory of its own. What one of
them measured of a server travels to the others as a slice of its results. At the end
the slices become one run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from perfgate.cases import Case
from perfgate.errors import Failure
from perfgate.load.ceilings import format_ceilings
from perfgate.results import schema as rundata
from perfgate.results.schema import Launch, Measurement, RunResults, Server
from perfgate.results.timing import Session
from perfgate.results.verdict import Verdict
from perfgate.servers.launch_record import LaunchRecord

FOLDER = "workers"
# Fields of a run that are mappings; those of all workers are joined.
_MAPPINGS = (
    "servers",
    "environments",
    "workloads",
    "skipped",
    "lacking",
    "models",
    "metrics",
    "failures",
)
Row = TypeVar("Row", Launch, Measurement)
LaunchKey = tuple[str, int]  # server, index


class UnlikeParts(Failure):
    """The workers of one session judged by different settings."""


class Slice(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """What a run knows of one server."""

    server: Server
    packages: dict[str, str] = {}
    launches: tuple[Launch, ...]
    measurements: tuple[Measurement, ...]


def cut(results: RunResults, key: str) -> bytes:
    """The slice of one server, encoded for another worker."""
    launches, _ = _split(results.launches, key)
    measurements, _ = _split(results.measurements, key)
    part = Slice(
        server=results.servers[key],
        packages=results.environments.get(results.servers[key].python, {}),
        launches=tuple(launches),
        measurements=tuple(measurements),
    )
    return msgspec.json.encode(part)


def paste(results: RunResults, key: str, encoded: bytes) -> RunResults:
    """The results with another worker's slice of a server in place of their own."""
    part = msgspec.json.decode(encoded, type=Slice)
    _, launches = _split(results.launches, key)
    _, measurements = _split(results.measurements, key)
    environments = dict(results.environments)
    if part.packages:
        environments[part.server.python] = part.packages
    return msgspec.structs.replace(
        results,
        servers=results.servers | {key: part.server},
        environments=environments,
        launches=(*launches, *part.launches),
        measurements=(*measurements, *part.measurements),
    )


def _split(rows: Iterable[Row], key: str) -> tuple[list[Row], list[Row]]:
    """The rows of one server, and those of the others."""
    own_rows = []
    other_rows = []
    for row in rows:
        if row.server == key:
            own_rows.append(row)
        else:
            other_rows.append(row)
    return own_rows, other_rows


def combine(parts: Sequence[RunResults], run_id: str) -> RunResults:
    """One run of those of its workers.

    Of a launch that several know, the one that was measured and ended wins.

    Args:
        parts: at least one.

    Raises:
        UnlikeParts: they were judged by different ceilings.
    """
    _refuse_unlike(parts)
    finished = [part.finished for part in parts if part.finished]
    cases: dict[Case, None] = {}
    sessions: list[Session] = []
    # Of a case that several workers judged, the last verdict counts.
    verdicts: dict[str, Verdict] = {}
    for part in parts:
        cases |= dict.fromkeys(part.cases)
        sessions += [row for row in part.sessions if row not in sessions]
        for verdict in part.verdicts:
            verdicts[verdict.case] = verdict
    unions = {name: _union(parts, name) for name in _MAPPINGS}
    launches = _launches(parts)
    return msgspec.structs.replace(
        parts[0],
        run_id=run_id,
        started=min(part.started for part in parts),
        finished=max(finished, default=None),
        complete=all(part.complete for part in parts),
        launches=tuple(launches[key] for key in sorted(launches)),
        measurements=_measurements(parts, launches),
        cases=tuple(cases),
        verdicts=tuple(verdicts.values()),
        # Of the whole run, which no worker has.
        group_verdicts=(),
        diagnoses=(),
        sessions=tuple(sessions),
        **unions,
    )


def _refuse_unlike(parts: Sequence[RunResults]) -> None:
    """Refuse parts of different ceilings: their verdicts do not mean the same."""
    first = parts[0].fail_over
    for part in parts:
        if part.fail_over != first:
            raise UnlikeParts(
                tried="merging the runs of several workers",
                seen=(
                    f"{format_ceilings(first)} and {format_ceilings(part.fail_over)}"
                ),
                remedy="use another --run-dir, where no earlier worker has a part",
            )


def _union(parts: Sequence[RunResults], field: str) -> dict[str, Any]:
    """All entries of a mapping of the runs; of a key that several have, the last."""
    union: dict[str, Any] = {}
    for part in parts:
        union.update(getattr(part, field))
    return union


def _launches(parts: Sequence[RunResults]) -> dict[LaunchKey, Launch]:
    """Of a launch that several have the one that was measured, then the one that ended."""
    launches: dict[LaunchKey, Launch] = {}
    for part in parts:
        for launch in part.launches:
            key = launch.server, launch.index
            if key not in launches or _rank(launches[key]) < _rank(launch):
                launches[key] = launch
    return launches


def _rank(launch: Launch) -> tuple[bool, bool]:
    return launch.measured, launch.start.stop is not None


def _measurements(
    parts: Sequence[RunResults], launches: Mapping[LaunchKey, Launch]
) -> tuple[Measurement, ...]:
    """The rows of these launches; a worker that was killed has others of the same number."""
    measurements: dict[tuple[str, int, str], Measurement] = {}
    for part in parts:
        starts = {(row.server, row.index): row.start for row in part.launches}
        for row in part.measurements:
            chosen = launches[row.server, row.launch].start
            start = starts[row.server, row.launch]
            if _process(start) != _process(chosen):
                continue
            key = row.server, row.launch, row.workload
            known = measurements.get(key, row)
            if len(known.repetitions) <= len(row.repetitions):
                measurements[key] = row
    return tuple(measurements[key] for key in sorted(measurements))


def _process(start: LaunchRecord) -> tuple[int, float]:
    return start.pid, start.started_unix_s


def gather(
    run_dir: Path,
    session: str,
    complete: bool,
    left_out: Callable[[Sequence[Case]], tuple[str, ...]],
    conclude: Callable[[RunResults], RunResults] | None = None,
) -> RunResults | None:
    """Merge the workers' runs and save them as one; None if no worker measured anything.

    Args:
        session: whose workers; the run's id, unless it was begun by an earlier session.
        complete: whether the test loop returned by itself.
        left_out: what the run's cases lack of the whole suite, in words.
        conclude: adds what only the whole run can say.

    Raises:
        RunDataError: a worker's results cannot be read.
    """
    parts = list(read(session_dir(run_dir, session)))
    if not parts:
        return None
    run_id = session
    if has_run(run_dir):
        run_id = rundata.load(run_dir).run_id
    results = combine(parts, run_id)
    complete = results.complete and complete and not results.unanswered
    results = msgspec.structs.replace(
        results, complete=complete, left_out=left_out(results.cases)
    )
    if conclude is not None:
        results = conclude(results)
    rundata.save(results, run_dir)
    return results


def recover(run_dir: Path) -> None:
    """Merge the parts of the last session, if it was killed before it could.

    Raises:
        RunDataError: a worker's results cannot be read.
    """
    sessions = sorted(path.name for path in _session_dirs(run_dir))
    if not sessions:
        return
    newest = sessions[-1]
    merged: set[float] = set()
    run_id = newest
    if has_run(run_dir):
        results = rundata.load(run_dir)
        run_id = results.run_id
        merged = {row.started_unix_s for row in results.sessions}
    parts = list(read(session_dir(run_dir, newest)))
    own = {row.started_unix_s for part in parts for row in part.sessions[-1:]}
    if own <= merged:
        return
    results = msgspec.structs.replace(combine(parts, run_id), complete=False)
    rundata.save(results, run_dir)


def session_dir(run_dir: Path, session: str) -> Path:
    """Where the workers of one session have their parts, and what they share."""
    return run_dir / FOLDER / session


def has_run(run_dir: Path) -> bool:
    """Whether a folder holds a run, packed or not."""
    path = run_dir / rundata.RESULTS_FILE
    return path.exists() or path.with_name(f"{path.name}.gz").exists()


def has_parts(run_dir: Path) -> bool:
    """Whether a folder holds the parts of workers, of whatever session."""
    files = (run_dir / FOLDER).glob(f"**/{rundata.RESULTS_FILE}")
    return any(files)


def _session_dirs(run_dir: Path) -> set[Path]:
    """Folders of the sessions whose workers measured something."""
    files = (run_dir / FOLDER).glob(f"*/*/{rundata.RESULTS_FILE}")
    return {file.parent.parent for file in files}


def read(folder: Path) -> Iterable[RunResults]:
    """The results of each worker of a session, in the order of their names."""
    for file in sorted(folder.glob(f"*/{rundata.RESULTS_FILE}")):
        yield rundata.load(file)
