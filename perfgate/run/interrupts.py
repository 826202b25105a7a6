"""Interrupts: a Ctrl-C that Python drops is sent again.

Python calls signal handlers between any two instructions, also in a destructor or in
the callback of a weak reference. A KeyboardInterrupt that is raised there is printed
and dropped, and the session would go on for an hour.
"""

from __future__ import annotations

import _thread
import contextlib
import sys
import threading
from collections.abc import Iterator
from typing import Any

# The callback is left by then.
_AGAIN_S = 0.05


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """Send a Ctrl-C again, as often as it is dropped."""
    previous = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        if not issubclass(unraisable.exc_type, KeyboardInterrupt):
            previous(unraisable)
            return
        timer = threading.Timer(_AGAIN_S, _thread.interrupt_main)
        timer.daemon = True
        timer.start()

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = previous
