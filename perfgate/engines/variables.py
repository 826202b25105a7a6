"""Engine variables: the search path and the GPUs that a server sees."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

# What the servers read (inside/perfgate_stated_routing.py) has the same name.
STATED_ROUTING: Final = "PERFGATE_STATED_ROUTING"


def search_path(*folders: Path) -> str:
    """A PYTHONPATH: these folders, then the inherited one.

    The suite's own folder stays first: `perfgate.engines.injection` inserts an injected
    PYTHONPATH right behind it.
    """
    parts = [str(folder) for folder in folders]
    inherited = os.environ.get("PYTHONPATH")
    if inherited:
        parts.append(inherited)
    return os.pathsep.join(parts)


def visible_gpus(names: Sequence[str]) -> dict[str, str]:
    """Variables that restrict a server to these GPUs: NVML indices, or UUIDs."""
    return {
        "CUDA_VISIBLE_DEVICES": ",".join(names),
        # The order of NVML's indices; CUDA's own default is the fastest first.
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
    }


def stated_chances(expert_chances: Sequence[float]) -> dict[str, str]:
    """The variable that states how tokens choose experts; none for an empty sequence."""
    if not expert_chances:
        return {}
    text = ",".join(f"{chance:.9g}" for chance in expert_chances)
    return {STATED_ROUTING: text}
