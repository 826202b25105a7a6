"""Portable baselines: one for every CPU, for metrics that no processor changes.

Bytes of weights, tokens of the KV cache, where tokens are routed, counts of work: on two
kinds of processor they were equal to the digit. Such a metric of a server on the CPU has
no hardware in its identity, and its baseline lies in a folder of its own. So a machine
that was never measured is judged on its first run.
"""

from __future__ import annotations

from collections.abc import Mapping

from perfgate.load.metrics import family_of, is_portable

ANY_CPU = "cpu-any"
# How the folders of one kind of processor are called.
ONE_CPU = "cpu-"
# Fields of an identity that name the machine.
_MACHINE = ("hardware", "hardware_name", "gpu_count", "mig")


def label(metric: str, hardware_label: str) -> str:
    """The folder of a metric's baselines: that of any CPU where it is portable."""
    if hardware_label.startswith(ONE_CPU) and is_portable(metric):
        return ANY_CPU
    return hardware_label


def identity(hardware_label: str, fields: Mapping[str, str]) -> dict[str, str]:
    """The identity of a load in that folder: in the one of any CPU without a machine."""
    if hardware_label != ANY_CPU:
        return dict(fields)
    kept = {}
    for name, value in fields.items():
        if name.rpartition(".")[2] not in _MACHINE:
            kept[name] = value
    return kept


def python_of(metric: str, context: Mapping[str, str]) -> dict[str, str]:
    """The Python that counts of calls belong to: another one calls otherwise by itself.

    Args:
        context: of a load or of its baseline.
    """
    version = context.get("python", "")
    if family_of(metric) != "calls" or not version:
        return {}
    return {"python": ".".join(version.split(".")[:2])}
