"""Provenance: which runs are in a file of baselines, when they were accepted, and why."""

from __future__ import annotations

import datetime
from collections.abc import Collection, Sequence

import msgspec

from perfgate.accept.proposal import Proposal
from perfgate.judge.baseline_schema import BaselineFile, Provenance
from perfgate.results.schema import RunResults


def with_provenance(
    file: BaselineFile,
    accepted: Sequence[Proposal],
    runs: Sequence[RunResults],
    reason: str | None,
    excused: Collection[str],
) -> BaselineFile:
    """The file with an entry for each of its runs; entries of other runs are removed.

    Args:
        excused: ids of the cases that needed the reason.
    """
    entries = {entry.run: entry for entry in file.provenance}
    for run in runs:
        mine = [p for p in accepted if run.run_id in p.runs]
        if mine:
            entry = _provenance_entry(run, mine, reason, excused)
            entries[run.run_id] = _joined(entry, entries.get(run.run_id))
    run_ids = _runs_in(file)
    if any(proposal.new.known for proposal in accepted):
        run_ids |= {run.run_id for run in runs}
    provenance = tuple(
        entries[run] for run in sorted(entries) if run in run_ids
    )
    return msgspec.structs.replace(file, provenance=provenance)


def _provenance_entry(
    run: RunResults,
    accepted: Sequence[Proposal],
    reason: str | None,
    excused: Collection[str],
) -> Provenance:
    today = datetime.datetime.now(datetime.UTC).date()
    metrics = {p.case.metric for p in accepted}
    excused_metrics: tuple[str, ...] | None = None
    if reason is not None:
        needing = {p.case.metric for p in accepted if p.case.id in excused}
        excused_metrics = tuple(sorted(needing))
    return Provenance(
        run=run.run_id,
        accepted=today.isoformat(),
        suite_version=run.suite_version,
        metrics=tuple(sorted(metrics)),
        reason=reason,
        excused=excused_metrics,
        machine=accepted[0].machines.get(run.run_id),
    )


def _joined(entry: Provenance, earlier: Provenance | None) -> Provenance:
    """The entry with the metrics, and unless it has its own the reason, of an earlier one."""
    if earlier is None:
        return entry
    metrics = sorted({*earlier.metrics, *entry.metrics})
    reason = entry.reason or earlier.reason
    excused: tuple[str, ...] | None = None
    if reason:
        needing = []
        for metric in metrics:
            if entry.excuses(metric) or earlier.excuses(metric):
                needing.append(metric)
        excused = tuple(needing)
    return msgspec.structs.replace(
        entry, metrics=tuple(metrics), reason=reason, excused=excused
    )


def _runs_in(file: BaselineFile) -> set[str]:
    """Runs whose launches are in the file."""
    run_ids: set[str] = set()
    for metric in file.metrics.values():
        run_ids |= {point.run for point in metric.launches}
    return run_ids
