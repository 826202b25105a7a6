"""SGLang's profiler: torch's, one trace file for each rank, started and stopped over HTTP.

Every server has it; the request says where the traces go (seen in 0.5.16 and 0.5.23).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from perfgate import web
from perfgate.engines.base import LaunchPlan, Profiler

TIMEOUT_S = 300.0  # for the end, where every rank writes its trace
# "GPU" is left out where there is none. Stacks and shapes would lengthen steps.
REQUEST = {
    "activities": ["CPU", "GPU"],
    "with_stack": False,
    "record_shapes": False,
}


def switched_on(
    plan: LaunchPlan, versions: Mapping[str, str], folder: Path
) -> LaunchPlan:
    """The plan as it is."""
    return plan


def start(url: str, folder: Path) -> None:
    """Start on all ranks.

    Raises:
        NoAnswer: it does not answer.
    """
    body = REQUEST | {"output_dir": str(folder)}
    web.post(f"{url}/start_profile", body, timeout_s=TIMEOUT_S)


def stop(url: str) -> None:
    """Stop on all ranks; returns once their traces are written.

    Raises:
        NoAnswer: it does not answer.
    """
    web.post(f"{url}/stop_profile", timeout_s=TIMEOUT_S)


PROFILER = Profiler(switched_on=switched_on, start=start, stop=stop)
