"""The whole suite with the fake engine in place of a real one.

A stub for unit tests: it enters an engine called "fake" whose servers are
processes of `fake_engine.py`, so that the plugin, the campaign, the pool, the
client and the gate run as they are. Sparse models answer at half the speed.

Everything is sent and received, but the figures are those of the speed that the
engine was told, and no repetition is INVALID because this machine is busy: what
is tested here is what becomes of figures. Whether they are measured rightly is
the question of the tests of `load`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from perfgate import web
from perfgate.engines import registry as engines
from perfgate.engines.base import (
    Engine,
    LaunchFacts,
    LaunchPlan,
    LaunchRequest,
    LogPhase,
    Profiler,
    ServerConfig,
)
from perfgate.engines.variables import search_path
from perfgate.engines.vllm import INSIDE
from perfgate.load import measurement, validity
from perfgate.load.measurement import Target
from perfgate.load.metrics import METRICS
from perfgate.load.repetition import Repetition
from perfgate.load.workload import Workload
from perfgate.machine import hardware, memory
from perfgate.models.catalogue import CATALOGUE
from perfgate.run.probes import host
from tests.support import traces
from tests.support.checkpoints import hollow
from tests.support.fake_nvml import FakeNvml, NvmlFailure, gpus_of

FAKE_ENGINE = Path(__file__).resolve().parent / "fake_engine.py"
FAKE_HELD = Path(__file__).resolve().parent / "fake_held.py"
NO_LIMITS = validity.Policy(
    stall_floor_ms=1e9,
    stall_factor=1e9,
    client_absent_share=1e9,
    late_floor_ms=1e9,
)
ITL_S = {
    "llama-small": 0.001,
    "mixtral-small": 0.002,
    "llama-3.1-8b": 0.001,
    "mixtral-8x7b": 0.002,
}


def _itl_s(model: str) -> float:
    """The speed of a model that is not in the table: a sparse one has half of a dense one's."""
    is_sparse = CATALOGUE[model].architecture.is_moe
    return ITL_S.get(model, 0.002 if is_sparse else 0.001)


def _plan(request: LaunchRequest) -> LaunchPlan:
    behaviour = {"ttft_s": 0.005, "itl_s": _itl_s(request.config.model)}
    settings = [
        arg
        for name, value in behaviour.items()
        for arg in ("--set", f"{name}={json.dumps(value)}")
    ]
    env = {"CUDA_VISIBLE_DEVICES": ",".join(map(str, request.gpu_indices))}
    program = [str(FAKE_ENGINE), *settings]
    late_imports: tuple[str, ...] = ()
    if "FAKE_AS_MODULE" in os.environ:  # as real engines are
        program = ["-m", FAKE_ENGINE.stem, *settings]
        late_imports = ("wave",)
        env["PYTHONPATH"] = search_path(INSIDE, FAKE_ENGINE.parent)
    if request.config.held:
        program = [str(FAKE_HELD)]
    return LaunchPlan(
        key=request.config.key,
        argv=(
            str(request.python),
            *program,
            "--port",
            str(request.port),
            *_misbehaviour(request),
        ),
        env=tuple(sorted(env.items())),
        host=request.host,
        port=request.port,
        health_path="/health",
        phases=(LogPhase("listening", "listening on"),),
        remedies=(),
        startup_timeout_s=30,
        gpu_indices=request.gpu_indices,
        late_imports=late_imports,
    )


def _misbehaviour(request: LaunchRequest) -> list[str]:
    """Options by model from $FAKE_MISBEHAVIOUR: "MODEL: options; MODEL: ...".

    The options are the fake engine's; MODEL may end in -ep, -prefix, -base or
    -candidate.
    """
    config = request.config
    mine = (
        config.model
        + ("-ep" if config.expert_parallel else "")
        + ("-prefix" if config.prefix_caching else "")
        + (f"-{config.build}" if config.build else "")
    )
    texts = [
        text.partition(":")
        for text in os.environ.get("FAKE_MISBEHAVIOUR", "").split(";")
    ]
    return [
        word
        for model, _, words in texts
        if model.strip() == mine
        for word in words.split()
    ]


def _read_log(config: ServerConfig, lines: Iterator[str]) -> LaunchFacts:
    return LaunchFacts(values={"kv_cache_tokens": 4096.0}, effective={})


def _weights(url: str) -> tuple[float, ...]:
    return (1.0, 1.0)


def _inject(url: str, per_token_ms: float) -> None:
    behaviour = {"extra_itl_s": per_token_ms / 1000}
    web.post(f"{url}/behaviour", behaviour, timeout_s=10)


def _told_speed(
    measure: Callable[..., Repetition],
) -> Callable[..., Repetition]:
    """Measure, and replace what a busy machine measured by the set speed."""

    def told(
        target: Target, workload: Workload, *args: Any, **more: Any
    ) -> Repetition:
        measured = measure(target, workload, *args, policy=NO_LIMITS, **more)
        if not measured.completed:
            return measured
        try:
            behaviour = web.get_json(f"{target.url}/behaviour", timeout_s=10)
        except web.NoAnswer:  # died, or stopped, in the middle
            return measured
        values = {
            name: _told(name, behaviour, workload) for name in measured.values
        }
        for name, value in measured.values.items():
            if METRICS[name].family == "hit_rate":
                values[name] = value
        if workload.doubles_to is not None:
            streams = min(workload.max_concurrency, behaviour["saturates_at"])
            values["output_throughput"] *= streams
        # A busy machine lets chunks arrive together.
        client_values = dict(measured.client_values)
        client_values.pop("short_gap_share", None)
        return msgspec.structs.replace(
            measured, values=values, client_values=client_values
        )

    return told


_TRACES: dict[str, Path] = {}


def _start_profile(url: str, folder: Path) -> None:
    _TRACES[url] = folder


def _stop_profile(url: str) -> None:
    """Write what two ranks would: a delay lengthens one kernel of each decode step."""
    behaviour = web.get_json(f"{url}/behaviour", timeout_s=10)
    itl_us = 1e6 * behaviour["itl_s"]
    extra_us = 1e6 * behaviour["extra_itl_s"]
    events = [traces.vllm_step(0.0, itl_us, prefills=4, on_gpu=True)]
    for number in range(1, 12):
        begin_us = number * (itl_us + extra_us)
        events += [
            traces.vllm_step(begin_us, itl_us, decodes=4, on_gpu=True),
            traces.kernel("attention", begin_us, 0.2 * itl_us),
            traces.kernel(
                "moe", begin_us + 0.2 * itl_us, 0.6 * itl_us + extra_us
            ),
        ]
    for rank in range(2):
        traces.write(_TRACES[url] / f"rank{rank}.pt.trace.json.gz", events)


def _profiler() -> Profiler | None:
    """Only where a test asks for it ($FAKE_PROFILER): a profile costs two launches."""
    if not os.environ.get("FAKE_PROFILER"):
        return None
    return Profiler(
        switched_on=lambda plan, versions, folder: plan,
        start=_start_profile,
        stop=_stop_profile,
    )


def _told(name: str, behaviour: dict[str, float], workload: Workload) -> float:
    """A figure at the set speed: a multiple of the ITL, and of what a prompt costs."""
    prompts = workload.prompts
    inputs = getattr(prompts, "input_len_tokens", 0)
    outputs = getattr(prompts, "output_len_tokens", 1)
    itl_s = behaviour["itl_s"] + behaviour["extra_itl_s"]
    itl_s += behaviour["context_s_per_token"] * (inputs + outputs / 2)
    if workload.staggered:
        # While one answer is decoded, every other slot gets a new prompt.
        others = (workload.max_concurrency or 1) - 1
        beside_s = behaviour["beside_s_per_token"] * inputs * others
        itl_s += beside_s / outputs
    if METRICS[name].better == "higher":
        return 1 / itl_s
    if METRICS[name].family == "ttft":
        itl_s += behaviour["prefill_s_per_token"] * inputs
    return 1e3 * itl_s


def enter() -> None:
    """Make "fake" known as an engine, in this process, and "rival", which is the same."""
    measurement.CLIENT_TOO_BUSY = math.inf
    host.MOST_WAITING = math.inf
    # Tests share the cores, and a stand-in hardly needs them.
    host.cores = types.SimpleNamespace(usage=lambda pids: None)
    measurement.measure = _told_speed(measurement.measure)
    for name in ("fake", "rival"):
        engines.ENGINES[name] = Engine(
            name=name,
            plan=_plan,
            read_log=_read_log,
            weights_bytes_per_rank=_weights,
            inject_delay=_inject,
            metrics=engines.lookup("vllm").metrics,
            profiler=_profiler(),
            held_on=frozenset(os.environ.get("FAKE_HELD_ON", "").split()),
        )


def enter_gpus(count: int, kind: str = "h200") -> None:
    """Make this process believe that it has GPUs of that kind.

    They do what $FAKE_NVML says (JSON, `FakeNvml`).

    Args:
        kind: a product, or the product of each of several GPUs: "h200,t400".
    """
    kinds = kind.split(",")
    if len(kinds) == 1:
        kinds *= count
    # Of several hosts on one machine each has GPUs of its own.
    host = os.environ.get("FAKE_GPU_HOST", "")
    gpus = tuple(
        dataclasses.replace(gpu, uuid=f"{gpu.uuid}{host}")
        for gpu in gpus_of(*kinds)
    )
    sys.modules["pynvml"] = FakeNvml(
        gpus=gpus, **json.loads(os.environ.get("FAKE_NVML", "{}"))
    )  # type: ignore[assignment]
    _enter_machine(FakeNvml(gpus=gpus))


def _enter_machine(nvml: FakeNvml) -> None:
    """The GPUs that NVML lists, on a host whose CPU is not this machine's."""
    detect = hardware.detect

    def fake_host(**more: Any) -> hardware.Hardware:
        return msgspec.structs.replace(
            detect(nvml, **more),
            isa="avx512",
            host_memory_bytes=10**11,
            cpu_name="",
            cpu_count=0,
            driver=None,
            cuda=None,
        )

    hardware.detect = fake_host
    memory.gpu_bytes = lambda indices: dict.fromkeys(indices, 10**9)
    memory.gpu_processes = lambda indices, command_of: []


def enter_broken_driver(text: str, code: str) -> None:
    """Make this process believe that NVML is here and does not open."""
    error = NvmlFailure(text, int(code))
    sys.modules["pynvml"] = FakeNvml(init_error=error)  # type: ignore[assignment]


def options(models_dir: Path) -> list[str]:
    """The command line that selects the fake engine and models whose weights are hollow."""
    words = ["--engine", "fake", "--engine-python", f"fake={sys.executable}"]
    words += [
        "--perf-report",
        "no",
    ]  # it takes seconds: the tests of the report ask for it
    words += [
        "-p",
        "xdist.plugin",
    ]  # the one plugin that a project is given: others take a second to load
    for name in (*ITL_S, "llama-tiny", "mixtral-tiny"):
        words += [
            "--model-dir",
            f"{name}={hollow(CATALOGUE[name], models_dir / name)}",
        ]
    return words


@contextlib.contextmanager
def running(itl_s: float) -> Iterator[str]:
    """A fake engine that was not launched by the suite, and its address."""
    settings = [
        "--served-model",
        "llama-small",
        "--set",
        "ttft_s=0.005",
        "--set",
        f"itl_s={itl_s}",
    ]
    command = [sys.executable, str(FAKE_ENGINE), *settings]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            yield "http://" + process.stdout.readline().split()[-1]
        finally:
            process.kill()


def health(url: str) -> int:
    """The status of a server's health."""
    try:
        web.get(f"{url}/health", timeout_s=10)
    except web.NoAnswer as failure:
        return failure.status or 0
    return 200
