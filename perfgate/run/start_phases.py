"""Start phases: seconds of each part of a server's start, by the lines of its log.

Both engines log when they load weights, size the KV cache and capture graphs. What a
start lacks, as on a CPU, is not in the result.
"""

from __future__ import annotations

from collections.abc import Iterable

from perfgate.servers.launch_record import LaunchRecord, PhaseTime

# Metric -> phases that begin it and phases that end it, in order of preference; the
# launch begins the first.
_PARTS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "start_imports_s": ((), ("loading weights", "weights loaded")),
    "start_weights_s": (("loading weights",), ("weights loaded",)),
    "start_compile_s": (("weights loaded",), ("KV cache sized",)),
    "start_graphs_s": (("capturing graphs",), ("graphs captured",)),
}


def values(record: LaunchRecord) -> dict[str, float]:
    """Metric -> seconds, of the parts that the log shows."""
    at_s = {phase.name: phase.at_s for phase in _first(record.phases)}
    seconds = {}
    if record.ready_s is not None:
        seconds["ready_s"] = record.ready_s
    for metric, (begins, ends) in _PARTS.items():
        begin_s: float | None = 0.0
        if begins:
            begin_s = _earliest(at_s, begins)
        end_s = _earliest(at_s, ends)
        if begin_s is not None and end_s is not None and end_s > begin_s:
            seconds[metric] = end_s - begin_s
    return seconds


def _first(phases: Iterable[PhaseTime]) -> list[PhaseTime]:
    """Each phase as it was seen first."""
    first: dict[str, PhaseTime] = {}
    for phase in phases:
        first.setdefault(phase.name, phase)
    return list(first.values())


def _earliest(at_s: dict[str, float], names: Iterable[str]) -> float | None:
    """When the first of the phases that the log has began; None where it has none."""
    for name in names:
        if name in at_s:
            return at_s[name]
    return None
