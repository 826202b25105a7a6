"""What does a case need that this machine has not?

GPUs, cores, memory, an engine, a server that somebody else runs: whatever is missing is
the reason of a skipped test.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence

from perfgate.cases import Case
from perfgate.config import choices
from perfgate.engines import environment
from perfgate.engines.base import ServerConfig
from perfgate.engines.registry import ENGINES
from perfgate.machine.hardware import Hardware
from perfgate.models import catalogue as models
from perfgate.models import estimate
from perfgate.study import StudyFile


class Needs:
    """What the cases of one session need.

    Args:
        option: the parsed options.
        study: says what each platform runs on.
        machine: asked only by cases that depend on it.
    """

    def __init__(
        self,
        option: argparse.Namespace,
        study: StudyFile,
        machine: Callable[[], Hardware],
    ) -> None:
        self._option = option
        self._study = study
        self._machine = machine
        self._not_installed: dict[str, dict[str, str]] = {}

    def lacking(self, platform: str, case: Case) -> str | None:
        """What the case needs and this machine has not, or None."""
        servers = [load.server for load in case.loads]
        if self._option.attach:
            return self._not_attached(case)
        for server in servers:
            if reason := self._missing(server.engine, server.device):
                return reason
        refused = [
            reason
            for server in servers
            if server.expert_parallel
            and (
                reason := ENGINES[server.engine].no_expert_parallelism.get(
                    server.device
                )
            )
        ]
        ranks = max(server.tensor_parallel_size for server in servers)
        if self._study.device_of(platform) == "cpu":
            cores = len(os.sched_getaffinity(0))
            if cores < ranks:
                refused.append(
                    f"needs {ranks} CPU cores, one for each rank, found {cores}"
                )
            return refused[0] if refused else None
        if refused:
            return refused[0]
        gpu, machine = self._study.gpu_of(platform), self._machine()
        lacks = machine.lacks(gpu, ranks)
        if lacks and machine.is_product(gpu):
            return (
                f"{lacks} (--tp {1 << (machine.count.bit_length() - 1)} asks what fits)"
            )
        return lacks or self._too_small(servers)

    def _not_attached(self, case: Case) -> str | None:
        servers = [load.server for load in case.loads]
        missing = {
            f"{s.engine}:{s.model}"
            for s in servers
            if not self._is_attached(s.engine, s.model)
        }
        if missing:
            return f"needs {', '.join(sorted(missing))}, which --attach does not name"
        special = any(
            load.asks_routing or load.server.expert_parallel for load in case.loads
        )
        return (
            "needs a server that is launched for it, and --attach launches none"
            if special
            else None
        )

    def _too_small(self, servers: Sequence[ServerConfig]) -> str | None:
        for server in servers:
            architecture, size = (
                models.lookup(server.model).architecture,
                server.tensor_parallel_size,
            )
            if small := estimate.too_small(
                architecture, size, server.dtype, self._machine().memory_bytes
            ):
                return f"{server.model} {small}"
        return None

    def _missing(self, engine: str, device: str) -> str | None:
        """Why an engine that nobody named cannot run, where another one can; None if it can, or was asked for.

        What was asked for must be there: then the tests themselves fail.
        """
        if self._option.engine:
            return None
        if device not in self._not_installed:
            found = {}
            for name in ENGINES:
                try:
                    environment.find_python(
                        name,
                        device,
                        choices.pairs("--engine-python", self._option.engine_python),
                    )
                except environment.EngineMissing as failure:
                    found[name] = f"needs {name}: {failure.seen}; {failure.remedy}"
            self._not_installed[device] = found if len(found) < len(ENGINES) else {}
        return self._not_installed[device].get(engine)

    def _is_attached(self, engine: str, model: str) -> bool:
        return (engine, model) in choices.attachments(tuple(self._option.attach))
