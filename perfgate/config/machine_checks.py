"""Machine checks: refuse options that this machine cannot satisfy."""

from __future__ import annotations

from collections.abc import Callable

from perfgate import formatting
from perfgate.config.config import Config
from perfgate.config.option_values import BadOption
from perfgate.config.studies import selected_studies
from perfgate.errors import FailureRow
from perfgate.machine.hardware import Hardware
from perfgate.machine.nvml import NvmlError
from perfgate.study import StudyFile


def refuse_impossible(
    config: Config, study: StudyFile, hardware: Callable[[], Hardware]
) -> None:
    """Refuse a false assertion, a driver that fails, and more workers than devices.

    Args:
        study: names the platforms and the ranks of their servers.
        hardware: detects this machine; called only where an option depends on it.

    Raises:
        BadOption: with what to do instead.
        NvmlError: GPUs are selected, and their driver does not answer.
    """
    kind = config.hardware_kind
    if kind and kind != hardware().kind:
        raise BadOption(
            tried=f"--hardware {kind}",
            seen=(
                f"this machine is of kind {hardware().kind}: "
                f"{hardware().description}"
            ),
            remedy=f"run on a {kind} machine, or write --hardware {hardware().kind}",
        )
    if config.runs_tests and _names_gpus(config, study):
        _refuse_broken_driver(hardware().gpu_fault)
    if config.platforms and config.worker_count:
        _refuse_workers_on_cpu(config, study)
        _refuse_many_workers(config, study, hardware())


def _names_gpus(config: Config, study: StudyFile) -> bool:
    """Whether a selected platform needs GPUs of this machine."""
    if config.external_urls:
        return False
    devices = {study.device_of(platform) for platform in config.platforms}
    return "cuda" in devices


def _refuse_broken_driver(fault: FailureRow | None) -> None:
    """A driver that does not answer is not a machine without GPUs.

    Raises:
        NvmlError: with what to do about the driver.
    """
    if fault is not None:
        raise NvmlError(fault.tried, fault.seen, fault.remedy)


def _refuse_workers_on_cpu(config: Config, study: StudyFile) -> None:
    """Servers on the same cores slow each other down."""
    for platform in config.platforms:
        if study.device_of(platform) == "cpu":
            raise BadOption(
                tried=f"-n is refused with -m {platform}",
                seen="servers that share the cores slow each other down",
                remedy="leave -n out",
            )


def _refuse_many_workers(
    config: Config, study: StudyFile, hardware: Hardware
) -> None:
    """Each worker's server needs GPUs of its own."""
    if not hardware.gpus:
        return
    gpus = max(s.gpu_count for s in selected_studies(config, study))
    room = hardware.count // gpus
    if config.worker_count <= room:
        return
    servers = formatting.count(room, "server")
    size = formatting.count(gpus, "GPU")
    remedy = "leave -n out"
    if room > 1:
        remedy = f"use -n {room} at most"
    raise BadOption(
        tried=f"-n {config.worker_count}",
        seen=(
            f"{hardware.description}: {servers} of {size} fit at the same time"
        ),
        remedy=remedy,
    )
