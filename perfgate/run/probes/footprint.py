"""Footprint probe: memory of a server under load, in total, at its peak, by its parts.

Weights as its ranks report them, memory of its GPUs or processes, the peak during the
load, and output throughput per GB of each repetition.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

from perfgate.engines import served
from perfgate.engines.base import Engine, ServerConfig
from perfgate.errors import Failure
from perfgate.load.repetition import Repetition
from perfgate.machine import memory
from perfgate.machine.hardware import Hardware
from perfgate.models import estimate
from perfgate.results import bandwidth
from perfgate.run.probes.probe import NOTHING, Figures
from perfgate.servers.running import RunningServer

# After a part of the load they are smaller than after all of it.
LOAD_DEPENDENT = frozenset(
    {"memory_bytes", "memory_peak_bytes", "memory_growth", "gpu_memory_growth"}
)
_PART = "memory: not recorded, because the server had only a part of its load"


class FootprintProbe:
    """Memory of one launched server.

    On GPUs the peak is sampled. On the CPU the kernel keeps it, from here on.

    Args:
        start_values: what the engine logged at the launch, such as its KV cache.
    """

    def __init__(
        self,
        config: ServerConfig,
        server: RunningServer,
        engine: Engine,
        hardware: Hardware,
        start_values: Mapping[str, float],
    ) -> None:
        self._config = config
        self._server = server
        self._engine = engine
        self._hardware = hardware
        self._start_values = start_values
        self._sampler: memory.PeakSampler | None = None
        self._before_bytes: dict[str, float] = {}  # the load
        self._peak_bytes = 0.0  # of samplers that were stopped
        if not server.gpu_indices:
            memory.forget_peaks(server.pids())

    def start(self) -> Figures:
        """Sample the peak of the GPUs until `stop`."""
        indices = self._server.gpu_indices
        if indices:
            sampler = memory.PeakSampler(lambda: _largest_bytes(indices))
            self._sampler = sampler.start()
        return NOTHING

    def before(self) -> None:
        """Read the memory before the first repetition: the warm-up is over."""
        if not self._before_bytes:
            with contextlib.suppress(Failure):  # `finish` notes it
                self._before_bytes = self._grown_bytes()

    def after(self, repetition: Repetition) -> Figures:
        """Output throughput per GB of memory; nothing if either is unknown."""
        throughput = repetition.values.get("output_throughput")
        if throughput is None:
            return NOTHING
        try:
            memory_gb = self._memory_bytes() / 1e9
        except Failure:  # `finish` notes it
            return NOTHING
        return Figures(
            values={"output_throughput_per_gb": throughput / memory_gb}
        )

    def finish(self, is_part: bool) -> Figures:
        """Weights, memory and its peak; after a part of the load the weights alone."""
        values: dict[str, float] = {}
        notes = []
        no_peak = bandwidth.no_peak(self._config, self._hardware)
        if no_peak is not None:
            notes.append(no_peak)
        for subject, read in (
            ("weights per rank", self._weights),
            ("memory", self._memory),
        ):
            try:
                values |= read()
            except Failure as failure:
                notes.append(f"{subject}: {failure}")
        if is_part:
            notes.append(_PART)
            for name in LOAD_DEPENDENT & values.keys():
                del values[name]
        values |= self._rest(values)
        return Figures(values=values, notes=tuple(notes))

    def stop(self) -> None:
        """End sampling."""
        if self._sampler is None:
            return
        self._sampler.stop()
        with contextlib.suppress(Failure):  # `finish` notes it
            self._peak_bytes = max(self._peak_bytes, self._sampler.peak())
        self._sampler = None

    def _weights(self) -> dict[str, float]:
        return estimate.weights_values(
            self._engine.weights_bytes_per_rank(self._server.url),
            served.served_architecture(self._config),
            served.split_of(self._config),
            self._config.dtype,
        )

    def _memory(self) -> dict[str, float]:
        values = {
            "memory_bytes": self._memory_bytes(),
            "memory_peak_bytes": self._memory_peak_bytes(),
        }
        if self._config.device == "cpu":
            values |= self._kv_cache()
        if self._before_bytes:
            for name, now_bytes in self._grown_bytes().items():
                values[name] = now_bytes / self._before_bytes[name]
        return values

    def _grown_bytes(self) -> dict[str, float]:
        """What may grow under load, by the metric of its growth."""
        pids = self._server.pids()
        sizes = {"memory_growth": float(memory.process_bytes(pids))}
        if self._config.device == "cuda":
            sizes["gpu_memory_growth"] = self._memory_bytes()
        return sizes

    def _memory_bytes(self) -> float:
        if self._config.device == "cpu":
            return float(memory.process_bytes(self._server.pids()))
        return float(sum(memory.gpu_bytes(self._server.gpu_indices).values()))

    def _memory_peak_bytes(self) -> float:
        if self._config.device == "cpu":
            return float(memory.process_peak_bytes(self._server.pids()))
        if self._sampler is None:
            return max(
                self._peak_bytes, _largest_bytes(self._server.gpu_indices)
            )
        return max(self._peak_bytes, self._sampler.peak())

    def _kv_cache(self) -> dict[str, float]:
        """Bytes of KV cache of each rank, where the engine logs its tokens alone."""
        known = self._start_values
        if "kv_cache_tokens" not in known or "kv_cache_bytes" in known:
            return {}
        architecture = served.served_architecture(self._config)
        bytes_per_token = architecture.kv_bytes_per_token_per_rank(
            served.split_of(self._config), served.cache_dtype(self._config)
        )
        return {"kv_cache_bytes": known["kv_cache_tokens"] * bytes_per_token}

    def _rest(self, values: Mapping[str, float]) -> dict[str, float]:
        """What the peak holds besides weights, KV cache and graphs."""
        ranks = self._config.ranks
        if self._config.device == "cuda":
            ranks = 1  # the peak is that of one GPU
        parts = memory.breakdown({**self._start_values, **values}, ranks)
        if parts is None:
            return {}
        return {"memory_rest_bytes": parts.rest}


def _largest_bytes(gpu_indices: tuple[int, ...]) -> float:
    return float(max(memory.gpu_bytes(gpu_indices).values()))
