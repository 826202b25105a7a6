"""Clock offset: CLOCK_REALTIME, which the kernel stamps with, less CLOCK_MONOTONIC.

The offset is constant while nobody sets the clock: NTP slews both clocks alike. A step,
by hand or by NTP, changes it, and so does a suspended machine.
"""

from __future__ import annotations

import time
from collections.abc import Callable

SET_NS = 100_000  # a change of the offset beyond what reading both clocks takes
_TRIES = 5


def offset_ns(
    monotonic_ns: Callable[[], int] = time.monotonic_ns,
    realtime_ns: Callable[[], int] = time.time_ns,
) -> int:
    """The offset now: of several readings the one that was least interrupted."""
    best = None
    for _ in range(_TRIES):
        before = monotonic_ns()
        realtime = realtime_ns()
        width = monotonic_ns() - before
        if best is None or width < best[0]:
            best = (width, realtime - before - width // 2)
    assert best is not None
    return best[1]


class ClockOffset:
    """The offset at the start, and whether the clock was set since.

    Args:
        read_ns: gives the offset now.
    """

    def __init__(self, read_ns: Callable[[], int] = offset_ns) -> None:
        self.read_ns = read_ns
        self.start_ns = read_ns()
        self.set_by_ns = 0

    def check(self) -> None:
        """Look whether the clock was set; `set_by_ns` keeps the largest change."""
        change_ns = self.read_ns() - self.start_ns
        if abs(change_ns) > max(SET_NS, abs(self.set_by_ns)):
            self.set_by_ns = change_ns
