"""Accept: turn measurements into baselines, in two steps.

A run only proposes baselines: it writes files and a table into its own directory. A
person accepts runs with `perfgate accept`. It reads the runs again, shows old, new,
change, launches and variation, and refuses bad references. It does not work in CI.
"""

from __future__ import annotations

import dataclasses
import datetime
import os
import shlex
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from perfgate import formatting
from perfgate.accept.choice import Choice
from perfgate.accept.proposal import Proposal, merged, proposals
from perfgate.engines import injection
from perfgate.errors import Failure
from perfgate.files import write_atomically
from perfgate.judge.baseline_schema import BaselineFile, Provenance, to_text
from perfgate.judge.baseline_store import Store
from perfgate.judge.noise import coefficient_of_variation
from perfgate.judge.observation import RunReader
from perfgate.judge.wording import RUN
from perfgate.results import schema as rundata
from perfgate.results.samples import values_of
from perfgate.results.schema import RunResults
from perfgate.results.verdict import unit_of

DIFF = "diff.md"


class RecordingRefused(Failure):
    """Runs that must not become a baseline."""


@dataclass(frozen=True)
class Accepted:
    """What was accepted.

    Attributes:
        proposals: the accepted cases.
        paths: the baseline files with them.
        skipped_count: cases left out, because all of their launches are in the
            baseline already.
        run_ids: the runs that were given.
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
    valid = []
    run_dir = out_dir.parent
    for proposal in _named(
        proposals([results], store, Choice()), [run_dir], store
    ):
        if not (proposal.is_invalid or proposal.is_recorded):
            valid.append(proposal)
    targets = []
    for path, group in _by_file(valid).items():
        file, _ = merged(store.file(path), group)
        file = _with_provenance(file, group, [results], None, ())
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
    _refuse_ci(env)
    runs = [rundata.load(folder) for folder in run_dirs]
    runs.sort(key=lambda run: run.run_id)
    _refuse_runs(runs)
    candidates = _named(proposals(runs, store, choice), run_dirs, store)
    matches = [p for p in candidates if choice.matches(p.case)]
    if not matches:
        raise _no_match(run_dirs, candidates, choice, store)
    accepted = [p for p in matches if not p.is_recorded]
    _refuse_injected(runs, accepted)
    groups = _by_file(accepted)
    files, lost = {}, {}
    for path, group in groups.items():
        files[path], lost[path] = merged(store.file(path), group)
    _refuse_cases(accepted, runs, [*_mixed(groups), *_lost(lost, choice)])
    excused = _excused(accepted, runs, store, choice)
    if write:
        for path, group in groups.items():
            file = _with_provenance(
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


def _no_match(
    run_dirs: Sequence[Path],
    candidates: Sequence[Proposal],
    choice: Choice,
    store: Store,
) -> RecordingRefused:
    """The refusal where no measured case is chosen."""
    seen = "they contain no measured case"
    suggestion = ""
    if choice.only and candidates:
        patterns = " ".join(f"--only {pattern}" for pattern in choice.only)
        seen = f"{patterns} matches none of {len(candidates)} measured cases"
        ids = [proposal.case.id for proposal in candidates]
        suggestion = formatting.suggestion(choice.only[0], ids)
    run = shlex.quote(str(run_dirs[0])) + store.in_commands
    return RecordingRefused(
        tried=f"accepting {', '.join(str(folder) for folder in run_dirs)}",
        seen=seen,
        remedy=(
            f"{suggestion}`perfgate judge {run} -v` lists the cases; --only "
            "takes an id or a pattern such as '*/closed-c32/*'"
        ),
    )


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


def table(accepted: Sequence[Proposal]) -> str:
    """Markdown: old, new, change, launches, variation, target effect, MDE and notes."""
    head = f"| {' | '.join(_COLUMNS)} |"
    rule = f"|{'---|' * len(_COLUMNS)}"
    return "\n".join([head, rule, *map(_row, accepted)])


def _row(proposal: Proposal) -> str:
    new, noise = proposal.new, proposal.noise
    unit = unit_of(proposal.case.id, proposal.case.metric)
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
        _launch_count(proposal),
        formatting.percent(coefficient_of_variation(values_of(new.launches))),
        formatting.percent(proposal.target_effect),
        formatting.percent(mde),
        new.gate,
        "; ".join(notes),
    ]
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def _launch_count(proposal: Proposal) -> str:
    """How many launches of how many runs, and of how many machines if several."""
    runs = formatting.count(proposal.new.runs, "run")
    text = f"{len(proposal.new.launches)} of {runs}"
    if proposal.machine_count > 1:
        text += f" on {proposal.machine_count} machines"
    return text


def _by_file(accepted: Sequence[Proposal]) -> dict[Path, list[Proposal]]:
    groups: dict[Path, list[Proposal]] = defaultdict(list)
    for proposal in accepted:
        groups[proposal.path].append(proposal)
    return dict(groups)


def _refuse_ci(env: Mapping[str, str]) -> None:
    if env.get("CI", "").lower() in ("", "0", "false"):
        return
    raise RecordingRefused(
        tried="accepting runs into the baselines",
        seen=f"CI={env['CI']}: this is a CI job",
        remedy=(
            "keep the run directory as an artifact of the job, accept it outside CI, "
            "and commit the baselines"
        ),
    )


def _refuse_unmeasured(run: RunResults) -> None:
    """Refuse a run without a whole launch."""
    if run.measured_nothing:
        raise RecordingRefused(
            tried=f"accepting run {run.run_id}",
            seen="it measured nothing; its report.html says why",
            remedy="measure again, on a machine where the tests are not skipped",
        )
    is_measured = any(launch.measured for launch in run.launches)
    is_cut_off = bool(run.cut_off) or not run.complete
    if is_cut_off and not is_measured:
        raise RecordingRefused(
            tried=f"accepting run {run.run_id}",
            seen="it was cut off before it had measured a whole launch",
            remedy="resume it (pytest --run-dir=RUN --resume), or measure again",
        )


def _refuse_runs(runs: Sequence[RunResults]) -> None:
    for run in runs:
        _refuse_unmeasured(run)
    paired = [run.run_id for run in runs if run.is_paired]
    if paired:
        raise RecordingRefused(
            tried=f"accepting {', '.join(paired)}",
            seen="it compared a candidate with a base build (--against-engine)",
            remedy="measure the candidate alone, with --baseline-record",
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
    runs: Sequence[RunResults], accepted: Sequence[Proposal]
) -> None:
    for run in runs:
        reader = RunReader(run)
        for proposal in accepted:
            injected = reader.injected(proposal.case)
            if injected:
                changes = injection.format_injection(injected)
                raise RecordingRefused(
                    tried=f"accepting {proposal.case.id} of run {run.run_id}",
                    seen=f"its servers had an injection: INJECTED {changes}",
                    remedy=f"measure again without {injection.OPTIONS}",
                )


def _cut_off(
    accepted: Sequence[Proposal], runs: Sequence[RunResults]
) -> list[str]:
    """Objections to cases of a launch that was cut off, by run and server.

    Complete launches of the same run can be accepted.
    """
    objections = []
    for run in runs:
        if not run.cut_off:
            continue
        complete = next(
            launch.server for launch in run.launches if launch.measured
        )
        for servers, cases in _cut_off_cases(accepted, run).items():
            subject = cases[0]
            if len(cases) > 1:
                subject += f" and {len(cases) - 1} more"
            objections.append(
                f"{subject}: run {run.run_id} was cut off in a launch of {servers}: "
                "resume it (pytest --run-dir=RUN --resume), or accept complete "
                f"launches alone: --only '{complete}/*'"
            )
    return objections


def _cut_off_cases(
    accepted: Sequence[Proposal], run: RunResults
) -> dict[str, list[str]]:
    """Servers whose launch was cut off -> the cases that need it."""
    reader = RunReader(run)
    cases: dict[str, list[str]] = defaultdict(list)
    for proposal in accepted:
        servers = reader.cut_off(proposal.case)
        if run.run_id in proposal.runs and servers:
            cases[" and of ".join(servers)].append(proposal.case.id)
    return dict(cases)


def _objections(
    accepted: Sequence[Proposal], runs: Sequence[RunResults]
) -> list[str]:
    """The proposals' own objections, but of launches that were cut off."""
    cut_off: set[str] = set()
    for run in runs:
        for case_ids in _cut_off_cases(accepted, run).values():
            cut_off.update(case_ids)
    objections = []
    for proposal in accepted:
        if proposal.is_invalid and proposal.case.id in cut_off:
            continue
        for objection in proposal.objections:
            objections.append(f"{proposal.case.id}: {objection}")
    return objections


def _mixed(groups: Mapping[Path, Sequence[Proposal]]) -> list[str]:
    """Objections to files whose cases were measured in different configurations.

    Runs of different cases may be: each case alone has but one of them.
    """
    objections = []
    for path, group in groups.items():
        last = group[-1]
        for proposal in group:
            names = formatting.differing(last.identity, proposal.identity)
            if names:
                objections.append(
                    f"{path}: {proposal.case.metric} and {last.case.metric} were "
                    "measured in different configurations "
                    f"({formatting.listed(names)}): accept the runs of one of them"
                )
                break
    return objections


def _lost(lost: Mapping[Path, Sequence[str]], choice: Choice) -> list[str]:
    """Objections to files whose other metrics were of another configuration."""
    remedy = "measure the whole load, or keep both with another --baselines"
    if choice.only:
        remedy = "leave out --only"
    objections = []
    for path, names in lost.items():
        if names:
            objections.append(
                f"{path}: its launches measured another configuration, so "
                f"{', '.join(names)} would be lost: {remedy}"
            )
    return objections


def _refuse_cases(
    accepted: Sequence[Proposal],
    runs: Sequence[RunResults],
    about_files: Sequence[str],
) -> None:
    """Raise with every objection to a case or a file.

    Args:
        about_files: objections to what would be written.
    """
    objections = [
        *_objections(accepted, runs),
        *_cut_off(accepted, runs),
        *about_files,
    ]
    if objections:
        cases = formatting.count(len(accepted), "case")
        raise RecordingRefused(
            tried=f"accepting {cases}; nothing was written",
            seen="\n        ".join(objections),
            remedy="see each line; --only CASE accepts the other cases",
        )


def _with_provenance(
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
