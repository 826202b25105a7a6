"""What a profile adds to a finding: of several ranks the late one.

The shape of a loss tells that ranks cost time, and not which one. A profile has the time
of each rank in the exchanges between them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from perfgate.judge.causes import words
from perfgate.judge.causes.finding import Finding
from perfgate.results.profile import LATE_AS_CAUSE, Profile


def refined(
    finding: Finding, server: str, profiles: Iterable[Profile]
) -> Finding:
    """The finding, with a late rank as its cause where that explains most of the loss.

    What the engine chose otherwise stays the cause: a choice may make a rank late.
    """
    if finding.by_choice:
        return finding
    for profile in profiles:
        late = profile.late_rank
        if profile.server != server or late is None or late.share is None:
            continue
        if late.share >= LATE_AS_CAUSE:
            line = words.LATE_RANK.format(
                rank=late.rank, share=f"{100 * min(1.0, late.share):.0f} %"
            )
            return dataclasses.replace(
                finding, cause="late-rank", evidence=(line, *finding.evidence)
            )
    return finding
