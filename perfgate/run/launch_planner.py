"""With which engine, weights and command line is each server of the session launched?

Found out at its first launch, and the same at every later one.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable

import msgspec

from perfgate.config.settings import Settings
from perfgate.engines import environment
from perfgate.engines import registry as engines
from perfgate.engines.base import LaunchPlan, LaunchRequest, ServerConfig
from perfgate.models import catalogue as models
from perfgate.models import weights
from perfgate.results import schema as rundata
from perfgate.results.recorder import Ledger

STARTUP_TIMEOUT_S = {"cpu": 300.0, "cuda": 1200.0}


class Planner:
    """The plans of one session's launches; what each server runs is written to the ledger.

    Args:
        say: tells a person what takes its time, such as making weights.
    """

    def __init__(
        self, settings: Settings, ledger: Ledger, say: Callable[[str], None]
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self._say = say
        self._plans: dict[str, LaunchPlan] = {}

    def plan(self, config: ServerConfig) -> LaunchPlan:
        """How the server is launched.

        Raises:
            Failure: its engine or its weights are not to be had.
        """
        if config.key in self._plans:
            return self._plans[config.key]
        settings, python = self._settings, find_python(self._settings, config)
        model = models.lookup(config.model)
        found = weights.locate(
            model,
            config.load_format,
            settings.model_dirs,
            settings.allow_download,
            self._say,
        )
        request = LaunchRequest(
            config=config,
            python=python.path,
            weights=found.path,
            offline=found.offline,
            host="127.0.0.1",
            port=_free_port(),
            startup_timeout_s=STARTUP_TIMEOUT_S[config.device],
            cores=() if config.gpu_count else tuple(sorted(os.sched_getaffinity(0))),
            gpu_indices=settings.gpu_indices[: config.gpu_count],
        )
        plan = settings.injection(config).apply_to(
            engines.lookup(config.engine).plan(request)
        )
        inherited = environment.inherited(os.environ, (name for name, _ in plan.env))
        server = msgspec.structs.replace(
            software(settings, config), environment=inherited
        )
        self._ledger.put_server(server)
        self._plans[config.key] = plan
        return plan


def software(settings: Settings, config: ServerConfig) -> rundata.Server:
    """What runs the server.

    Raises:
        EngineMissing: nothing does.
    """
    python = find_python(settings, config)
    versions = environment.versions(python.path)
    return rundata.Server(
        config=config, python=f"{python.path} ({python.origin})", versions=versions
    )


def attached(config: ServerConfig, url: str) -> rundata.Server:
    """What can be said of a server that somebody else runs."""
    return rundata.Server(
        config=config, python=f"somebody else's ({url})", versions={}, attached=url
    )


def find_python(settings: Settings, config: ServerConfig) -> environment.EnginePython:
    """The Python of the server's engine, or of its base build.

    Raises:
        EngineMissing: there is none.
    """
    named = (settings.engine_pythons, "--engine-python")
    if config.build:
        named = (settings.against, "--against-engine")
    return environment.find_python(config.engine, config.device, *named)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
