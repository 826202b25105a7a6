"""Launch plans of fake engines, and settings of real ones' modules."""

from __future__ import annotations

import itertools
import socket
import sys
from pathlib import Path

from perfgate.engines.base import LaunchPlan, LaunchRequest, LogPhase, Remedy

SUPPORT = Path(__file__).resolve().parent


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def fake_plan(
    *arguments: str,
    port: int = 0,
    engine: str = "fake_engine.py",
    startup_timeout_s: float = 30.0,
    gpu_indices: tuple[int, ...] = (),
    env: tuple[tuple[str, str], ...] = (),
) -> LaunchPlan:
    """Plan a launch of the fake engine, on a free port unless one is given."""
    port = port or free_port()
    return LaunchPlan(
        key="fake-engine",
        argv=(
            sys.executable,
            str(SUPPORT / engine),
            "--port",
            str(port),
            *arguments,
        ),
        env=env,
        host="127.0.0.1",
        port=port,
        health_path="/health",
        phases=(
            LogPhase("loading weights", "Loading weights"),
            LogPhase("listening", "listening on"),
        ),
        remedies=(Remedy("a known mishap", "do what helps against it"),),
        startup_timeout_s=startup_timeout_s,
        gpu_indices=gpu_indices,
    )


def request_for(config, **changes):
    """A request to launch that server; on two cores, or on GPUs 4 and 5."""
    devices = (
        {"cores": (0, 1)} if config.device == "cpu" else {"gpu_indices": (4, 5)}
    )
    settings = (
        {
            "offline": True,
            "host": "127.0.0.1",
            "port": 8171,
            "startup_timeout_s": 300.0,
        }
        | devices
        | changes
    )
    return LaunchRequest(
        config=config,
        python=Path("/env/bin/python"),
        weights="/models/m",
        **settings,
    )


def options(argv):
    """Options of a command line that take a value, by name."""
    return {
        name: value
        for name, value in itertools.pairwise(argv)
        if name.startswith("--")
    }
