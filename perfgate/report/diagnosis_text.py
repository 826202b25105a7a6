"""Text of a diagnosis: what, who, phase, cause, what else differs, what got better, what to do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from perfgate import formatting
from perfgate.judge.verdict import Verdict, is_regression
from perfgate.report import profile_text, verdict_text
from perfgate.results.diagnosis import (
    Cause,
    Diagnosis,
    Phase,
    Split,
    Who,
    Worth,
)
from perfgate.results.profile import Explained
from perfgate.results.schema import RunResults

CAUSES: dict[Cause, str] = {
    "graphs": "no graphs, or fewer (a step pays for the launches of its kernels)",
    "batch-cap": "capped batch (requests wait, no step is slower)",
    "prefill-chunk": "size of a prefill chunk",
    "attention": "attention backend",
    "expert-path": "expert path (kernels of the experts)",
    "communication": "communication between ranks",
    "late-rank": "one late rank (the others wait for it in each exchange)",
    "one-kernel": "one kernel (most of the loss is its time in the profile)",
    "launches": "launches of kernels (the GPU waits for the host between them)",
    "per-token": "a cost per token of the batch (sampling, detokenising, front end)",
    "host": "host or clocks (all servers alike)",
    "memory": "memory",
    "number-format": "number format of weights or KV cache",
    "model-runner": "model runner of the engine",
    "sampling": "sampling backend",
    "scheduling": "scheduler (the next step waits for the last one)",
    "answers": "other answers (weights, kernels or sampler)",
    "unknown": "unknown (no rule fits)",
}
PHASES: dict[Phase, str] = {
    "queue": ", lost in the queue",
    "prefill": ", lost in prefill",
    "decode": ", lost in decoding",
    "prefill and decode": ", lost in prefill and decoding",
    "memory": "",
    "unknown": "",
}
WHO: dict[Who, str] = {
    "server": "",
    "sparse": "the sparse models only",
    "dense": "the dense models only",
    "dense-too": "sparse and dense models",
    "engine": "every server of this engine, and no other one",
    "ranks": "every server of several ranks, and no other one",
    "machine": "every server of the run",
}
HEADS = {True: "CAUSE", False: "CHANGED, AND NOTHING IS RED"}
INJECTED = "measure again without the injection"
# Causes that no timing tells: the row says it all.
NO_TIMING: frozenset[Cause] = frozenset({"unknown", "memory", "answers"})
MILLION = 1e6
MOST_OF_A_TRADE = 2
_INDENT = "  "
_DIGITS = 1  # of milliseconds


def render_all(results: RunResults, run: str = "RUN") -> list[str]:
    """The text of each diagnosis of a run.

    Args:
        run: the run directory, for commands that can be copied.
    """
    return [render(results, row, run) for row in results.diagnoses]


def title(row: Diagnosis) -> str:
    """Cause and phase: "expert path (kernels of the experts), lost in decoding"."""
    return CAUSES[row.cause] + PHASES[row.phase]


def render(results: RunResults, row: Diagnosis, run: str = "RUN") -> str:
    """A diagnosis, a line for each question in the order in which one asks.

    Args:
        run: the run directory, for commands that can be copied.
    """
    lines = [f"{HEADS[row.is_loss]}: {title(row)}"]
    for name, text in _lines(results, row, run):
        label = f"{name}:"
        lines.append(f"{_INDENT}{label:<9} {text}")
    return "\n".join(lines)


def finding(results: RunResults, row: Diagnosis) -> str:
    """A diagnosis in one line: servers, the worst row, and what was seen."""
    parts = [formatting.listed(row.servers)]
    worst = _worst(results, row)
    if worst is not None:
        parts.append(_of_row(worst))
    parts += row.evidence
    for profile in _own(results.profiles, row):
        parts.append(profile_text.finding(profile))
    for proof in _own(results.counter_proofs, row):
        parts.append(profile_text.counter_proof(proof))
    return "; ".join(parts)


def advice(row: Diagnosis) -> str:
    """What to do next."""
    if row.injected:
        return f"{INJECTED} ({row.injected})"
    if row.next_step:
        return f"`{row.next_step}`"
    return ""


def _lines(
    results: RunResults, row: Diagnosis, run: str
) -> Iterator[tuple[str, str]]:
    worst = _worst(results, row)
    if worst is not None:
        yield "what", _of_row(worst)
    servers = formatting.listed(row.servers)
    who = WHO[row.who]
    yield "who", f"{servers} ({who})" if who else servers
    for split in _told(row.splits):
        yield "phase", split_text(split)
    for number, text in enumerate(row.evidence):
        suffix = ""
        if number == 0 and row.cause not in NO_TIMING:
            suffix = f" ({_basis(row)})"
        yield "seen", f"{text}{suffix}"
    yield from _proofs(results, row, run)
    yield from _others(row)
    text = advice(row)
    if text:
        yield "do", text


def _proofs(
    results: RunResults, row: Diagnosis, run: str
) -> Iterator[tuple[str, str]]:
    """What more launches of these servers showed: kernels, and choices put back."""
    profiles = _own(results.profiles, row)
    for profile in profiles:
        yield from profile_text.lines(profile, run)
    for server, reason in results.unexplained.items():
        if row.is_loss and server in row.servers and not profiles:
            yield "profile", f"{server} could not be profiled: {reason}"
    for proof in _own(results.counter_proofs, row):
        yield "proof", profile_text.counter_proof(proof)


def _own(rows: Sequence[Explained], row: Diagnosis) -> list[Explained]:
    """What explains the loss of a diagnosis."""
    if not row.is_loss:
        return []
    return [entry for entry in rows if entry.server in row.servers]


def _basis(row: Diagnosis) -> str:
    if not row.by_choice:
        return "by its timing"
    if row.injected:
        return "under the injection"
    return "chosen by the engine"


def _others(row: Diagnosis) -> Iterator[tuple[str, str]]:
    """What else differs, and what got better, against what got worse."""
    if row.differs:
        yield "differs", formatting.listed(row.differs)
    gains = formatting.listed(row.gains[:MOST_OF_A_TRADE])
    losses = formatting.listed(row.losses[:MOST_OF_A_TRADE])
    if gains and losses:
        yield "mixed", f"better {gains}; worse {losses}"
    elif gains:
        yield "better", gains
    if row.worth is not None:
        yield "worth", worth_text(row.worth)


def worth_text(worth: Worth) -> str:
    """What a change is worth: "closed-c32: 4.50 -> 2.34 million output tokens ..."."""
    change = formatting.signed_percent(worth.now / worth.before - 1)
    before = f"{worth.before / MILLION:.2f}"
    now = f"{worth.now / MILLION:.2f}"
    return (
        f"{worth.load}: {before} -> {now} million output tokens per {worth.unit} "
        f"({change})"
    )


def split_text(split: Split) -> str:
    """A loss by phases: "closed-c32: +12.0 ms a request = +2.0 queue, +10.0 decode".

    The whole is the sum of its parts as they are read.
    """
    parts = []
    whole_ms = 0.0
    for share in split.shares:
        parts.append(f"{_signed(share.ms)} {share.name}")
        whole_ms += round(share.ms, _DIGITS)
    return (
        f"{split.load}: {_signed(whole_ms)} ms a request = {', '.join(parts)}"
    )


def _signed(ms: float) -> str:
    """Milliseconds with a sign."""
    return f"{ms:+,.{_DIGITS}f}"


def _told(splits: Sequence[Split]) -> list[Split]:
    """The load whose requests lost most; none where none takes longer."""
    slower = [split for split in splits if split.added_ms > 0]
    if not slower:
        return []
    return [max(slower, key=lambda split: split.now_ms / split.before_ms)]


def _worst(results: RunResults, row: Diagnosis) -> Verdict | None:
    """The red row of the servers that lost most."""
    cases = set()
    for case in results.cases:
        if not case.is_ratio and case.numerator.server.key in row.servers:
            cases.add(case.id)
    rows = []
    for verdict in results.verdicts:
        if verdict.case in cases and is_regression(verdict):
            rows.append(verdict)
    return max(rows, key=lambda verdict: verdict.worse_by or 0.0, default=None)


def _of_row(row: Verdict) -> str:
    return f"{verdict_text.heading(row)}: {verdict_text.finding(row)}"
