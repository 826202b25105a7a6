"""What a profile adds to a finding: a late rank, communication, one kernel, or launches.

The shape of a loss tells that ranks cost time, and not which one, nor whether they wait
or exchange. A profile has the time of each rank in the exchanges between them, and that
of each kernel.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable

from perfgate.judge.causes import words
from perfgate.judge.causes.finding import Finding
from perfgate.judge.causes.symptoms import Moved
from perfgate.results.diagnosis import Cause
from perfgate.results.profile import AS_CAUSE, Profile

# Causes without a time that a profile could explain.
_NO_TIME: frozenset[Cause] = frozenset({"memory", "answers"})
MEAN_ITL = "itl_mean_ms"


def refined(
    finding: Finding,
    server: str,
    profiles: Iterable[Profile],
    rows: Iterable[Moved] = (),
) -> Finding:
    """The finding, with the cause that a profile names where it explains most of the loss.

    What the engine chose otherwise stays the cause: a choice may make a rank late, and
    communication slow.

    Args:
        rows: what changed in the server.
    """
    if finding.by_choice or finding.cause in _NO_TIME:
        return finding
    own = []
    for profile in profiles:
        if profile.server == server and not profile.is_the_profilers:
            own.append(profile)
    losses = [_loss_ms(profile, rows) for profile in own]
    for rule in _RULES:
        for profile, loss_ms in zip(own, losses, strict=True):
            found = rule(finding, profile, loss_ms)
            if found is not None:
                return found
    return finding


def _loss_ms(profile: Profile, rows: Iterable[Moved]) -> float:
    """The loss that a cause has to explain: all of what the load lost.

    A step that is hardly longer under the profiler explains little of it: the loss may be
    in the front end, which no step shows. Nor does a decode step explain a mean gap that
    lost more: other steps take prompts in as well.
    """
    losses = [profile.loss_ms, profile.lost_ms or 0.0]
    for row in rows:
        is_mean = row.metric == MEAN_ITL and row.load == profile.load
        if is_mean and row.is_red and profile.phase == "decode":
            losses.append(row.added)
    return max(losses)


def _late_rank(
    finding: Finding, profile: Profile, loss_ms: float
) -> Finding | None:
    """One rank is late, and the others' wait for it is most of the loss."""
    late = profile.late_rank
    if late is None or late.before_ms is None:
        return None
    added_ms = late.wait_ms - late.before_ms
    if not _is_most(added_ms, loss_ms):
        return None
    share = min(1.0, added_ms / loss_ms)
    line = words.LATE_RANK.format(rank=late.rank, share=_percent(share))
    return _named(finding, "late-rank", line)


def _communication(
    finding: Finding, profile: Profile, loss_ms: float
) -> Finding | None:
    """Exchanges take longer by most of the loss, and no rank is late to them."""
    added_ms = profile.communication_added_ms
    if profile.late_rank is not None or not _is_most(added_ms, loss_ms):
        return None
    line = words.COMMUNICATION.format(
        added=f"{added_ms:.3g}", share=_percent(added_ms / loss_ms)
    )
    return _named(finding, "communication", line)


def _one_kernel(
    finding: Finding, profile: Profile, loss_ms: float
) -> Finding | None:
    """One kernel is most of a loss that nothing else explains."""
    if not _is_left_to_kernels(finding, profile):
        return None
    slowest = max(
        profile.slower, key=lambda kernel: kernel.added_ms, default=None
    )
    if slowest is None or not _is_most(slowest.added_ms, loss_ms):
        return None
    line = words.ONE_KERNEL.format(
        kernel=slowest.short_name,
        added=f"{slowest.added_ms:.3g}",
        share=_percent(slowest.added_ms / loss_ms),
    )
    return _named(finding, "one-kernel", line)


def _launches(
    finding: Finding, profile: Profile, loss_ms: float
) -> Finding | None:
    """The GPU waits between kernels for most of a loss that nothing else explains."""
    if not _is_left_to_kernels(finding, profile):
        return None
    added_ms = profile.idle_added_ms
    if not _is_most(added_ms, loss_ms):
        return None
    line = words.LAUNCHES.format(
        added=f"{added_ms:.3g}", share=_percent(min(1.0, added_ms / loss_ms))
    )
    return _named(finding, "launches", line)


# The first that fits counts.
_RULES: tuple[Callable[[Finding, Profile, float], Finding | None], ...] = (
    _late_rank,
    _communication,
    _one_kernel,
    _launches,
)


def _is_left_to_kernels(finding: Finding, profile: Profile) -> bool:
    """Whether no rule fitted, and the profile has kernels that may tell the cause.

    Operators of a CPU do not: the profiler itself costs too much there, in them and
    between them.
    """
    return finding.cause == "unknown" and profile.unit == "kernel"


def _is_most(added_ms: float, loss_ms: float) -> bool:
    """Whether a time is at least half of the loss; never without a base."""
    return loss_ms > 0 and added_ms >= AS_CAUSE * loss_ms


def _named(finding: Finding, cause: Cause, line: str) -> Finding:
    """The finding with another cause, and first of all what shows it."""
    return dataclasses.replace(
        finding, cause=cause, evidence=(line, *finding.evidence)
    )


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
