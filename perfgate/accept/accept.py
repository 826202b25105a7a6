"""Accept: turn measurements into baselines, in two steps.

A run only proposes: it writes files and a table into its own directory. A person
accepts them with `perfgate accept`, which reads the runs again, shows old, new, change,
launches and variation, and refuses what later runs should not be compared with. CI
never does the second.
"""

from __future__ import annotations

import datetime
import fnmatch
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from perfgate import formatting
from perfgate.accept.proposal import Choice, Proposal, merged, proposals
from perfgate.engines import injection
from perfgate.errors import Failure
from perfgate.files import write_atomically
from perfgate.judge.baseline_schema import BaselineFile, Provenance, to_text
from perfgate.judge.baseline_store import Store
from perfgate.judge.noise import coefficient_of_variation
from perfgate.judge.observation import RunReader
from perfgate.results import schema as rundata
from perfgate.results.samples import values_of
from perfgate.results.schema import RunResults

DIFF = "diff.md"


class RecordingRefused(Failure):
    """Runs that must not become a baseline."""


@dataclass(frozen=True)
class Accepted:
    """What was accepted."""

    proposals: tuple[Proposal, ...]
    paths: tuple[Path, ...]

    @property
    def table(self) -> str:
        """One row for each case."""
        return table(self.proposals)


def propose(results: RunResults, store: Store, out_dir: Path) -> list[Path]:
    """Write what the baselines would become, and a table of it; the store is untouched.

    Returns:
        the proposed files, laid out as in the store. Objections are in the table.

    """
    made = proposals([results], store, Choice())
    valid = [proposal for proposal in made if not proposal.is_invalid]
    written = []
    for path, group in _by_file(valid).items():
        file, _ = merged(path, store.file(path), group)
        file = _with_provenance(file, group, [results], None)
        target = out_dir / path.relative_to(store.root)
        write_atomically(target, to_text(file))
        written.append(target)
    text = f"# Proposed by run {results.run_id}\n\n{table(valid)}\n"
    write_atomically(out_dir / DIFF, text)
    return written


def accept(
    run_dirs: Sequence[Path],
    store: Store,
    choice: Choice,
    env: Mapping[str, str] = os.environ,
    write: bool = True,
) -> Accepted:
    """Accept runs into the store; several at once pool their launches.

    Args:
        env: where CI is looked for.
        write: False only shows.

    Raises:
        RecordingRefused: in CI; a run was injected or invalid, or cut off in a launch
            that a case is of; a value is worse without a reason; a target effect cannot
            be detected. Nothing is written then.

    """
    _refuse_ci(env)
    runs = [rundata.load(folder) for folder in run_dirs]
    runs.sort(key=lambda run: run.run_id)
    _refuse_runs(runs)
    made = [p for p in proposals(runs, store, choice) if _is_chosen(p, choice)]
    _refuse_injected(runs, made)
    if not made:
        seen = "nothing was measured in them"
        if choice.only:
            seen = "no measured case matches"
        raise RecordingRefused(
            tried=f"accepting {', '.join(str(folder) for folder in run_dirs)}",
            seen=seen,
            remedy=(
                "`perfgate judge RUN` lists the cases; --only takes an id or a "
                "pattern such as '*/closed-c32/*'"
            ),
        )
    groups = _by_file(made)
    files, lost = {}, {}
    for path, group in groups.items():
        files[path], lost[path] = merged(path, store.file(path), group)
    _refuse_cases(made, runs, lost)
    if write:
        for path, group in groups.items():
            file = _with_provenance(files[path], group, runs, choice.reason)
            store.write(path, file)
    return Accepted(tuple(made), tuple(files))


_COLUMNS = (
    "case",
    "old",
    "new",
    "change",
    "launches",
    "CV",
    "target effect",
    "MDE",
    "gate",
    "notes",
)


def table(made: Sequence[Proposal]) -> str:
    """Markdown: old, new, change, launches, variation, target effect, MDE and notes."""
    head = f"| {' | '.join(_COLUMNS)} |"
    rule = f"|{'---|' * len(_COLUMNS)}"
    return "\n".join([head, rule, *map(_row, made)])


def _row(proposal: Proposal) -> str:
    new, noise = proposal.new, proposal.noise
    unit = new.unit
    if proposal.case.denominator is not None:
        unit = formatting.RATIO_UNIT
    old = proposal.old_value
    change = "new"
    if old is not None:
        change = formatting.change(noise.reference / old - 1)
    notes = [*proposal.notes, *proposal.objections]
    if not noise.established:
        notes.append("provisional")
    mde = noise.mde(new.better == "higher")
    cells = [
        proposal.case.id,
        formatting.number(old, unit),
        formatting.number(noise.reference, unit),
        change,
        _rests_on(proposal),
        formatting.percent(coefficient_of_variation(values_of(new.launches))),
        formatting.percent(new.target_effect),
        formatting.percent(mde),
        new.gate,
        "; ".join(notes),
    ]
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def _rests_on(proposal: Proposal) -> str:
    """How many launches of how many runs, and of how many machines if several."""
    runs = formatting.count(proposal.new.runs, "run")
    text = f"{len(proposal.new.launches)} of {runs}"
    if proposal.machine_count > 1:
        text += f" on {proposal.machine_count} machines"
    return text


def _is_chosen(proposal: Proposal, choice: Choice) -> bool:
    case_id = proposal.case.id
    if not choice.only:
        return True
    return any(fnmatch.fnmatchcase(case_id, pattern) for pattern in choice.only)


def _by_file(made: Sequence[Proposal]) -> dict[Path, list[Proposal]]:
    groups: dict[Path, list[Proposal]] = defaultdict(list)
    for proposal in made:
        groups[proposal.path].append(proposal)
    return dict(groups)


def _refuse_ci(env: Mapping[str, str]) -> None:
    if env.get("CI", "").lower() in ("", "0", "false"):
        return
    raise RecordingRefused(
        tried="accepting runs into the baselines",
        seen=f"CI={env['CI']}: this is a CI job",
        remedy=(
            "let the job keep its run directory, and accept it at a desk, in a commit "
            "of its own"
        ),
    )


def _refuse_runs(runs: Sequence[RunResults]) -> None:
    for run in runs:
        is_measured = any(launch.measured for launch in run.launches)
        if not run.complete and not is_measured:
            raise RecordingRefused(
                tried=f"accepting run {run.run_id}",
                seen="it was cut off before it had measured a whole launch",
                remedy="finish it (pytest --resume with its --run-dir) or measure again",
            )
    paired = [run.run_id for run in runs if run.mode == "paired"]
    if paired:
        raise RecordingRefused(
            tried=f"accepting {', '.join(paired)}",
            seen="it launched a candidate in turn with a base build (--against-engine)",
            remedy="measure the build alone, with --baseline-record",
        )
    ids = [run.run_id for run in runs]
    repeated = sorted({run_id for run_id in ids if ids.count(run_id) > 1})
    if repeated:
        raise RecordingRefused(
            tried="accepting several runs",
            seen=f"{', '.join(repeated)} is named twice",
            remedy="name each run once",
        )


def _refuse_injected(
    runs: Sequence[RunResults], made: Sequence[Proposal]
) -> None:
    for run in runs:
        reader = RunReader(run)
        for proposal in made:
            injected = reader.injected(proposal.case)
            if injected:
                changes = injection.format_injection(injected)
                raise RecordingRefused(
                    tried=f"accepting {proposal.case.id} of run {run.run_id}",
                    seen=f"its servers were changed on purpose: INJECTED {changes}",
                    remedy=f"measure again without {injection.OPTIONS}",
                )


def _cut_off(made: Sequence[Proposal], runs: Sequence[RunResults]) -> list[str]:
    """Objections to cases of a launch that was cut off, by run and server.

    Whole launches of the same run are as good as any.
    """
    objections = []
    for run in runs:
        if not run.cut_off:
            continue
        whole = next(
            launch.server for launch in run.launches if launch.measured
        )
        for servers, cases in _cut_off_cases(made, run).items():
            more = f" and {len(cases) - 1} more" if len(cases) > 1 else ""
            objections.append(
                f"{cases[0]}{more}: run {run.run_id} was cut off in a launch of "
                f"{servers}: finish it (pytest --resume with its --run-dir), or accept "
                f"whole launches alone: --only '{whole}/*'"
            )
    return objections


def _cut_off_cases(
    made: Sequence[Proposal], run: RunResults
) -> dict[str, list[str]]:
    """Servers whose launch was cut off -> the cases that need it."""
    reader = RunReader(run)
    cases: dict[str, list[str]] = defaultdict(list)
    for proposal in made:
        servers = reader.cut_off(proposal.case)
        if run.run_id in proposal.runs and servers:
            cases[" and of ".join(servers)].append(proposal.case.id)
    return dict(cases)


def _refuse_cases(
    made: Sequence[Proposal],
    runs: Sequence[RunResults],
    lost: Mapping[Path, Sequence[str]],
) -> None:
    objections = []
    for proposal in made:
        for objection in proposal.objections:
            objections.append(f"{proposal.case.id}: {objection}")
    objections += _cut_off(made, runs)
    for path, names in lost.items():
        if names:
            objections.append(
                f"{path}: it was recorded of something else, and {', '.join(names)} "
                "would be lost; leave out --only"
            )
    if objections:
        cases = formatting.count(len(made), "case")
        raise RecordingRefused(
            tried=f"accepting {cases}; nothing was written",
            seen="\n        ".join(objections),
            remedy="as each line says; --only accepts the rest",
        )


def _with_provenance(
    file: BaselineFile,
    made: Sequence[Proposal],
    runs: Sequence[RunResults],
    reason: str | None,
) -> BaselineFile:
    """The file with the runs of each metric; entries of runs that left the file go."""
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    entries = {entry.run: entry for entry in file.provenance}
    for run in runs:
        names = {p.case.metric for p in made if run.run_id in p.runs}
        if not names:
            continue
        before = entries.get(run.run_id)
        run_reason = reason
        if before is not None:
            names |= set(before.metrics)
            run_reason = reason or before.reason
        entries[run.run_id] = Provenance(
            run=run.run_id,
            accepted=today,
            suite_version=run.suite_version,
            metrics=tuple(sorted(names)),
            reason=run_reason,
            machine=made[0].machines.get(run.run_id),
        )
    used: set[str] = set()
    for metric in file.metrics.values():
        used |= {point.run for point in metric.launches}
    if any(proposal.new.known for proposal in made):
        used |= {run.run_id for run in runs}
    kept = tuple(entries[run] for run in sorted(entries) if run in used)
    return msgspec.structs.replace(file, provenance=kept)
