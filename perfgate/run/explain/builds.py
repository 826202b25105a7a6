"""Builds: what is launched once more to explain a loss: the candidate, and its base."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from perfgate.config.config import Config
from perfgate.engines.base import LaunchPlan, ServerConfig
from perfgate.machine.hardware import Hardware
from perfgate.progress import ProgressDisplay
from perfgate.run.launch_planner import Planner
from perfgate.run.server_source import PoolSource
from perfgate.servers.pool import ServerPool


@dataclass(frozen=True)
class Build:
    """One side of what is compared.

    Attributes:
        side: "base" or "candidate", for names of files.
        name: in words; of the base what it is.
    """

    side: str
    name: str
    config: ServerConfig
    settings: Config

    @property
    def folder(self) -> str:
        """Name of the folder of its traces: the server's key and the side."""
        key = msgspec.structs.replace(self.config, build="").key
        return f"{key}-{self.side}"


@dataclass(frozen=True)
class Launcher:
    """Launches builds in the session's pool."""

    pool: ServerPool
    hardware: Hardware
    tell: ProgressDisplay

    def source(
        self, build: Build, altered: Callable[[LaunchPlan], LaunchPlan]
    ) -> PoolSource:
        """Where the build's server comes from.

        Args:
            altered: changes its plan.
        """
        return PoolSource(
            build.settings, self.pool, self.hardware, self.tell, altered
        )

    def plan(self, build: Build) -> LaunchPlan:
        """How the build would be launched now."""
        return Planner(build.settings, self.tell.line).plan(build.config)

    def say(self, build: Build, text: str) -> None:
        """A line on the terminal."""
        self.tell.line(f"{build.config.key}: {text}")


def candidate_of(settings: Config, config: ServerConfig) -> Build:
    """The server as it was judged."""
    return Build("candidate", "the candidate", config, settings)


def base_of(settings: Config, config: ServerConfig) -> Build | None:
    """What the server is compared with; None where there is nothing to launch.

    The base build, else the server without what is injected into it.
    """
    if config.engine in settings.base_builds:
        return Build("base", "the base build", config.base, settings)
    if config.model in settings.injections:
        without = dataclasses.replace(settings, injections={})
        return Build(
            "base", "the server without the injection", config, without
        )
    return None
