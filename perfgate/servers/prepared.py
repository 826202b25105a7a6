"""Prepared server: a launch that has imported its engine, and waits until it is needed.

An engine imports for 10 to 30 s before it does anything else. The next server does so
while the present one starts, when nothing is measured, and is idle after that: it touches
no GPU, and takes 1 GB of memory.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from perfgate.engines.base import LaunchPlan

# The module of `perfgate/engines/inside` that imports and waits, on the server's path.
PROGRAM: Final = "perfgate_prepared"
# What it prints (READY there).
_READY: Final = re.compile(
    r"^\[perfgate\] prepared: imports took ([0-9.]+) s$", re.MULTILINE
)


def can_wait(plan: LaunchPlan) -> bool:
    """Whether a server can be prepared: one that is started as a module of Python."""
    return plan.argv[1:2] == ("-m",) and bool(plan.late_imports)


def command(plan: LaunchPlan) -> tuple[str, ...]:
    """The command of a server, or of what imports for it and waits."""
    if not plan.waits:
        return plan.argv
    python, _, module, *arguments = plan.argv
    modules = ",".join(plan.late_imports)
    return (python, "-m", PROGRAM, modules, module, *arguments)


def imports_s(log: Path) -> float | None:
    """Seconds that the imports took; None while they go on, and without a log."""
    try:
        text = log.read_text(errors="replace")
    except FileNotFoundError:
        return None
    found = _READY.search(text)
    if found is None:
        return None
    return float(found[1])
