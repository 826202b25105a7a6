"""Accept: turn measurements into baselines, in two steps.

A run only proposes baselines: it writes files and a table into its own directory. A
person accepts runs with `perfgate accept`. It reads the runs again, shows old, new,
change, launches and variation, and refuses bad references. It does not work in CI.
"""

from __future__ import annotations

import dataclasses
import os
import shlex
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from perfgate import formatting
from perfgate.accept.choice import Choice
from perfgate.accept.proposal import Proposal, merged, proposals
from perfgate.accept.provenance import with_provenance
from perfgate.accept.refusals import (
    lost_metrics,
    mixed_configurations,
    no_match,
    refuse_cases,
    refuse_ci,
    refuse_injected,
    refuse_runs,
)
from perfgate.accept.table import table
from perfgate.files import write_atomically
from perfgate.judge.baseline_schema import to_text
from perfgate.judge.baseline_store import Store
from perfgate.judge.wording import RUN
from perfgate.results import schema as rundata
from perfgate.results.schema import RunResults

DIFF = "diff.md"


@dataclass(frozen=True)
class Accepted:
    """What was accepted.

    Attributes:
        proposals: the accepted cases.
        paths: the baseline files with them.
        skipped_count: cases left out, because all of their launches are in the
            baseline already.
        run_ids: the runs that were given.
        excused: ids of the accepted cases that only the reason lets pass.
    """

    proposals: tuple[Proposal, ...]
    paths: tuple[Path, ...]
    skipped_count: int = 0
    run_ids: tuple[str, ...] = ()
    excused: tuple[str, ...] = ()

    @property
    def reasoned(self) -> str:
        """What would have been refused without the reason; "" if nothing would."""
        if not self.excused:
            return ""
        cases = formatting.count(len(self.excused), "case")
        return f"{cases} accepted for the reason: {formatting.listed(self.excused)}"

    @property
    def table(self) -> str:
        """One row for each case."""
        return table(self.proposals)

    @property
    def skipped(self) -> str:
        """What was left out, for the user; "" if nothing was."""
        if not self.skipped_count:
            return ""
        runs = ", ".join(self.run_ids)
        if not self.proposals:
            return f"run {runs} is already in the baseline: nothing to accept"
        cases = formatting.count(self.skipped_count, "case")
        return f"{cases} of run {runs}: already in the baseline"


def propose(results: RunResults, store: Store, out_dir: Path) -> list[Path]:
    """Write what the baselines would become, and a table of it; the store is untouched.

    Returns:
        the proposed files, laid out as in the store. Objections are in the table.

    """
    found = proposals([results], store, Choice())
    valid = []
    for proposal in _named(found, [out_dir.parent], store):
        if not (proposal.is_invalid or proposal.is_recorded):
            valid.append(proposal)
    targets = []
    for path, group in _by_file(valid).items():
        file, _ = merged(store.file(path), group)
        file = with_provenance(file, group, [results], None, ())
        target = out_dir / path.relative_to(store.root)
        write_atomically(target, to_text(file))
        targets.append(target)
    text = f"# Proposed by run {results.run_id}\n\n{table(valid)}\n"
    write_atomically(out_dir / DIFF, text)
    return targets


def accept(
    run_dirs: Sequence[Path],
    store: Store,
    choice: Choice,
    env: Mapping[str, str] = os.environ,
    write: bool = True,
) -> Accepted:
    """Accept runs into the store; several at once pool their launches.

    Args:
        env: environment variables; CI is read.
        write: False checks and writes nothing.

    Raises:
        RecordingRefused: in CI; a run is invalid, has an injection, or was cut off in
            a launch that a case needs; a value is worse without a reason; a target
            effect cannot be detected. Nothing is written then.

    """
    refuse_ci(env)
    runs = [rundata.load(folder) for folder in run_dirs]
    runs.sort(key=lambda run: run.run_id)
    refuse_runs(runs)
    candidates = _named(proposals(runs, store, choice), run_dirs, store)
    matches = [p for p in candidates if choice.matches(p.case)]
    if not matches:
        raise no_match(run_dirs, candidates, choice, store)
    accepted = [p for p in matches if not p.is_recorded]
    refuse_injected(runs, accepted)
    groups = _by_file(accepted)
    files, lost = {}, {}
    for path, group in groups.items():
        files[path], lost[path] = merged(store.file(path), group)
    about_files = [*mixed_configurations(groups), *lost_metrics(lost, choice)]
    refuse_cases(accepted, runs, about_files)
    excused = _excused(accepted, runs, store, choice)
    if write:
        for path, group in groups.items():
            file = with_provenance(
                files[path], group, runs, choice.reason, excused
            )
            store.write(path, file)
    return Accepted(
        proposals=tuple(accepted),
        paths=tuple(files),
        skipped_count=len(matches) - len(accepted),
        run_ids=tuple(run.run_id for run in runs),
        excused=excused,
    )


def _named(
    candidates: Iterable[Proposal], run_dirs: Sequence[Path], store: Store
) -> list[Proposal]:
    """The proposals with the runs' folders and the store in the commands that they name."""
    folders = shlex.join(map(str, run_dirs)) + store.in_commands
    named = []
    for proposal in candidates:
        objections = [row.replace(RUN, folders) for row in proposal.objections]
        row = dataclasses.replace(proposal, objections=tuple(objections))
        named.append(row)
    return named


def _excused(
    accepted: Sequence[Proposal],
    runs: Sequence[RunResults],
    store: Store,
    choice: Choice,
) -> tuple[str, ...]:
    """Ids of the accepted cases that would be refused without the reason."""
    if choice.reason is None:
        return ()
    ids = {proposal.case.id for proposal in accepted}
    bare = proposals(runs, store, dataclasses.replace(choice, reason=None))
    return tuple(
        proposal.case.id
        for proposal in bare
        if proposal.case.id in ids and proposal.objections
    )


def _by_file(accepted: Sequence[Proposal]) -> dict[Path, list[Proposal]]:
    groups: dict[Path, list[Proposal]] = defaultdict(list)
    for proposal in accepted:
        groups[proposal.path].append(proposal)
    return dict(groups)
