"""Refusals: runs and cases that must not become a baseline.

Objections to one case are found in `perfgate.accept.remarks`.
"""

from __future__ import annotations

import shlex
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from perfgate import formatting
from perfgate.accept.choice import Choice
from perfgate.accept.proposal import Proposal
from perfgate.engines import injection
from perfgate.errors import Failure
from perfgate.judge.baseline_store import Store
from perfgate.judge.observation import RunReader
from perfgate.results.schema import RunResults


class RecordingRefused(Failure):
    """Runs that must not become a baseline."""


def refuse_ci(env: Mapping[str, str]) -> None:
    """Refuse to accept anything in a CI job."""
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


def refuse_runs(runs: Sequence[RunResults]) -> None:
    """Refuse runs without a whole launch, runs in pairs, and one that is named twice."""
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


def no_match(
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


def refuse_injected(
    runs: Sequence[RunResults], accepted: Sequence[Proposal]
) -> None:
    """Refuse cases whose servers had an injection in one of the runs."""
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


def refuse_cases(
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


def mixed_configurations(
    groups: Mapping[Path, Sequence[Proposal]],
) -> list[str]:
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


def lost_metrics(
    lost: Mapping[Path, Sequence[str]], choice: Choice
) -> list[str]:
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
