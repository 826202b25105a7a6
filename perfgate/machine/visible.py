"""Visible GPUs: those that the environment lets this process use, as the runtimes read it.

CUDA reads CUDA_VISIBLE_DEVICES. HIP numbers what ROCR_VISIBLE_DEVICES lets through, by
HIP_VISIBLE_DEVICES or CUDA's variable. An entry is an index, a UUID, or the beginning of
one. The first entry that names no GPU ends the list.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

# One filter after the other; of the variables of one filter the first that is set counts.
CUDA = (("CUDA_VISIBLE_DEVICES",),)
ROCM = (
    ("ROCR_VISIBLE_DEVICES",),
    ("HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES"),
)
# Of the container's runtime: with these values it adds no device to the container.
CONTAINER = "NVIDIA_VISIBLE_DEVICES"
_NO_DEVICES = ("none", "void")


@dataclass(frozen=True)
class Device:
    """A GPU of the host; its UUID is "" where it does not answer."""

    index: int
    uuid: str


@dataclass(frozen=True)
class Visible:
    """The GPUs that this process may use.

    Attributes:
        is_named: whether a variable names them.
        note: why there is none; "" where there is one.
    """

    devices: tuple[Device, ...]
    is_named: bool = False
    note: str = ""


def visible(
    devices: Sequence[Device],
    environ: Mapping[str, str],
    filters: Sequence[Sequence[str]] = CUDA,
) -> Visible:
    """The devices that the variables let through, in their order."""
    remaining = tuple(devices)
    settings = []
    for variables in filters:
        setting = _first_set(environ, variables)
        if setting is not None:
            settings.append(setting)
            remaining = _named(remaining, setting[1])
    note = ""
    if settings and devices and not remaining:
        note = _why_none(*settings[-1], len(devices))
    return Visible(remaining, is_named=bool(settings), note=note)


def _first_set(
    environ: Mapping[str, str], variables: Sequence[str]
) -> tuple[str, str] | None:
    """The first variable that is set, with its value."""
    for variable in variables:
        if variable in environ:
            return variable, environ[variable]
    return None


def _named(devices: Sequence[Device], setting: str) -> tuple[Device, ...]:
    """The devices that a setting names, in its order."""
    chosen: list[Device] = []
    for entry in setting.split(","):
        matches = []
        for position, device in enumerate(devices):
            if _is_named(position, device.uuid, entry.strip()):
                matches.append(device)
        if len(matches) != 1 or matches[0] in chosen:
            break
        chosen += matches
    return tuple(chosen)


def _is_named(position: int, uuid: str, entry: str) -> bool:
    if not entry:
        return False
    if entry in (str(position), uuid):
        return True
    return entry.startswith("GPU-") and uuid.startswith(entry)


def _why_none(variable: str, value: str, device_count: int) -> str:
    if value.startswith("MIG-"):
        return (
            f"{variable}={value} is a MIG slice, baselines are for whole GPUs"
        )
    gpus = "the GPU" if device_count == 1 else f"all {device_count} GPUs"
    return f"{variable}={value} hides {gpus} of this host"


def hidden_by_container(environ: Mapping[str, str]) -> str:
    """Why a container has no GPU: its runtime was told so; "" if it was not."""
    value = environ.get(CONTAINER)
    if value in _NO_DEVICES:
        return f"{CONTAINER}={value} gives this container no GPU"
    return ""
