"""Runs that lack their last launches, as if they had been cut off before these."""

from __future__ import annotations

from pathlib import Path

import msgspec

from perfgate.results.schema import load, save


def drop_last_launches(run: Path, count: int) -> None:
    """Remove the last launches of a run, with their measurements and all verdicts."""
    results = load(run)
    launches = results.launches[:-count]
    kept = {(row.server, row.index) for row in launches}
    measurements = []
    for row in results.measurements:
        if (row.server, row.launch) in kept:
            measurements.append(row)
    cut = msgspec.structs.replace(
        results,
        launches=launches,
        measurements=tuple(measurements),
        verdicts=(),
    )
    save(cut, run)
