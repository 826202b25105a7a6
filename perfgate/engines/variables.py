"""Engine variables: the search path and the GPUs that a server sees."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from perfgate.machine import devices

# What the servers read (inside/perfgate_stated_routing.py) has the same name.
STATED_ROUTING: Final = "PERFGATE_STATED_ROUTING"
_START_METHOD: Final = "VLLM_WORKER_MULTIPROC_METHOD"
_KERNEL_CACHE: Final = "TRITON_CACHE_DIR"


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


def visible_gpus(
    names: Sequence[str],
    is_amd: bool | None = None,
    environ: Mapping[str, str] = os.environ,
) -> dict[str, str]:
    """Variables that restrict a server to these GPUs.

    Args:
        names: their indices in the whole machine, or UUIDs.
        is_amd: None looks for AMD's driver.
        environ: that the server inherits.
    """
    if is_amd is None:
        is_amd = devices.has_amd()
    if is_amd:
        return _visible_to_hip(names, environ)
    return {
        "CUDA_VISIBLE_DEVICES": ",".join(names),
        # The order of NVML's indices; CUDA's own default is the fastest first.
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
    }


def start_method(
    is_amd: bool | None = None, environ: Mapping[str, str] = os.environ
) -> dict[str, str]:
    """The variable that lets vLLM's processes begin as copies of the server's.

    By itself its server has each of them import everything again. vLLM goes back to
    that where a copy is unsafe: CUDA in use already, NUMA binding, Ray, WSL.

    Args:
        is_amd: None looks for AMD's driver, under which copies were not tried.
        environ: that the server inherits; what it says counts.
    """
    if is_amd is None:
        is_amd = devices.has_amd()
    if is_amd or _START_METHOD in environ:
        return {}
    return {_START_METHOD: "fork"}


def kernel_cache(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The variable by which Triton keeps the kernels that it compiles, for later servers.

    By itself a vLLM that finds its compiled graphs does not find the kernels, which it
    had put beside them, and compiles them again: 16 s of a start, and under the load.

    Args:
        environ: that the server inherits; what it says counts.
    """
    if _KERNEL_CACHE in environ:
        return {}
    if "XDG_CACHE_HOME" in environ:
        caches = Path(environ["XDG_CACHE_HOME"])
    elif "HOME" in environ:
        caches = Path(environ["HOME"]) / ".cache"
    else:
        return {}
    return {_KERNEL_CACHE: str(caches / "perfgate" / "triton")}


def installed_modules(argv: Sequence[str]) -> dict[str, str]:
    """The variable that keeps Python from looking for a module in the current directory.

    A CI job runs in the engine's checkout, whose sources are no build of it: by `-m`
    Python would start those in place of the base and of the candidate.

    Args:
        argv: the command of a server.
    """
    if "-m" in argv[1:2]:
        return {"PYTHONSAFEPATH": "1"}
    return {}


def stated_chances(expert_chances: Sequence[float]) -> dict[str, str]:
    """The variable that states how tokens choose experts; none for an empty sequence."""
    if not expert_chances:
        return {}
    text = ",".join(f"{chance:.9g}" for chance in expert_chances)
    return {STATED_ROUTING: text}


def _visible_to_hip(
    names: Sequence[str], environ: Mapping[str, str]
) -> dict[str, str]:
    """Both of HIP's variables: vLLM refuses them where they differ."""
    joined = ",".join(names)
    variables = {"CUDA_VISIBLE_DEVICES": joined, "HIP_VISIBLE_DEVICES": joined}
    if "ROCR_VISIBLE_DEVICES" in environ:
        # HIP numbers what the inherited one lets through: let all through, up to the
        # last GPU that is used.
        last = max(map(int, names))
        indices = [str(index) for index in range(last + 1)]
        variables["ROCR_VISIBLE_DEVICES"] = ",".join(indices)
    return variables
