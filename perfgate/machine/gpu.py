"""GPUs of a machine: which of them a run uses, and why the others are left out.

One run is on GPUs of one product, so that a figure never mixes two. The product is the
one that was asked for, else the one with the most memory in all. A card that drives a
display, and one in MIG mode, are left out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from perfgate.machine.datasheets import kind_of
from perfgate.machine.products import is_of

_MIG_REMEDY = (
    "baselines are for whole GPUs: use one without MIG, or switch it off "
    "(`nvidia-smi -i {index} -mig 0`)"
)
_PARTITION_REMEDY = (
    "baselines are for whole GPUs: `amd-smi set --compute-partition SPX`"
)


class Gpu(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """One GPU as its vendor's library describes it.

    Attributes:
        index: of the library; engines are launched on it.
        memory_total_bytes: None where the library refuses it, as on a GPU that shares
            the memory of its processor.
        mig: whether it is divided into several: MIG mode, or a partition of AMD.
        display: whether a display is active on it.
    """

    index: int
    uuid: str
    name: str
    memory_total_bytes: int | None
    mig: bool
    power_limit_w: float | None
    display: bool = False

    @property
    def is_amd(self) -> bool:
        """Whether it is AMD's."""
        return self.name.startswith("AMD")

    @property
    def kind(self) -> str:
        """The slug of its product and memory: "h200", "gb300-251gib"."""
        return kind_of(self.name, self.memory_total_bytes)


class OmittedGpu(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """One GPU of the machine that a run does not use.

    Attributes:
        name: its product; "" where it does not answer.
        reason: why, as it follows on the name.
        remedy: what to do; "" where nothing is wrong.
    """

    index: int
    name: str
    reason: str
    remedy: str = ""

    def __str__(self) -> str:
        name = f" {self.name}" if self.name else ""
        return f"GPU {self.index}{name}: {self.reason}"


@dataclass(frozen=True)
class Selection:
    """The GPUs of one product that a run uses, and the others."""

    gpus: tuple[Gpu, ...] = ()
    omitted: tuple[OmittedGpu, ...] = ()


def choose(
    gpus: Sequence[Gpu], wanted: Sequence[str] = (), named: bool = False
) -> Selection:
    """The GPUs of one product, whole and without a display.

    Args:
        wanted: products that were asked for ("h200"), the preferred first.
        named: whether the user named these GPUs, which then may drive a display.
    """
    whole = [gpu for gpu in gpus if not gpu.mig]
    omitted = [_omitted_mig(gpu) for gpu in gpus if gpu.mig]
    groups: dict[str, list[Gpu]] = defaultdict(list)
    for gpu in whole:
        groups[gpu.kind].append(gpu)
    if not groups:
        return Selection(omitted=tuple(omitted))
    kind = _preferred(groups, wanted)
    chosen = groups[kind]
    name = chosen[0].name
    if not named:
        chosen = _without_display(chosen)
    for gpu in whole:
        if gpu not in chosen:
            omitted.append(_omitted_other(gpu, name))
    omitted.sort(key=lambda gpu: gpu.index)
    return Selection(tuple(chosen), tuple(omitted))


def _preferred(
    groups: Mapping[str, Sequence[Gpu]], wanted: Sequence[str]
) -> str:
    """The kind that was asked for, else the one with the most memory."""
    for product in wanted:
        if product in groups:  # the usual form: "h100" before "h100-nvl"
            return product
        matching = [kind for kind in groups if is_of(kind, product)]
        if matching:
            return max(matching, key=lambda kind: _size(groups[kind]))
    return max(groups, key=lambda kind: _size(groups[kind]))


def _size(gpus: Sequence[Gpu]) -> tuple[int, int]:
    """Memory of all in bytes, and their number where memory is unknown."""
    total_bytes = sum(gpu.memory_total_bytes or 0 for gpu in gpus)
    return total_bytes, len(gpus)


def _without_display(gpus: list[Gpu]) -> list[Gpu]:
    """The GPUs without an active display; all of them if each has one."""
    return [gpu for gpu in gpus if not gpu.display] or gpus


def _omitted_mig(gpu: Gpu) -> OmittedGpu:
    reason, remedy = "in MIG mode", _MIG_REMEDY.format(index=gpu.index)
    if gpu.is_amd:
        reason, remedy = "partitioned", _PARTITION_REMEDY
    return OmittedGpu(
        index=gpu.index, name=gpu.name, reason=reason, remedy=remedy
    )


def _omitted_other(gpu: Gpu, used: str) -> OmittedGpu:
    reason = f"another product than {used}"
    if gpu.display:
        reason = "drives a display"
    return OmittedGpu(index=gpu.index, name=gpu.name, reason=reason)
