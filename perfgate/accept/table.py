"""Table of proposals: old, new, change, launches and variation of each case."""

from __future__ import annotations

from collections.abc import Sequence

from perfgate import formatting
from perfgate.accept.proposal import Proposal
from perfgate.judge.noise import coefficient_of_variation
from perfgate.results.samples import values_of
from perfgate.results.verdict import unit_of

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
