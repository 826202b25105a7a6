"""Profile: kernels of a load by time and count under the engine's profiler, base and candidate.

`perfgate.run.explain` makes it of one launch of each build, which is never judged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeVar

import msgspec

# What is compared: one decode step, all prefill steps of one request, or, where the trace
# has no steps, all that was recorded for one request.
ProfiledPhase = Literal["decode", "prefill", "request"]
WorkUnit = Literal["kernel", "operator"]
# What the load lost without the profiler is the loss to be explained where a step under the
# profiler lost the same within this factor. Else a machine that is shared disturbed one of them.
AGREEING = 1.5
# A kernel is named where it costs at least this share of what was lost.
NAMED_SHARE = 0.05
# Kernels of one build alone replace each other where those that vanished took at least this
# share of the time of the new ones: another release names the same work otherwise.
REPLACED_SHARE = 0.5
# Of several ranks one is late where another one waits for it by this share of the loss, or
# without a base by this share of a step.
LATE_OF_LOSS, LATE_OF_STEP = 0.25, 0.2
# A late rank, communication or one kernel is the cause from this share of the loss on.
AS_CAUSE = 0.5
# Of a kernel's name, characters that are shown.
NAME_CHARACTERS = 70


@dataclass(frozen=True)
class LateRank:
    """A rank that the others wait for.

    Attributes:
        wait_ms: how long the one that waits longest does, of a step.
        before_ms: the same in the base; None without one.
    """

    rank: int
    wait_ms: float
    before_ms: float | None = None


class KernelChange(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """One kernel (on a CPU: one operator, without those that it calls).

    Attributes:
        before_ms, now_ms: its time in a step; before is 0 without a base.
        before_count, now_count: how often it runs in a step.
    """

    name: str
    before_ms: float
    now_ms: float
    before_count: float
    now_count: float

    @property
    def added_ms(self) -> float:
        """What it takes longer; negative for a gain."""
        return self.now_ms - self.before_ms

    @property
    def short_name(self) -> str:
        """Its name without what all templates begin with, and cut."""
        text = self.name.removeprefix("void ")
        if len(text) > NAME_CHARACTERS:
            return f"{text[: NAME_CHARACTERS - 3]}..."
        return text


class ProfiledSteps(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """The steps of one launch under the profiler, as means over steps and ranks.

    Attributes:
        steps: how many were counted, of each rank.
        batch: sequences in each of them; None where they differ.
        step_ms: from the begin of a step to the begin of the next one.
        idle_ms: of it, while nothing ran: launch gaps; on a CPU the time outside
            operators.
        communication_ms: of it, kernels that exchange data between ranks.
        other_ms: of it, kernels that are not listed by name.
        rank_communication_ms: communication of each rank, with its wait for others.
        plain_itl_ms: median ITL of the same load on this launch with the profiler off.
        profiled_itl_ms: the same with the profiler on.
    """

    steps: int
    batch: int | None
    step_ms: float
    idle_ms: float
    communication_ms: float
    other_ms: float
    plain_itl_ms: float | None = None
    profiled_itl_ms: float | None = None
    rank_communication_ms: tuple[float, ...] = ()

    @property
    def slow_rank(self) -> tuple[int, float] | None:
        """The rank that others wait for, and for how long (ms); None of a single rank.

        It comes last to each exchange, and so takes part in it for the shortest time.
        """
        waits = self.rank_communication_ms
        if len(waits) < 2:
            return None
        rank = waits.index(min(waits))
        return rank, max(waits) - waits[rank]

    @property
    def overhead(self) -> float | None:
        """What the profiler itself adds to a token, as a fraction; None if unknown."""
        if not self.plain_itl_ms or not self.profiled_itl_ms:
            return None
        return self.profiled_itl_ms / self.plain_itl_ms - 1


class Profile(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """What a load of a server runs, kernel by kernel, against what it ran in the base.

    Attributes:
        server: key of the server. load: name of the workload that it is a part of.
        base: what the base was, "the base build"; "" where there was none.
        before: of the base; None without one.
        kernels: those that changed most, or without a base the longest ones.
        lost_ms: what the load lost without the profiler, in the unit of a step; None
            where no metric of this unit was compared.
        lost_metric: what says so, "ITL of closed-c16".
        traces: trace files, relative to the run directory.
    """

    server: str
    load: str
    phase: ProfiledPhase
    unit: WorkUnit
    ranks: int
    base: str = ""
    before: ProfiledSteps | None = None
    now: ProfiledSteps
    kernels: tuple[KernelChange, ...] = ()
    lost_ms: float | None = None
    lost_metric: str = ""
    traces: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def added_ms(self) -> float:
        """What a step takes longer under the profiler; 0 without a base."""
        if self.before is None:
            return 0.0
        return self.now.step_ms - self.before.step_ms

    @property
    def idle_added_ms(self) -> float:
        """What of it is time in which nothing runs."""
        if self.before is None:
            return 0.0
        return self.now.idle_ms - self.before.idle_ms

    @property
    def communication_added_ms(self) -> float:
        """What of it is communication between ranks, with their waits; 0 of one rank."""
        if self.before is None or self.ranks < 2:
            return 0.0
        return self.now.communication_ms - self.before.communication_ms

    @property
    def agrees(self) -> bool:
        """Whether steps lost under the profiler about what the load lost without it."""
        if self.lost_ms is None or self.lost_ms <= 0 or self.added_ms <= 0:
            return False
        ratio = self.added_ms / self.lost_ms
        return 1 / AGREEING <= ratio <= AGREEING

    @property
    def is_the_profilers(self) -> bool:
        """Whether steps are longer under the profiler by far more than without it.

        It may cost one of the launches more in each step.
        """
        if self.lost_ms is None:
            return False
        return self.lost_ms < AS_CAUSE * self.added_ms

    @property
    def loss_ms(self) -> float:
        """The loss to be explained: as measured, else as seen under the profiler."""
        if self.lost_ms is not None and self.agrees:
            return self.lost_ms
        return self.added_ms

    @property
    def late_rank(self) -> LateRank | None:
        """The rank whose lateness is a part of the loss; None where none is."""
        found = self.now.slow_rank
        if found is None:
            return None
        rank, wait_ms = found
        if self.before is None:
            if wait_ms < LATE_OF_STEP * self.now.step_ms:
                return None
            return LateRank(rank, wait_ms)
        before = self.before.slow_rank
        if before is None or self.loss_ms <= 0:
            return None
        _, before_ms = before
        if (wait_ms - before_ms) / self.loss_ms < LATE_OF_LOSS:
            return None
        return LateRank(rank, wait_ms, before_ms)

    @property
    def replaced_by(self) -> tuple[KernelChange, ...]:
        """New kernels that stand in place of vanished ones; empty where none does."""
        new = tuple(row for row in self.kernels if not row.before_count)
        new_ms = sum(row.now_ms for row in new)
        vanished_ms = sum(row.before_ms for row in self._vanished)
        if self.before is None or vanished_ms < REPLACED_SHARE * new_ms:
            return ()
        return new

    @property
    def replaced_ms(self) -> float:
        """What new kernels take longer than those that they stand in place of."""
        new = self.replaced_by
        if not new:
            return 0.0
        return sum(row.added_ms for row in (*new, *self._vanished))

    @property
    def _vanished(self) -> tuple[KernelChange, ...]:
        """Kernels of the base that run no longer."""
        return tuple(row for row in self.kernels if not row.now_count)

    @property
    def slower(self) -> tuple[KernelChange, ...]:
        """Kernels that explain a part of the loss that is worth a name.

        Without new ones that stand in place of others: what they cost is `replaced_ms`.
        """
        if self.before is None or self.loss_ms <= 0:
            return ()
        least_ms = NAMED_SHARE * self.loss_ms
        replacing = self.replaced_by
        return tuple(
            row
            for row in self.kernels
            if row.added_ms >= least_ms and row not in replacing
        )

    @property
    def explained(self) -> float | None:
        """Share of the loss that the named kernels explain; None without a loss.

        More than 1 where other kernels take less time than before.
        """
        if self.before is None or self.loss_ms <= 0:
            return None
        added_ms = sum(row.added_ms for row in self.slower)
        return (added_ms + max(0.0, self.replaced_ms)) / self.loss_ms


class CounterProof(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """One more pair, in which an argument puts back what the engine chose before.

    Attributes:
        server: key of the server. choice: "moe_backend TRITON -> FLASHINFER_CUTLASS".
        argument: what puts it back, "--moe-backend triton".
        metric, load: what was compared.
        base: with what, "the base build".
        before: of the base. now: of the candidate with the argument.
        without: (candidate without the argument - base) / base, of the verdict.
        problem: why it was not measured; "" where it was.
    """

    server: str
    choice: str
    argument: str
    metric: str
    load: str
    base: str = ""
    before: float = 0.0
    now: float = 0.0
    without: float = 0.0
    problem: str = ""

    @property
    def change(self) -> float:
        """(candidate with the argument - base) / base."""
        return self.now / self.before - 1

    @property
    def brings_back(self) -> float:
        """Share of the loss that is gone with the argument; above 1 for a gain."""
        return 1 - self.change / self.without


class Unexplained(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """A server whose red load has no profile, and why."""

    server: str
    reason: str


Explained = TypeVar("Explained", Profile, CounterProof)
Explanation = Profile | CounterProof | Unexplained
