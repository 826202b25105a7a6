"""What does the whole suite do, with the fake engine in place of a real one?

A stub for unit tests: it enters an engine called "fake" whose servers are processes of `fake_engine.py`, so that the
plugin, the campaign, the pool, the client and the gate run as they are. Sparse models answer at half the speed.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import requests

from fixtures import engines
from fixtures.engines.types import Engine, LaunchFacts, LaunchPlan, LaunchRequest, LogPhase, ServerConfig
from fixtures.models import CATALOGUE
from fixtures.weights import make_shell

FAKE_ENGINE = Path(__file__).resolve().parent / "fake_engine.py"
ITL_S = {"llama-small": 0.004, "mixtral-small": 0.008}


def _plan(request: LaunchRequest) -> LaunchPlan:
    behaviour = {"ttft_s": 0.005, "itl_s": ITL_S[request.config.model]}
    settings = [arg for name, value in behaviour.items() for arg in ("--set", f"{name}={json.dumps(value)}")]
    return LaunchPlan(
        key=request.config.key,
        argv=(
            str(request.python),
            str(FAKE_ENGINE),
            "--port",
            str(request.port),
            *settings,
            *_misbehaviour(request),
        ),
        env=(),
        host=request.host,
        port=request.port,
        health_path="/health",
        phases=(LogPhase("listening", "listening on"),),
        remedies=(),
        startup_timeout_s=30,
    )


def _misbehaviour(request: LaunchRequest) -> list[str]:
    """What $FAKE_MISBEHAVIOUR asks of the servers of one model: "MODEL: options of the fake engine"."""
    model, _, words = os.environ.get("FAKE_MISBEHAVIOUR", "").partition(":")
    return words.split() if model == request.config.model else []


def _read_log(config: ServerConfig, lines: Iterator[str]) -> LaunchFacts:
    return LaunchFacts(values={"kv_cache_tokens": 4096.0}, effective={})


def _weights(url: str) -> tuple[float, ...]:
    return (1.0, 1.0)


def _plant(url: str, per_token_ms: float) -> None:
    requests.post(f"{url}/behaviour", json={"extra_itl_s": per_token_ms / 1000}, timeout=10).raise_for_status()


def enter() -> None:
    """Make "fake" known as an engine, in this process."""
    engines.ENGINES["fake"] = Engine(
        name="fake", plan=_plan, read_log=_read_log, weights_bytes_per_rank=_weights, plant_delay=_plant
    )


def options(models_dir: Path) -> list[str]:
    """The command line that selects the fake engine and models that are a config.json alone."""
    words = ["--engine", "fake", "--engine-python", f"fake={sys.executable}"]
    for name in ITL_S:
        words += ["--model-dir", f"{name}={make_shell(CATALOGUE[name], models_dir / name)}"]
    return words
