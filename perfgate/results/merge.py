"""Merge of the runs of pytest-xdist workers into one run.

Each worker is a process with a campaign and a run directory of its own. What one of
them measured of a server travels to the others as a slice of its results. At the end
the slices become one run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
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

    Of a launch that several know, the one with its end wins.

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
        sessions += part.sessions
        for verdict in part.verdicts:
            verdicts[verdict.case] = verdict
    unions = {name: _union(parts, name) for name in _MAPPINGS}
    return msgspec.structs.replace(
        parts[0],
        run_id=run_id,
        started=min(part.started for part in parts),
        finished=max(finished, default=None),
        complete=all(part.complete for part in parts),
        launches=_launches(parts),
        measurements=_measurements(parts),
        cases=tuple(cases),
        verdicts=tuple(verdicts.values()),
        # Of the whole run, which no worker has.
        group_verdicts=(),
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


def _launches(parts: Sequence[RunResults]) -> tuple[Launch, ...]:
    launches: dict[tuple[str, int], Launch] = {}
    for part in parts:
        for launch in part.launches:
            key = launch.server, launch.index
            earlier = launches.get(key)
            if earlier is None or earlier.start.stop is None:
                launches[key] = launch
    return tuple(launches[key] for key in sorted(launches))


def _measurements(parts: Sequence[RunResults]) -> tuple[Measurement, ...]:
    measurements: dict[tuple[str, int, str], Measurement] = {}
    for part in parts:
        for row in part.measurements:
            measurements[row.server, row.launch, row.workload] = row
    return tuple(measurements[key] for key in sorted(measurements))


def gather(
    run_dir: Path,
    complete: bool,
    run_id: str,
    left_out: Callable[[Sequence[Case]], tuple[str, ...]],
    conclude: Callable[[RunResults], RunResults] | None = None,
) -> RunResults | None:
    """Merge the workers' runs and save them as one; None if no worker measured anything.

    Args:
        complete: whether the session ended by itself, as far as its controller knows.
        run_id: of their one run.
        left_out: what the run's cases lack of the whole suite, in words.
        conclude: adds what only the whole run can say.

    Raises:
        RunDataError: a worker's results cannot be read.
    """
    parts = list(read(run_dir))
    if not parts:
        return None
    results = combine(parts, run_id)
    complete = results.complete and complete
    results = msgspec.structs.replace(
        results, complete=complete, left_out=left_out(results.cases)
    )
    if conclude is not None:
        results = conclude(results)
    rundata.save(results, run_dir)
    return results


def read(run_dir: Path) -> Iterable[RunResults]:
    """The results of each worker, in the order of their names."""
    folder = run_dir / FOLDER
    for file in sorted(folder.glob(f"*/{rundata.RESULTS_FILE}")):
        yield rundata.load(file)
