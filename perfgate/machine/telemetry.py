"""What did the GPUs do meanwhile?

A thread looks at each GPU of a server ten times a second: power, energy, clocks,
temperature, utilisation, and why the clocks are lower than they could be. A look is a
dozen NVML calls, and ctypes gives the interpreter away for the time of each, so the
client beside it goes on. The series is written as it comes, one JSON line a look; a
repetition keeps the summary of its own time. Energy is the difference of NVML's own
counter at its begin and end, which needs no series. The host's share (CPUs, fans, power
supplies) is not in it.
"""

from __future__ import annotations

import contextlib
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import msgspec

from perfgate.errors import Failure
from perfgate.machine.nvml import HARMLESS, SLOWED, Gpus, Look, reasons

EVERY_S = 0.1
FLUSH_S = 1.0


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """First line of a series: whose it is, and what the others hold."""

    server: str
    launch: int
    gpus: tuple[int, ...]
    every_s: float = EVERY_S
    columns: tuple[str, ...] = ("unix_s", *Look.__struct_fields__)


class Moment(msgspec.Struct, frozen=True, array_like=True):
    """One line of a series: all GPUs at one moment."""

    unix_s: float
    gpus: tuple[Look, ...]


class GpuSummary(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One GPU during one repetition; None for what it did not tell.

    Attributes:
        index: by NVML.
        looks: how often it was looked at; 0 where only the energy was counted.
        energy_j: by the GPU's own counter, from begin to end.
        throttle: reason -> share of the looks in which the clocks were held down by it;
            idle ones are left out.
    """

    index: int
    looks: int
    energy_j: float | None = None
    power_mean_w: float | None = None
    power_max_w: float | None = None
    sm_clock_min_mhz: float | None = None
    sm_clock_median_mhz: float | None = None
    memory_clock_median_mhz: float | None = None
    temperature_max_c: float | None = None
    utilisation_mean: float | None = None
    throttle: dict[str, float] = {}


@dataclass(frozen=True)
class Mark:
    """The begin of what is to be summed up."""

    unix_s: float
    joules: tuple[float | None, ...]


class Telemetry:
    """Looks at the GPUs of one launch until it is stopped.

    Args:
        gpus: closed by `stop`.
        header: whose series it is.
        path: where the series goes; None keeps it in memory alone.
        sampled: False counts energy and looks at nothing else.

    Attributes:
        failure: why it ended before it was told to.
    """

    def __init__(
        self, gpus: Gpus, header: Header, path: Path | None = None, sampled: bool = True
    ) -> None:
        self.failure: str | None = None
        self._gpus = gpus
        self._header = header
        self._path = path
        self._moments: list[Moment] = []
        self._enough = threading.Event()
        self._thread = (
            threading.Thread(target=self._run, daemon=True) if sampled else None
        )

    def start(self) -> Telemetry:
        """Begin to look."""
        if self._thread is not None:
            self._thread.start()
        return self

    def stop(self) -> None:
        """Look no more."""
        self._enough.set()
        if self._thread is not None and self._thread.is_alive():
            self._thread.join()
        self._gpus.close()

    def mark(self) -> Mark:
        """Now, for `since`."""
        return Mark(time.time(), self._gpus.joules())

    def since(self, mark: Mark) -> tuple[GpuSummary, ...]:
        """Each GPU from the mark until now."""
        now, joules = time.time(), self._gpus.joules()
        within = [
            moment
            for moment in list(self._moments)
            if mark.unix_s <= moment.unix_s <= now
        ]
        return tuple(
            summary(
                index,
                [moment.gpus[place] for moment in within],
                mark.joules[place],
                joules[place],
            )
            for place, index in enumerate(self._gpus.indices)
        )

    def _run(self) -> None:
        try:
            with self._opened() as file:
                self._look_on(file)
        except (Failure, OSError) as error:
            self.failure = f"telemetry ended: {error}"

    def _opened(self) -> contextlib.AbstractContextManager[IO[bytes] | None]:
        if self._path is None:
            return contextlib.nullcontext()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        file = self._path.open("wb")
        file.write(msgspec.json.encode(self._header) + b"\n")
        return file

    def _look_on(self, file: IO[bytes] | None) -> None:
        due = flushed = time.monotonic()
        while not self._enough.wait(max(0.0, due - time.monotonic())):
            moment = Moment(round(time.time(), 3), self._gpus.look())
            self._moments.append(moment)
            now = time.monotonic()
            if file is not None:
                file.write(msgspec.json.encode(moment) + b"\n")
                if now - flushed >= FLUSH_S:
                    file.flush()
                    flushed = now
            # A look that took too long is not made up for.
            due = max(due + EVERY_S, now)


def summary(
    index: int, looks: Sequence[Look], before_j: float | None, after_j: float | None
) -> GpuSummary:
    """One GPU's looks in figures."""

    def over(name: str, figure: Callable[[list[float]], float]) -> float | None:
        told = [
            float(value) for look in looks if (value := getattr(look, name)) is not None
        ]
        return round(figure(told), 3) if told else None

    masks = [look.reasons for look in looks if look.reasons is not None]
    names = [name for mask in masks for name in reasons(mask) if name not in HARMLESS]
    return GpuSummary(
        index=index,
        looks=len(looks),
        energy_j=None
        if before_j is None or after_j is None
        else round(after_j - before_j, 3),
        power_mean_w=over("power_w", statistics.fmean),
        power_max_w=over("power_w", max),
        sm_clock_min_mhz=over("sm_mhz", min),
        sm_clock_median_mhz=over("sm_mhz", statistics.median),
        memory_clock_median_mhz=over("memory_mhz", statistics.median),
        temperature_max_c=over("temperature_c", max),
        utilisation_mean=over("utilisation", statistics.fmean),
        throttle={
            name: round(names.count(name) / len(masks), 4)
            for name in sorted(set(names))
        },
    )


def energy_j(summaries: Sequence[GpuSummary]) -> float | None:
    """What all of them used together; None where one does not count."""
    each = [gpu.energy_j for gpu in summaries if gpu.energy_j is not None]
    return sum(each) if each and len(each) == len(summaries) else None


def throttled(
    summaries: Sequence[GpuSummary],
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(reasons why the repetition does not count, notes): what held the clocks down, GPU by GPU."""
    invalid: list[str] = []
    notes: list[str] = []
    for gpu in summaries:
        for name, share in gpu.throttle.items():
            clock = (
                ""
                if gpu.sm_clock_min_mhz is None
                else f", SM clock down to {gpu.sm_clock_min_mhz:g} MHz"
            )
            text = (
                f"GPU {gpu.index} was throttled: {name} in {share:.0%} of "
                f"{gpu.looks} looks{clock}"
            )
            (invalid if name in SLOWED else notes).append(text)
    return tuple(invalid), tuple(notes)


def series_path(run_dir: Path, server: str, launch: int) -> Path:
    """Where the series of a launch lies."""
    return run_dir / "telemetry" / f"{server}-{launch}.jsonl"
