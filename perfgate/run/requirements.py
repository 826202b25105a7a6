"""Requirements: why a case cannot run here.

A missing GPU, core, engine or external server, or too little memory, becomes the reason
of a skipped test.
"""

from __future__ import annotations

import platform
import shutil
from collections.abc import Callable, Sequence

from perfgate.cases import Case
from perfgate.config.config import Config
from perfgate.engines import environment
from perfgate.engines.base import ServerConfig
from perfgate.engines.registry import ENGINES
from perfgate.engines.served import served_architecture, split_of
from perfgate.load.metrics import family_of
from perfgate.machine import container
from perfgate.machine.hardware import Hardware
from perfgate.models import estimate
from perfgate.run.launch_planner import find_python
from perfgate.study import StudyFile

VALGRIND = "valgrind"
# Where the suite can tell valgrind when to count.
COUNTED_MACHINES = ("x86_64", "AMD64")


class Requirements:
    """What the cases of one session require of this machine.

    Args:
        study: names the device and the GPU product of each platform.
        hardware: detects this machine; called only for cases that depend on it.
    """

    def __init__(
        self, config: Config, study: StudyFile, hardware: Callable[[], Hardware]
    ) -> None:
        self._config = config
        self._study = study
        self._hardware = hardware
        # Device -> engine -> why it cannot run there.
        self._not_installed: dict[str, dict[str, str]] = {}

    def skip_reason(self, platform: str, case: Case) -> str | None:
        """What the case requires and this machine lacks; None if it can run."""
        if self._config.external_urls:
            return self._not_attached(case)
        servers = [load.server for load in case.loads]
        reason = self._missing_engine(servers) or _no_expert_parallelism(
            servers
        )
        if reason is None and case.is_duel:
            reason = self._missing_base(case.base.numerator.server)
        if reason is None:
            reason = _missing_valgrind(servers)
        if reason is not None:
            return reason
        if self._study.device_of(platform) == "cpu":
            return _few_cores(servers)
        return self._few_gpus(platform, servers) or self._small_gpus(case)

    def _not_attached(self, case: Case) -> str | None:
        missing = set()
        needs_launch = False
        for load in case.loads:
            server = load.server
            key = (server.engine, server.model)
            if key not in self._config.attached:
                missing.add(f"{server.engine}:{server.model}")
            if load.asks_routing or server.expert_parallel:
                needs_launch = True
        if family_of(case.metric) == "start_up":
            needs_launch = True
        if missing:
            names = ", ".join(sorted(missing))
            return f"needs {names}: not served by a server of --attach"
        if needs_launch:
            return "needs a server of its own: --attach launches none"
        return None

    def _missing_engine(self, servers: Sequence[ServerConfig]) -> str | None:
        """Why an engine cannot run.

        None for an engine that --engine names, or if no engine is installed: then the
        tests fail and say so.
        """
        if self._config.engines_are_required:
            return None
        for server in servers:
            reasons = self._missing_engines(server.device)
            if server.engine in reasons:
                return reasons[server.engine]
        return None

    def _missing_base(self, server: ServerConfig) -> str | None:
        """Why there is no build to compare with."""
        try:
            find_python(self._config, server)
        except environment.EngineMissing as failure:
            return (
                f"needs a base build of {server.engine}: {failure.seen}; "
                f"{failure.remedy}, or --against-engine {server.engine}=PYTHON"
            )
        return None

    def _missing_engines(self, device: str) -> dict[str, str]:
        """Engine -> why it cannot run on a device; empty if none can."""
        if device not in self._not_installed:
            reasons = self._find_missing_engines(device)
            if len(reasons) == len(ENGINES):
                reasons = {}
            self._not_installed[device] = reasons
        return self._not_installed[device]

    def _find_missing_engines(self, device: str) -> dict[str, str]:
        reasons = {}
        for name in ENGINES:
            try:
                environment.find_python(
                    name, device, self._config.engine_pythons
                )
            except environment.EngineMissing as failure:
                reasons[name] = (
                    f"needs {name}: {failure.seen}; {failure.remedy}"
                )
        return reasons

    def _few_gpus(
        self, platform: str, servers: Sequence[ServerConfig]
    ) -> str | None:
        gpu = self._study.gpu_of(platform)
        hardware = self._hardware()
        reason = hardware.lacks(gpu, _ranks(servers))
        is_split = all(server.data_parallel_size == 1 for server in servers)
        if reason and is_split and hardware.is_product(gpu):
            fitting = 1 << (hardware.count.bit_length() - 1)  # a power of 2
            return f"{reason} (add --tp {fitting} to run on fewer GPUs)"
        return reason

    def _small_gpus(self, case: Case) -> str | None:
        memory_bytes = self._hardware().memory_bytes
        if memory_bytes is None:  # doctor and header say so
            return None
        alive = 1
        if case.is_duel:
            alive = 2 * self._config.duel_launches
        for load in case.loads:
            server = load.server
            reason = estimate.too_small(
                served_architecture(server),
                split_of(server),
                server.dtype,
                memory_bytes // alive,
            )
            if reason and alive > 1:
                return (
                    f"{server.model} {reason} for each of {alive} launches that are "
                    "alive at once"
                )
            if reason:
                return f"{server.model} {reason}"
        return None


def _no_expert_parallelism(servers: Sequence[ServerConfig]) -> str | None:
    """Why an engine cannot serve with expert parallelism on its device."""
    for server in servers:
        reasons = ENGINES[server.engine].no_expert_parallelism
        if server.expert_parallel and server.device in reasons:
            return reasons[server.device]
    return None


def _missing_valgrind(servers: Sequence[ServerConfig]) -> str | None:
    """Why instructions cannot be counted; None where nobody asks for them."""
    if not any(server.instructions for server in servers):
        return None
    if platform.machine() not in COUNTED_MACHINES:
        return f"needs an x86-64 CPU for --instructions, found {platform.machine()}"
    if shutil.which(VALGRIND) is None:
        return (
            f"needs {VALGRIND} for --instructions: apt-get install {VALGRIND}"
        )
    return None


def _few_cores(servers: Sequence[ServerConfig]) -> str | None:
    ranks = _ranks(servers)
    cores = container.usable_cores()
    if cores < ranks:
        return f"needs {ranks} CPU cores, one for each rank, found {cores:g}"
    return None


def _ranks(servers: Sequence[ServerConfig]) -> int:
    """Those of the largest server."""
    return max(server.ranks for server in servers)
