"""Engine variables: the search path and the GPUs that a server sees."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path


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


def visible_gpus(indices: Sequence[int]) -> dict[str, str]:
    """Variables that restrict a server to the GPUs of these NVML indices."""
    return {
        "CUDA_VISIBLE_DEVICES": ",".join(str(index) for index in indices),
        # The order of NVML's indices; CUDA's own default is the fastest first.
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
    }
