"""How do the workers of one session make one run?

Under pytest-xdist each worker is a process with a campaign and a run directory of its
own. What one of them measured of a server travels to the others as a slice of its
results; at the end the slices are put together into one run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import msgspec

from perfgate.cases import Case
from perfgate.results import schema as rundata
from perfgate.results.schema import Launch, Measurement, RunResults, Server

FOLDER = "workers"


class Slice(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a run knows of one server."""

    server: Server
    launches: tuple[Launch, ...]
    measurements: tuple[Measurement, ...]


def cut(results: RunResults, key: str) -> bytes:
    """The slice of one server, to be sent."""
    return msgspec.json.encode(
        Slice(
            server=results.servers[key],
            launches=tuple(row for row in results.launches if row.server == key),
            measurements=tuple(
                row for row in results.measurements if row.server == key
            ),
        )
    )


def paste(results: RunResults, key: str, sent: bytes) -> RunResults:
    """The results with what another worker knows of the server in place of what they held."""
    part = msgspec.json.decode(sent, type=Slice)
    return msgspec.structs.replace(
        results,
        servers=results.servers | {key: part.server},
        launches=(
            *(row for row in results.launches if row.server != key),
            *part.launches,
        ),
        measurements=(
            *(row for row in results.measurements if row.server != key),
            *part.measurements,
        ),
    )


def together(parts: Sequence[RunResults], run_id: str) -> RunResults:
    """One run of those of its workers; of a launch that several know, the one with its end wins.

    Args:
        parts: at least one.
    """
    launches: dict[tuple[str, int], Launch] = {}
    measurements: dict[tuple[str, int, str], Measurement] = {}
    for part in parts:
        for launch in part.launches:
            known = launches.get((launch.server, launch.index))
            if known is None or known.start.stop is None:
                launches[launch.server, launch.index] = launch
        for row in part.measurements:
            measurements[row.server, row.launch, row.workload] = row
    return msgspec.structs.replace(
        parts[0],
        run_id=run_id,
        started=min(part.started for part in parts),
        finished=max((part.finished for part in parts if part.finished), default=None),
        complete=all(part.complete for part in parts),
        servers={key: server for part in parts for key, server in part.servers.items()},
        workloads={
            name: workload
            for part in parts
            for name, workload in part.workloads.items()
        },
        launches=tuple(launches[key] for key in sorted(launches)),
        measurements=tuple(measurements[key] for key in sorted(measurements)),
        cases=tuple(dict.fromkeys(case for part in parts for case in part.cases)),
        # What an earlier command asked each worker decides at its end.
        verdicts=tuple(
            {row.case: row for part in parts for row in part.verdicts}.values()
        ),
        sessions=tuple(session for part in parts for session in part.sessions),
        skipped={
            test: reason for part in parts for test, reason in part.skipped.items()
        },
        lacking={
            case: reason for part in parts for case, reason in part.lacking.items()
        },
        models={name: model for part in parts for name, model in part.models.items()},
        metrics={
            name: metric for part in parts for name, metric in part.metrics.items()
        },
        failures={
            key: failure for part in parts for key, failure in part.failures.items()
        },
    )


def gather(
    run_dir: Path,
    complete: bool,
    run_id: str,
    left_out: Callable[[Sequence[Case]], tuple[str, ...]],
) -> RunResults | None:
    """Put the workers' runs together and write them down as one; None if no worker measured anything.

    Args:
        complete: whether the session ended by itself, as far as its controller knows.
        run_id: of their one run.
        left_out: what of the suite is missing beside the cases of that run, in words.

    Raises:
        RunDataError: a worker's results cannot be read.
    """
    parts = list(read(run_dir))
    if not parts:
        return None
    results = together(parts, run_id)
    complete = results.complete and complete
    results = msgspec.structs.replace(
        results, complete=complete, left_out=left_out(results.cases)
    )
    rundata.save(results, run_dir)
    return results


def read(run_dir: Path) -> Iterable[RunResults]:
    """The results of each worker, in the order of their names."""
    for file in sorted((run_dir / FOLDER).glob(f"*/{rundata.RESULTS_FILE}")):
        yield rundata.load(file)
