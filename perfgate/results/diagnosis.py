"""Diagnosis: who lost speed, in which phase, and what is the likely cause; as fields.

`perfgate.judge.causes` makes it after all verdicts of a run, `perfgate.report` turns it
into text.
"""

from __future__ import annotations

from typing import Literal

import msgspec

Cause = Literal[
    "graphs",
    "batch-cap",
    "prefill-chunk",
    "attention",
    "expert-path",
    "communication",
    "late-rank",
    "one-kernel",
    "launches",
    "per-token",
    "host",
    "memory",
    "number-format",
    "model-runner",
    "sampling",
    "scheduling",
    "answers",
    "unknown",
]
# Of what was measured in the run: which part lost.
Who = Literal[
    "server", "sparse", "dense-too", "dense", "engine", "ranks", "machine"
]
Phase = Literal[
    "queue", "prefill", "decode", "prefill and decode", "memory", "unknown"
]


class PhaseShare(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """One part of a loss.

    Attributes:
        name: "queue", "prefill", "decode", "client" or "rest".
        ms: what it adds to the time of a request; negative for a gain.
    """

    name: str
    ms: float


class Split(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """What a request of one load takes longer, by phases that add up to the whole.

    Attributes:
        before_ms, now_ms: mean end-to-end latency.
    """

    server: str
    load: str
    before_ms: float
    now_ms: float
    shares: tuple[PhaseShare, ...]

    @property
    def added_ms(self) -> float:
        """What the request takes longer; the shares add up to it."""
        return self.now_ms - self.before_ms


class Worth(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """What a change is worth in one load, in output tokens per hour of a GPU.

    Attributes:
        unit: "GPU-hour"; "server-hour" on a CPU.
    """

    load: str
    before: float
    now: float
    unit: str


class Diagnosis(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """Why servers of a run lost speed.

    Attributes:
        servers: keys of those it speaks of.
        who: which part of what was measured.
        phase: where the time is lost.
        cause: "unknown" where no rule fits.
        is_loss: False where nothing is red, and a choice of the engine changed.
        by_choice: whether a choice of the engine says so, and not its timing alone.
        injected: what was changed on purpose in the servers, in words.
        evidence: what was seen, one sentence each.
        differs: what else differs from the baseline: choices, packages, driver.
        losses: what got worse where something got better too.
        gains: what got better in the same servers: "ITL of single-stream -4.2 % (...)".
        worth: of the widest closed load.
        splits: the loss by phases, for each load that tells them.
        next_step: the command to go on with.

    """

    servers: tuple[str, ...]
    who: Who
    phase: Phase
    cause: Cause
    is_loss: bool = True
    by_choice: bool = False
    injected: str = ""
    evidence: tuple[str, ...] = ()
    differs: tuple[str, ...] = ()
    losses: tuple[str, ...] = ()
    gains: tuple[str, ...] = ()
    worth: Worth | None = None
    splits: tuple[Split, ...] = ()
    next_step: str = ""
