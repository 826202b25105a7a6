"""Sessions: what launches of one session tell of a machine, and what they do not.

Launches of one session share the machine's state of that day. So they know the mean of a
machine less well than launches of as many sessions, and vary less among each other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

# Of the variance between launches, the part that all launches of one session share.
# Assumed: the simulated machines have 34 to 63 %. It decides how much two more launches
# are worth.
MACHINE_SHARE = 1 / 2


def effective_sessions(runs: Sequence[str]) -> float:
    """As many sessions of equally many launches know the mean as well as these do.

    Kish, "Survey Sampling" (1965): the squared sum over the sum of squares.

    Args:
        runs: the run that each launch belongs to; at least one.
    """
    counts = Counter(runs).values()
    return len(runs) ** 2 / sum(count**2 for count in counts)


def shown_share(runs: Sequence[str]) -> float:
    """Of the variance between launches, what these show around their mean.

    All of it where each is of another run, and 1 - `MACHINE_SHARE` where all are of one.

    Args:
        runs: the run that each launch belongs to; at least two.
    """
    launches = len(runs)
    of_one_session = launches / effective_sessions(runs)
    of_others = (launches - of_one_session) / (launches - 1)
    return 1 - MACHINE_SHARE + MACHINE_SHARE * of_others


def degrees_of_freedom(launches: int, sessions: int) -> float:
    """Of the variance between launches, when launches of one session share the machine's part."""
    return max(1.0, (launches + sessions) / 2 - 1)


def mean_share(
    launches: int, sessions: float, shared: float = MACHINE_SHARE
) -> float:
    """Of the variance between launches, what the mean of so many has.

    Args:
        sessions: of equally many launches, as `effective_sessions` counts them.
        shared: of that variance, what launches of one session share.
    """
    return shared / sessions + (1 - shared) / launches
