"""How does a measurement become a baseline?

In two acts. A run only proposes: it writes files and a table beside its own data. A
person takes them over with `perfgate accept`, which reads the runs again, shows old,
new, change, launches and spread, and refuses what should not be compared with later. CI
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

from perfgate import formatting as wording
from perfgate.accept.proposal import Choice, Proposal, merged, proposals
from perfgate.engines import injection
from perfgate.errors import Failure
from perfgate.files import write_atomically
from perfgate.judge.baseline_schema import BaselineFile, Provenance, to_text
from perfgate.judge.baseline_store import Store
from perfgate.judge.observation import RunReader
from perfgate.judge.policy import spread
from perfgate.results import schema as rundata
from perfgate.results.schema import RunResults

DIFF = "diff.md"


class RecordingRefused(Failure):
    """Runs that must not become a baseline."""


@dataclass(frozen=True)
class Accepted:
    """What was taken over."""

    made: tuple[Proposal, ...]
    paths: tuple[Path, ...]

    @property
    def table(self) -> str:
        """One row for each case."""
        return table(self.made)


def propose(results: RunResults, store: Store, out_dir: Path) -> list[Path]:
    """Write what the baselines would become, and a table of it, beside a run; the store is not touched.

    Returns:
        the proposed files, laid out as in the store. What speaks against them is
            written into the table.

    """
    made = [p for p in proposals([results], store, Choice()) if not _without_value(p)]
    written = []
    for path, group in _by_file(made).items():
        file, _ = merged(path, store.file(path), group)
        target = out_dir / path.relative_to(store.root)
        write_atomically(
            target, to_text(_with_provenance(file, group, [results], None))
        )
        written.append(target)
    write_atomically(
        out_dir / DIFF, f"# Proposed by run {results.run_id}\n\n{table(made)}\n"
    )
    return written


def accept(
    run_dirs: Sequence[Path],
    store: Store,
    choice: Choice,
    env: Mapping[str, str] = os.environ,
    write: bool = True,
) -> Accepted:
    """Take runs over into the store; several at once pool their launches.

    Args:
        env: where CI is looked for.
        write: False only shows.

    Raises:
        RecordingRefused: in CI; a run was injected or invalid, or cut off in a launch
            that a case is of; a value is worse without a reason; a promise cannot be
            kept. Nothing is written then.

    """
    if env.get("CI", "").lower() not in ("", "0", "false"):
        raise RecordingRefused(
            tried="taking runs over into the baselines",
            seen=f"CI={env['CI']}: this is a CI job",
            remedy=(
                "let the job keep its run directory, and accept it at a desk, in a "
                "commit of its own"
            ),
        )
    runs = sorted(
        (rundata.load(folder) for folder in run_dirs), key=lambda run: run.run_id
    )
    _refuse_runs(runs)
    made = [p for p in proposals(runs, store, choice) if _chosen(p, choice)]
    _refuse_injected(runs, made)
    if not made:
        raise RecordingRefused(
            tried=f"taking over {', '.join(str(folder) for folder in run_dirs)}",
            seen="no measured case matches"
            if choice.only
            else "nothing was measured in them",
            remedy=(
                "`perfgate judge RUN` lists the cases; --only takes an id or a "
                "pattern such as '*/closed-c32/*'"
            ),
        )
    files = {
        path: merged(path, store.file(path), group)
        for path, group in _by_file(made).items()
    }
    _refuse_cases(made, runs, {path: lost for path, (_, lost) in files.items()})
    if write:
        for path, group in _by_file(made).items():
            store.write(
                path, _with_provenance(files[path][0], group, runs, choice.reason)
            )
    return Accepted(tuple(made), tuple(files))


def table(made: Sequence[Proposal]) -> str:
    """Markdown: old, new, change, launches, spread, promised and detectable loss, and what to know about each."""
    head = (
        "| case | old | new | change | launches | spread | promised | detectable | "
        "gate | notes |"
    )
    return "\n".join(
        [head, "|---|---|---|---|---|---|---|---|---|---|", *map(_row, made)]
    )


def _row(proposal: Proposal) -> str:
    new, noise = proposal.new, proposal.noise
    unit = "" if proposal.case.over is not None else new.unit
    old = proposal.old_value
    notes = [*proposal.notes, *proposal.objections] + (
        [] if noise.firm else ["provisional"]
    )
    cells = [
        proposal.case.id,
        "-" if old is None else wording.number(old, unit),
        wording.number(noise.reference, unit),
        "new" if old is None else wording.moved(noise.reference / old - 1),
        _rests_on(proposal),
        wording.percent(spread(point.value for point in new.launches)),
        wording.percent(new.delta),
        wording.percent(noise.detectable(new.better == "higher")),
        new.gate,
        "; ".join(notes),
    ]
    return "| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |"


def _rests_on(proposal: Proposal) -> str:
    """How many launches of how many runs, and of how many machines where there are several."""
    text = f"{len(proposal.new.launches)} of {wording.count(proposal.new.runs, 'run')}"
    return (
        f"{text} on {proposal.machine_count} machines"
        if proposal.machine_count > 1
        else text
    )


def _chosen(proposal: Proposal, choice: Choice) -> bool:
    return not choice.only or any(
        fnmatch.fnmatchcase(proposal.case.id, pattern) for pattern in choice.only
    )


def _by_file(made: Sequence[Proposal]) -> dict[Path, list[Proposal]]:
    groups: dict[Path, list[Proposal]] = defaultdict(list)
    for proposal in made:
        groups[proposal.path].append(proposal)
    return dict(groups)


def _without_value(proposal: Proposal) -> bool:
    return any("is invalid for it" in objection for objection in proposal.objections)


def _refuse_runs(runs: Sequence[RunResults]) -> None:
    for run in runs:
        if not run.complete and not any(launch.measured for launch in run.launches):
            raise RecordingRefused(
                tried=f"taking over run {run.run_id}",
                seen="it was cut off before any of its launches was measured whole",
                remedy="finish it (pytest --resume with its --run-dir) or measure again",
            )
    if beside := [run.run_id for run in runs if run.against]:
        raise RecordingRefused(
            tried=f"taking over {', '.join(beside)}",
            seen="there a candidate was launched in turn with a base build (--against-engine)",
            remedy=(
                "measure the build that the baseline is to stand for by itself, with "
                "--baseline-record"
            ),
        )
    ids = [run.run_id for run in runs]
    twice = sorted({run_id for run_id in ids if ids.count(run_id) > 1})
    if twice:
        raise RecordingRefused(
            tried="taking several runs over",
            seen=f"{', '.join(twice)} is named twice",
            remedy="name each run once",
        )


def _refuse_injected(runs: Sequence[RunResults], made: Sequence[Proposal]) -> None:
    for run in runs:
        reader = RunReader(run)
        for proposal in made:
            injected = reader.injected(proposal.case)
            if injected:
                changes = injection.format_injection(injected)
                raise RecordingRefused(
                    tried=f"taking over {proposal.case.id} of run {run.run_id}",
                    seen=f"its servers were changed on purpose: INJECTED {changes}",
                    remedy=f"measure again without {injection.OPTIONS}",
                )


def _cut_off(made: Sequence[Proposal], runs: Sequence[RunResults]) -> list[str]:
    """What is of a launch that was cut off, by run and server; whole launches of the same run are as good as any."""
    cases: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for run in (run for run in runs if run.cut_off):
        reader = RunReader(run)
        whole = next(launch.server for launch in run.launches if launch.measured)
        for proposal in made:
            if run.run_id in proposal.runs and (keys := reader.cut_off(proposal.case)):
                cases[run.run_id, " and of ".join(keys), whole].append(proposal.case.id)
    return [
        f"{ids[0]}{f' and {len(ids) - 1} more' if len(ids) > 1 else ''}: run "
        f"{run} was cut off in a launch of {keys}: "
        "finish it (pytest --resume with its --run-dir), or take what is whole "
        f"alone: --only '{whole}/*'"
        for (run, keys, whole), ids in cases.items()
    ]


def _refuse_cases(
    made: Sequence[Proposal],
    runs: Sequence[RunResults],
    lost: Mapping[Path, Sequence[str]],
) -> None:
    objections = [
        f"{p.case.id}: {objection}" for p in made for objection in p.objections
    ] + _cut_off(made, runs)
    objections += [
        (
            f"{path}: it was recorded of something else, and {', '.join(names)} "
            "would be lost; leave out --only"
        )
        for path, names in lost.items()
        if names
    ]
    if objections:
        raise RecordingRefused(
            tried=f"taking over {wording.count(len(made), 'case')}; nothing was written",
            seen="\n        ".join(objections),
            remedy="as each line says; --only takes the rest over",
        )


def _with_provenance(
    file: BaselineFile,
    made: Sequence[Proposal],
    runs: Sequence[RunResults],
    reason: str | None,
) -> BaselineFile:
    """Who took which run over for which metrics; entries of runs that left the file go."""
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    entries = {entry.run: entry for entry in file.provenance}
    for run in runs:
        names = {p.case.metric for p in made if run.run_id in p.runs}
        if names:
            before = entries.get(run.run_id)
            entries[run.run_id] = Provenance(
                run=run.run_id,
                accepted=today,
                suite_version=run.suite_version,
                metrics=tuple(sorted(names | set(before.metrics if before else ()))),
                reason=reason or (before.reason if before else None),
                machine=made[0].machines.get(run.run_id),
            )
    used = {point.run for metric in file.metrics.values() for point in metric.launches}
    used |= {run.run_id for run in runs if any(p.new.known for p in made)}
    kept = tuple(entries[run] for run in sorted(entries) if run in used)
    return msgspec.structs.replace(file, provenance=kept)
