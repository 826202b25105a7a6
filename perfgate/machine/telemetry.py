"""Telemetry: sample the GPUs of a server during the run, and summarise each repetition.

A thread looks at each GPU ten times a second: power, energy, clocks,
temperature, utilisation, and throttle reasons. A look is a dozen NVML calls.
ctypes releases the interpreter's lock during each, so the load client in the
same process is not held up. The series is written as it comes, one JSON line a
look; a repetition keeps the summary of its own time. Energy is the difference
of NVML's counter at the begin and the end, and needs no series. It leaves out
the host (CPUs, fans, power supplies).
"""

from __future__ import annotations

import contextlib
import re
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import msgspec

from perfgate.errors import Failure
from perfgate.machine.nvml import HARMLESS, SLOWED, Gpus, Look, reasons

EVERY_S = 0.1
FLUSH_S = 1.0
# How each reason begins that heat or the power supply causes.
THROTTLE_REASON = re.compile(r"GPU \d+ was throttled: ")


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """First line of a series: its launch, and the columns of the other lines."""

    server: str
    launch: int
    gpus: tuple[int, ...]
    every_s: float = EVERY_S
    columns: tuple[str, ...] = ("unix_s", *Look.__struct_fields__)


class Moment(msgspec.Struct, frozen=True, array_like=True):
    """One line of a series: all GPUs at one moment."""

    unix_s: float
    gpus: tuple[Look, ...]


class GpuSummary(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """One GPU during one repetition; None where it did not answer.

    Attributes:
        index: NVML index.
        looks: number of looks; 0 where only the energy was counted.
        energy_j: by the GPU's own counter, from begin to end.
        throttle: reason -> share of the looks with that reason; harmless ones are left
            out.
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
    """The begin of a repetition: monotonic time, and each GPU's energy counter."""

    at_s: float
    joules: tuple[float | None, ...]


class Telemetry:
    """Samples the GPUs of one launch until `stop`.

    Args:
        gpus: closed by `stop`.
        header: first line of the series.
        path: file of the series, which an earlier part of it may have begun; None
            keeps the series in memory only.
        sampled: False counts energy and nothing else.

    Attributes:
        failure: why sampling ended early.
    """

    def __init__(
        self,
        gpus: Gpus,
        header: Header,
        path: Path | None = None,
        sampled: bool = True,
    ) -> None:
        self.failure: str | None = None
        self._gpus = gpus
        self._header = header
        self._path = path
        # With the monotonic time of each: a machine's clock may be set meanwhile.
        self._moments: list[tuple[float, Moment]] = []
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        if sampled:
            self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> Telemetry:
        """Start sampling."""
        if self._thread is not None:
            self._thread.start()
        return self

    def stop(self) -> None:
        """Stop sampling and close the GPUs."""
        self._stop.set()
        if self._thread is not None and self._thread.is_alive():
            self._thread.join()
        self._gpus.close()

    def mark(self) -> Mark:
        """The begin of a repetition, for `since`."""
        return Mark(time.monotonic(), self._gpus.joules())

    def since(self, mark: Mark) -> tuple[GpuSummary, ...]:
        """A summary of each GPU from the mark until now."""
        end = self.mark()
        moments = self._moments_within(mark.at_s, end.at_s)
        summaries = []
        for position, index in enumerate(self._gpus.indices):
            looks = [moment.gpus[position] for moment in moments]
            before_j = mark.joules[position]
            after_j = end.joules[position]
            summaries.append(summary(index, looks, before_j, after_j))
        return tuple(summaries)

    def _moments_within(self, begin_s: float, end_s: float) -> list[Moment]:
        moments = []
        for at_s, moment in list(self._moments):
            if begin_s <= at_s <= end_s:
                moments.append(moment)
        return moments

    def _run(self) -> None:
        try:
            with self._open_series() as file:
                self._sample(file)
        except (Failure, OSError) as error:
            self.failure = f"telemetry ended: {error}"

    def _open_series(
        self,
    ) -> contextlib.AbstractContextManager[IO[bytes] | None]:
        if self._path is None:
            return contextlib.nullcontext()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        # A launch that is sent more load later continues its series.
        file = self._path.open("ab")
        if file.tell() == 0:
            file.write(_line(self._header))
        return file

    def _sample(self, file: IO[bytes] | None) -> None:
        due_s = time.monotonic()
        flushed_s = due_s
        while not self._stop.wait(max(0.0, due_s - time.monotonic())):
            at_s, unix_s = time.monotonic(), round(time.time(), 3)
            moment = Moment(unix_s, self._gpus.look())
            self._moments.append((at_s, moment))
            now_s = time.monotonic()
            if file is not None:
                file.write(_line(moment))
                if now_s - flushed_s >= FLUSH_S:
                    file.flush()
                    flushed_s = now_s
            # A late look does not make the next ones come faster.
            due_s = max(due_s + EVERY_S, now_s)


def _line(row: Header | Moment) -> bytes:
    return msgspec.json.encode(row) + b"\n"


def summary(
    index: int,
    looks: Sequence[Look],
    before_j: float | None,
    after_j: float | None,
) -> GpuSummary:
    """Statistics of one GPU's looks, and its energy between two counts.

    A counter that began anew in between, as after a reset, tells none.
    """
    energy: float | None = None
    if before_j is not None and after_j is not None and before_j <= after_j:
        energy = round(after_j - before_j, 3)
    power_w = _answers(looks, "power_w")
    sm_mhz = _answers(looks, "sm_mhz")
    memory_mhz = _answers(looks, "memory_mhz")
    temperature_c = _answers(looks, "temperature_c")
    utilisation = _answers(looks, "utilisation")
    return GpuSummary(
        index=index,
        looks=len(looks),
        energy_j=energy,
        power_mean_w=_mean(power_w),
        power_max_w=_rounded(power_w, max),
        sm_clock_min_mhz=_rounded(sm_mhz, min),
        sm_clock_median_mhz=_median(sm_mhz),
        memory_clock_median_mhz=_median(memory_mhz),
        temperature_max_c=_rounded(temperature_c, max),
        utilisation_mean=_mean(utilisation),
        throttle=_throttle_shares(looks),
    )


def _answers(looks: Sequence[Look], name: str) -> list[float]:
    """A quantity of every look that has it."""
    numbers = []
    for look in looks:
        value = getattr(look, name)
        if value is not None:
            numbers.append(float(value))
    return numbers


def _mean(numbers: list[float]) -> float | None:
    return _rounded(numbers, statistics.fmean)


def _median(numbers: list[float]) -> float | None:
    return _rounded(numbers, statistics.median)


def _rounded(
    numbers: list[float], statistic: Callable[[list[float]], float]
) -> float | None:
    """The statistic, or None of no numbers."""
    if not numbers:
        return None
    return round(statistic(numbers), 3)


def _throttle_shares(looks: Sequence[Look]) -> dict[str, float]:
    """Reason -> share of the looks that answered; harmless reasons are left out."""
    answers = 0
    counts: Counter[str] = Counter()
    for look in looks:
        if look.reasons is not None:
            answers += 1
            counts.update(reasons(look.reasons))
    shares = {}
    for name in sorted(counts):
        if name not in HARMLESS:
            shares[name] = round(counts[name] / answers, 4)
    return shares


def energy_j(summaries: Sequence[GpuSummary]) -> float | None:
    """Energy of all GPUs together; None if one of them has no counter."""
    total_j = 0.0
    for gpu in summaries:
        if gpu.energy_j is None:
            return None
        total_j += gpu.energy_j
    if not summaries:
        return None
    return total_j


def throttled(
    summaries: Sequence[GpuSummary],
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What lowered the clocks, GPU by GPU.

    Returns:
        Reasons why the repetition is invalid, and notes.

    """
    invalid: list[str] = []
    notes: list[str] = []
    for gpu in summaries:
        clock = ""
        if gpu.sm_clock_min_mhz is not None:
            clock = f", SM clock down to {gpu.sm_clock_min_mhz:g} MHz"
        for name, share in gpu.throttle.items():
            text = (
                f"GPU {gpu.index} was throttled: {name} in {share:.0%} of "
                f"{gpu.looks} looks{clock}"
            )
            if name in SLOWED:
                invalid.append(text)
            else:
                notes.append(text)
    return tuple(invalid), tuple(notes)


def series_path(run_dir: Path, server: str, launch: int) -> Path:
    """File of a launch's series."""
    return run_dir / "telemetry" / f"{server}-{launch}.jsonl"
