"""GPU probe: energy, clocks and throttling of a server's GPUs during each repetition."""

from __future__ import annotations

from pathlib import Path

from perfgate.errors import Failure
from perfgate.load.repetition import Repetition
from perfgate.machine.nvml import Gpus
from perfgate.machine.telemetry import (
    Header,
    Mark,
    Telemetry,
    energy_j,
    series_path,
    throttled,
)
from perfgate.run.probes.probe import NOTHING, Figures

_NO_ENERGY = Figures(notes=("energy: no GPU of this server counts energy",))


class GpuProbe:
    """Telemetry of one launch's GPUs; without GPUs it notes that there is no energy.

    Args:
        server: key of the server. launch: its index.
        gpu_indices: NVML indices; empty on the CPU.
        run_dir: where the series goes.
        is_sampled: False counts energy alone.
    """

    def __init__(
        self,
        server: str,
        launch: int,
        gpu_indices: tuple[int, ...],
        run_dir: Path,
        is_sampled: bool,
    ) -> None:
        self._header = Header(server=server, launch=launch, gpus=gpu_indices)
        self._path: Path | None = None
        if is_sampled:
            self._path = series_path(run_dir, server, launch)
        self._is_continued = False
        self._telemetry: Telemetry | None = None
        self._mark: Mark | None = None

    def start(self) -> Figures:
        """Open the GPUs; notes what they do not count."""
        if not self._header.gpus:
            return _NO_ENERGY
        try:
            gpus = Gpus(self._header.gpus)
        except Failure as failure:
            return Figures(notes=(f"telemetry: {failure}",))
        self._remove_stale_series()
        is_sampled = self._path is not None
        self._telemetry = Telemetry(gpus, self._header, self._path, is_sampled)
        if None in gpus.joules():
            return _NO_ENERGY
        return NOTHING

    def _remove_stale_series(self) -> None:
        """Remove the series of a launch of this index that a resumed run dropped."""
        if self._path is not None and not self._is_continued:
            self._path.unlink(missing_ok=True)
        self._is_continued = True

    def before(self) -> None:
        """Mark the begin of a repetition; the first one starts the samples."""
        if self._telemetry is None:
            return
        if self._mark is None:
            self._telemetry.start()
        self._mark = self._telemetry.mark()

    def after(self, repetition: Repetition) -> Figures:
        """Energy per output token, each GPU's summary, and what held the clocks down."""
        if self._telemetry is None or self._mark is None:
            return NOTHING
        gpus = self._telemetry.since(self._mark)
        used_j = energy_j(gpus)
        values: dict[str, float] = {}
        if used_j is not None and repetition.output_tokens:
            values["energy_per_output_token_j"] = (
                used_j / repetition.output_tokens
            )
        invalid, notes = throttled(gpus)
        if self._telemetry.failure is not None:
            notes = (*notes, self._telemetry.failure)
        return Figures(values=values, notes=notes, invalid=invalid, gpus=gpus)

    def finish(self, is_part: bool) -> Figures:
        """Nothing: all figures are of repetitions."""
        return NOTHING

    def stop(self) -> None:
        """End the samples, and close the GPUs."""
        if self._telemetry is not None:
            self._telemetry.stop()
        self._telemetry = None
        self._mark = None
