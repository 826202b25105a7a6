"""What does a server hold, once it has seen its load?

Weights as its ranks count them, memory of its GPUs or processes, the peak of that
during the load, and throughput per GB. What cannot be read is noted.
"""

from __future__ import annotations

import contextlib

import requests

from perfgate.engines.base import Engine, ServerConfig
from perfgate.errors import Failure
from perfgate.load.repetition import Repetition
from perfgate.machine import memory
from perfgate.models import catalogue as models
from perfgate.models import estimate
from perfgate.results import bandwidth
from perfgate.results.recorder import Ledger
from perfgate.servers.server import Server

LOAD_DEPENDENT = frozenset({"memory_bytes", "memory_peak_bytes"})


class Holding:
    """What one server of ours holds; its peak counts from now on.

    Args:
        index: which launch of this server it is.
    """

    def __init__(
        self,
        config: ServerConfig,
        server: Server,
        index: int,
        engine: Engine,
        ledger: Ledger,
    ) -> None:
        self._config = config
        self._server = server
        self._index = index
        self._engine = engine
        self._ledger = ledger
        self._peak: memory.PeakSampler | None = None
        self._highest = 0.0
        # On GPUs by looking again and again, on the CPU by the kernel's own mark.
        if not server.plan.gpu_indices:
            memory.forget_peaks(server.pids())

    def watch(self) -> None:
        """Watch its peak until `stop`; what was seen before still counts."""
        indices = self._server.plan.gpu_indices
        if indices:
            self._peak = memory.PeakSampler(
                lambda: float(max(memory.gpu_bytes(indices).values()))
            ).start()

    def stop(self) -> None:
        """Watch no more."""
        if self._peak is not None:
            self._peak.stop()
            with contextlib.suppress(Failure):  # `note` tells of it
                self._highest = max(self._highest, self._peak.peak())

    def note(self, part: bool = False) -> None:
        """Add it to the launch, and throughput per GB to its repetitions.

        Args:
            part: after a part of its load it holds less, so that its memory is left out
                of the launch.
        """
        key = self._config.key
        values: dict[str, float] = {}
        notes = [
            note
            for note in (
                bandwidth.no_peak(self._config, self._ledger.results.hardware),
            )
            if note
        ]
        for about, read in (
            ("weights per rank", self._weights),
            ("memory", self._memory),
        ):
            try:
                values |= read()
            except (Failure, requests.RequestException) as error:
                notes.append(f"{about}: {error}")
        if "memory_bytes" in values:
            memory_gb = values["memory_bytes"] / 1e9
            self._ledger.enrich(
                key, self._index, lambda repetition: _per_gb(repetition, memory_gb)
            )
        if part:
            notes.append(
                "memory: it was sent a part of its load, and what it held then is no figure"
            )
            values = {
                name: value
                for name, value in values.items()
                if name not in LOAD_DEPENDENT
            }
        known = self._ledger.launches_of(key)[-1].values | values
        parts = memory.breakdown(
            known,
            1 if self._config.device == "cuda" else self._config.tensor_parallel_size,
        )
        if parts is not None:
            values["memory_rest_bytes"] = parts.rest
        self._ledger.amend_launch(key, self._index, values, tuple(notes))

    def _weights(self) -> dict[str, float]:
        architecture = models.lookup(self._config.model).architecture
        bytes_per_rank = self._engine.weights_bytes_per_rank(self._server.url)
        return estimate.weights_values(
            bytes_per_rank,
            architecture,
            self._config.tensor_parallel_size,
            self._config.dtype,
        )

    def _memory(self) -> dict[str, float]:
        if self._config.device == "cpu":
            pids = self._server.pids()
            values = {"memory_bytes": float(memory.process_bytes(pids))}
            return (
                values
                | {"memory_peak_bytes": float(memory.process_peak_bytes(pids))}
                | self._kv_cache()
            )
        used = memory.gpu_bytes(self._server.plan.gpu_indices).values()
        peak = self._peak.peak() if self._peak else float(max(used))
        return {
            "memory_bytes": float(sum(used)),
            "memory_peak_bytes": max(peak, self._highest),
        }

    def _kv_cache(self) -> dict[str, float]:
        """Bytes of KV cache of each rank, where the engine tells its tokens alone."""
        known = self._ledger.launches_of(self._config.key)[-1].values
        if "kv_cache_tokens" not in known or "kv_cache_bytes" in known:
            return {}
        architecture = models.lookup(self._config.model).architecture
        per_token = architecture.kv_bytes_per_token_per_rank(
            self._config.tensor_parallel_size, self._config.dtype
        )
        return {"kv_cache_bytes": known["kv_cache_tokens"] * per_token}


def _per_gb(repetition: Repetition, memory_gb: float) -> dict[str, float]:
    throughput = repetition.values.get("output_throughput")
    return (
        {}
        if throughput is None
        else {"output_throughput_per_gb": throughput / memory_gb}
    )
