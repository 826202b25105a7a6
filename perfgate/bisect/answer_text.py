"""Answer text: which build, by how much, why, what is not explained, and how to see it again."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from perfgate import formatting
from perfgate.bisect import cost
from perfgate.bisect.bisection import Answer, loss_text
from perfgate.bisect.builds import Build
from perfgate.cases import parse_id, title
from perfgate.report import diagnosis_text, verdict_text
from perfgate.results import schema

# Of the whole loss: less than this is left unexplained without a word.
REST_SHARE = 0.25
ELSEWHERE = "another --folder"


def lines(
    answer: Answer,
    builds: Sequence[Build],
    folder: Path,
    command: Sequence[str],
) -> list[str]:
    """The answer, a line for each thing that one asks.

    Args:
        folder: of the bisection.
        command: that compares the two builds again.
    """
    told = [_heading(answer, builds)]
    told += _details(answer, builds)
    if answer.confirmation is not None:
        told += _causes(answer, folder)
    told += _rest(answer, builds)
    if answer.others:
        told.append(f"  worse too: {formatting.listed(answer.others)}")
        told.append(
            "  Ask for one of them with --case: pairs that are measured count again."
        )
    told.append(f"See it again: {shlex.join(command)}")
    return told


def _heading(answer: Answer, builds: Sequence[Build]) -> str:
    place = answer.position
    suspects = [builds[index].title for index in (*place.untested, place.bad)]
    metric = f"{title(answer.case)}, {parse_id(answer.case).metric}"
    found = f"FOUND: {suspects[-1]}"
    if len(suspects) > 1:
        found = f"FOUND: one of {formatting.listed(suspects)}"
    if not answer.is_confirmed:
        found = found.replace("FOUND", "NOT CONFIRMED", 1)
    step = answer.evidence.confirmed(place.good, place.bad)
    if step is None:
        return f"{found}: {metric}"
    return f"{found}: {metric} {loss_text(answer.evidence, step)}"


def _details(answer: Answer, builds: Sequence[Build]) -> list[str]:
    place, evidence = answer.position, answer.evidence
    told = [f"  last good build: {builds[place.good].title}"]
    if place.untested:
        told.append(
            "  The builds between them could not be compared: they failed to start, or "
            "gave no value that counts."
        )
    sessions = answer.state.sessions
    searching = confirming = 0
    for session in sessions:
        row = session.rows.get(answer.case)
        pairs = len(row.values) if row else 0
        if session.confirms:
            confirming += pairs
        else:
            searching += pairs
    seconds = sum(session.seconds for session in sessions)
    told.append(
        f"  measured: {formatting.count(searching, 'pair')} to find it, {confirming} to "
        f"confirm it, {cost.duration(seconds)}"
    )
    if not answer.is_confirmed:
        whole = loss_text(evidence, answer.effect)
        told.append(
            f"  Side by side the two builds do not differ as expected; the bad end has "
            f"{whole}. The machine may have changed meanwhile."
        )
    unsure = [
        builds[judged.index].name
        for judged in place.judged
        if not judged.is_sure
    ]
    if unsure:
        told.append(
            f"  neither good nor bad for sure: {formatting.listed(unsure)} (a part of "
            "the loss, or noise)"
        )
    return told


def _causes(answer: Answer, folder: Path) -> list[str]:
    """The gate's verdict on the two builds, and its causes."""
    assert answer.confirmation is not None
    run = folder / answer.confirmation.run
    results = schema.load(run)
    told = []
    for verdict in results.verdicts:
        if verdict.case == answer.case:
            told.append(
                f"  verdict: {verdict.outcome}, {verdict_text.finding(verdict)}"
            )
    told += diagnosis_text.render_all(results, str(run))
    return told


def _rest(answer: Answer, builds: Sequence[Build]) -> list[str]:
    """What the build found does not explain, and where to look for it."""
    place, evidence = answer.position, answer.evidence
    before = evidence.estimate(place.good)
    after = evidence.estimate(place.bad)
    told = []
    smallest = REST_SHARE * answer.effect.loss
    if before is not None and before.loss > max(smallest, before.margin()):
        told.append(
            f"  Before it {builds[place.good].title} is "
            f"worse already, {loss_text(evidence, before)}: look again with "
            f"--bad {shlex.quote(builds[place.good].end)}, and {ELSEWHERE}"
        )
    if after is None:
        return told
    rest = answer.effect.loss - after.loss
    if rest > max(smallest, answer.effect.margin(), after.margin()):
        share = formatting.signed_percent(evidence.fraction(rest))
        told.append(
            f"  After it {share} more is lost: look again with "
            f"--good {shlex.quote(builds[place.bad].end)}, and {ELSEWHERE}"
        )
    return told
