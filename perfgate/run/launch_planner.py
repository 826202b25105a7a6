"""Launch planner: engine, weights, command line and port of each server's launches.

Engine and weights are found at the first launch of a server and stay the same. Each
launch gets a port of its own.
"""

from __future__ import annotations

import dataclasses
import os
import socket
from collections.abc import Callable

import msgspec

from perfgate import formatting
from perfgate.config.config import Config
from perfgate.engines import environment
from perfgate.engines import registry as engines
from perfgate.engines.base import LaunchPlan, LaunchRequest, ServerConfig
from perfgate.errors import Failure, describe_error, exhausted
from perfgate.models import catalogue as models
from perfgate.models import weights
from perfgate.models.stated_routing import chances
from perfgate.results import schema as rundata
from perfgate.servers.launch_record import PortInUse

STARTUP_TIMEOUT_S = {"cpu": 300.0, "cuda": 1200.0}
# In valgrind a held engine takes 75 s to start, and more on a busy machine.
VALGRIND_STARTUP_TIMEOUT_S = 1200.0
HOST = "127.0.0.1"


class TooFewLeased(Failure):
    """A server needs more GPUs than its session has leased."""


class Planner:
    """Plans the launches of one session.

    Args:
        progress: called with a line of text while something takes long, such as making
            weights.
    """

    def __init__(
        self, settings: Config, progress: Callable[[str], None]
    ) -> None:
        self._settings = settings
        self._progress = progress
        self._requests: dict[str, LaunchRequest] = {}
        self._software: dict[str, rundata.Server] = {}

    def software(self, config: ServerConfig) -> rundata.Server:
        """What runs the server; found, and its weights made, at the first call.

        Raises:
            EngineMissing: nothing runs its engine here.
            Failure: its weights are missing.
        """
        if config.key not in self._software:
            names = [name for name, _ in self.plan(config).env]
            self._software[config.key] = msgspec.structs.replace(
                software(self._settings, config),
                environment=environment.inherited(os.environ, names),
            )
        return self._software[config.key]

    def plan(self, config: ServerConfig) -> LaunchPlan:
        """The next launch of the server, on a port that is free now.

        Raises:
            EngineMissing: nothing runs its engine here.
            TooFewLeased: the session has fewer GPUs than it needs.
            Failure: its weights are missing.
        """
        if config.key not in self._requests:
            self._requests[config.key] = self._request(config)
        request = dataclasses.replace(
            self._requests[config.key], port=free_port()
        )
        plan = engines.lookup(config.engine).plan(request)
        return self._settings.injection(config).apply_to(plan)

    def _request(self, config: ServerConfig) -> LaunchRequest:
        settings = self._settings
        _refuse_too_few(config, len(settings.gpu_indices))
        python = find_python(settings, config)
        located = weights.locate(
            models.lookup(config.model),
            config.load_format,
            settings.model_dirs,
            settings.allow_download,
            self._progress,
            python.path,
        )
        cores: tuple[int, ...] = ()
        if not config.gpu_count:
            cores = tuple(sorted(os.sched_getaffinity(0)))
        startup_timeout_s = STARTUP_TIMEOUT_S[config.device]
        if config.instructions:
            startup_timeout_s = VALGRIND_STARTUP_TIMEOUT_S
        expert_chances: list[float] = []
        if config.stated_routing:
            architecture = models.lookup(config.model).architecture
            expert_chances = chances(
                config.stated_routing,
                architecture.num_local_experts,
                architecture.num_experts_per_tok,
            )
        return LaunchRequest(
            config=config,
            python=python.path,
            weights=located.path,
            offline=located.offline,
            host=HOST,
            port=0,
            startup_timeout_s=startup_timeout_s,
            cores=cores,
            gpu_indices=settings.gpu_indices[: config.gpu_count],
            gpu_uuids=settings.gpu_uuids[: config.gpu_count],
            expert_chances=tuple(expert_chances),
        )


def _refuse_too_few(config: ServerConfig, leased: int) -> None:
    """Refuse a server that would be started on a part of the GPUs that it needs.

    Which servers a test starts itself is not known when the GPUs are leased.
    """
    if config.gpu_count <= leased:
        return
    needed = formatting.count(config.gpu_count, "GPU")
    raise TooFewLeased(
        tried=f"planning a launch of {config.key}",
        seen=f"it needs {needed}, and this session has leased {leased}",
        remedy=(
            f"add --tp {config.gpu_count}: a session leases as many GPUs as the "
            "study's servers use"
        ),
    )


def software(settings: Config, config: ServerConfig) -> rundata.Server:
    """What runs a server: its Python and the versions in it.

    Raises:
        EngineMissing: nothing runs its engine here.
    """
    python = find_python(settings, config)
    return rundata.Server(
        config=config,
        python=str(python.path),
        python_origin=python.origin,
        versions=environment.versions(python.path),
        packages=environment.distributions(python.path),
    )


def find_python(
    settings: Config, config: ServerConfig
) -> environment.EnginePython:
    """The Python of the server's engine, or of its base build.

    The base of a held engine is that of the lock file, unless another one is named.

    Raises:
        EngineMissing: there is none.
    """
    pythons, option = settings.engine_pythons, "--engine-python"
    if config.build == "base":
        pythons, option = settings.base_builds, "--against-engine"
        if config.held and config.engine not in pythons:
            return environment.installed_python(config.engine, config.device)
    return environment.find_python(
        config.engine, config.device, pythons, option
    )


def free_port() -> int:
    """A port of `HOST` that no process listens on now.

    Raises:
        PortInUse: the system gives none.
    """
    try:
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            port: int = probe.getsockname()[1]
    except OSError as error:
        raise PortInUse(
            tried=f"choosing a free port of {HOST}",
            seen=describe_error(error),
            remedy=exhausted(error) or "end processes that hold ports: ss -tan",
        ) from error
    return port
