"""How is SGLang launched, and what does it say about itself?

Written for 0.5.16 on GPUs and 0.5.23 on the CPU. There SGLang has kernels of its own
for AMX alone; on any other CPU it runs by PyTorch's operators, through a platform class
that the suite gives it by SGLang's plugin interface
(``inside/perfgate_sglang.dist-info``). The same interface reports what each rank holds
and injects delays.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from perfgate.engines.base import (
    Engine,
    InjectionFailed,
    LaunchFacts,
    LaunchPlan,
    LaunchRequest,
    LogPhase,
    MetricNames,
    Remedy,
    ServerConfig,
)
from perfgate.engines.cpu_affinity import bind_cores, cores_per_rank

INSIDE = Path(__file__).resolve().parent / "inside"
# What stands in for torchvision on the CPU alone: on a GPU it would hide the real one.
STAND_INS = INSIDE / "sglang_cpu"
# Of the KV cache on the CPU: the study's largest batch needs 2,048. Without a limit
# SGLang takes most of the machine.
CPU_KV_CACHE_TOKENS = 65536
# Of weights and KV cache together. vLLM's fraction (0.92 by default) holds activations
# and graphs too, SGLang's does not: on an H200 that leaves both the same room for the
# KV cache.
GPU_MEMORY_FRACTION = "0.9"
TIMEOUT_S = 60.0
# Names that the plugin knows, too.
PLAIN_CPU, DELAY, REPORT = (
    "PERFGATE_SGLANG_PLAIN_CPU",
    "perfgate_delay_ms",
    "perfgate_ranks",
)

PHASES = (
    LogPhase("initialising the ranks", r"Init (?:parallel|torch distributed) begin"),
    LogPhase("loading weights", r"Load weight begin"),
    LogPhase("weights loaded", r"Load weight end"),
    LogPhase("KV cache sized", r"KV Cache is allocated"),
    LogPhase("capturing graphs", r"Capture .*graph begin"),
    LogPhase("graphs captured", r"Capture .*graph end"),
    LogPhase("opening the port", r"Started server process"),
    LogPhase("serving", r"Application startup complete"),
    LogPhase("warmed up", r"The server is fired up"),
)

REMEDIES = (
    Remedy(
        r"Not enough memory\. Please try to increase --mem-fraction-static",
        (
            "the model leaves no room for the KV cache: use more GPUs, or end what "
            "else holds GPU memory"
        ),
    ),
    Remedy(
        r"No module named 'sgl_kernel'|Could not load any common_ops library",
        "this SGLang wants kernels that are not there: on the CPU use the "
        "versions of `perfgate engines install "
        "sglang-cpu`, on GPUs the sglang-kernel of that release",
    ),
    Remedy(
        r"Failed to (?:load|activate|execute) (?:platform |general )?plugin|Failed to apply hooks",
        (
            "this SGLang does not take the suite's plugin: use a version that "
            "`perfgate doctor` names as tested"
        ),
    ),
)

# Facts of the log; the first line that tells one counts. Sizes are SGLang's GB of 2**30
# bytes.
_FACTS = (
    ("kv_cache_tokens", r"KV Cache is allocated\..*#tokens: (\d+)"),
    ("k_gb", r"KV Cache is allocated\..*K size: ([\d.]+) GB"),
    ("v_gb", r"KV Cache is allocated\..*V size: ([\d.]+) GB"),
    ("graphs_gb", r"Capture .*graph end\..*mem usage=(-?[\d.]+) GB"),
    ("model_loading_gb", r"Load weight end\..*mem usage=(-?[\d.]+) GB"),
    # Chosen by itself, or as it was told.
    (
        "attention_backend",
        r"Attention backend not specified\. Use (\w+)|server_args=.*\battention_backend'?[:=] ?'(\w+)'",
    ),
    ("moe_backend", r"server_args=.*\bmoe_runner_backend'?[:=] ?'(\w+)'"),
    (
        "graphs_off",
        r"([Cc]uda graph is disabled)|server_args=.*\bdisable_cuda_graph'?[:=] ?(True)",
    ),
    (
        "chunked_prefill_tokens",
        r"max_total_num_tokens=.*chunked_prefill_size=(-?\d+|None)",
    ),
    ("radix_cache_off", r"server_args=.*\bdisable_radix_cache'?[:=] ?(True)"),
)


def plan(request: LaunchRequest) -> LaunchPlan:
    """The command line and environment of a server; nothing is started.

    Raises:
        TooFewCores: a rank of a CPU server would have no core of its own.

    """
    config = request.config
    argv = [
        str(request.python),
        "-m",
        "sglang.launch_server",
        "--model-path",
        request.weights,
        "--served-model-name",
        config.model,
        "--tp-size",
        str(config.tensor_parallel_size),
        "--context-length",
        str(config.max_model_len),
        "--dtype",
        config.dtype,
        "--load-format",
        config.load_format,
        "--disable-radix-cache",
        "--enable-metrics",
        "--host",
        request.host,
        "--port",
        str(request.port),
    ]
    if config.device == "cpu":
        # Schedulers spin while they wait, and two of them leave the other processes no
        # core.
        argv += [
            "--device",
            "cpu",
            "--max-total-tokens",
            str(CPU_KV_CACHE_TOKENS),
            "--sleep-on-idle",
        ]
        argv += ["--attention-backend", "torch_native"]
    else:
        argv += [
            "--mem-fraction-static",
            GPU_MEMORY_FRACTION,
            "--sampling-backend",
            "pytorch",
        ]
    if config.routing == "returned":
        argv.append("--enable-return-routed-experts")
    if config.expert_parallel:
        argv += ["--ep-size", str(config.tensor_parallel_size)]
    return LaunchPlan(
        key=config.key,
        argv=(*argv, *config.extra_args),
        env=tuple(sorted(_environment(request).items())),
        host=request.host,
        port=request.port,
        health_path="/health",
        phases=PHASES,
        remedies=REMEDIES,
        startup_timeout_s=request.startup_timeout_s,
        gpu_indices=request.gpu_indices,
    )


def _environment(request: LaunchRequest) -> dict[str, str]:
    config, path = request.config, os.environ.get("PYTHONPATH")
    # The folder of the plugin stays the first: an injection's PYTHONPATH comes right behind
    # it.
    stand_ins = str(STAND_INS) if config.device == "cpu" else None
    folders = [folder for folder in (str(INSIDE), stand_ins, path) if folder]
    env = {"PYTHONPATH": os.pathsep.join(folders)}
    # Told to end, it takes the end of its ranks for a crash, sleeps 5 s before it looks
    # at them, and lets those that it finds write down what the GPU holds, for a minute.
    env |= {
        "SGLANG_PYSPY_DUMP_BEFORE_CRASH": "0",
        "SGLANG_CUDA_COREDUMP_BEFORE_CRASH": "0",
    }
    if request.offline:
        env["HF_HUB_OFFLINE"] = "1"
    if config.device == "cpu":
        ranks = config.tensor_parallel_size
        env[PLAIN_CPU] = "1"
        env["CUDA_VISIBLE_DEVICES"] = ""
        # It would compile the mask of the embedding at the first request, 5 to 20 s,
        # and be no faster.
        env["TORCHDYNAMO_DISABLE"] = "1"
        # Wanted at more ranks than NUMA nodes; without SGLang's kernels it binds
        # nothing. What matters is the number of OpenMP threads: left alone each rank
        # takes one for every core of the machine, and those that spin while they wait
        # for work starve the ones that gloo's all-reduce needs, at TP=2 for a factor of
        # 2 to 6.
        env["SGLANG_CPU_OMP_THREADS_BIND"] = bind_cores(ranks, request.cores)
        env["OMP_NUM_THREADS"] = str(cores_per_rank(ranks, request.cores))
    elif request.gpu_indices:
        env["CUDA_VISIBLE_DEVICES"] = ",".join(
            str(index) for index in request.gpu_indices
        )
        env["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # that of the indices, which are NVML's
    return env | dict(config.extra_env)


def read_log(config: ServerConfig, lines: Iterator[str]) -> LaunchFacts:
    """Memory and chosen backends from the log of a server that is ready."""
    told: dict[str, str] = {}
    for line in lines:
        for name, pattern in _FACTS:
            if name not in told and (found := re.search(pattern, line)):
                told[name] = next(group for group in found.groups() if group)
    values = (
        {"kv_cache_tokens": float(told["kv_cache_tokens"])}
        if "kv_cache_tokens" in told
        else {}
    )
    sizes = [("kv_cache_bytes", ("k_gb", "v_gb")), ("graphs_bytes", ("graphs_gb",))]
    if (
        config.device == "cuda"
    ):  # on the CPU it is what the whole machine has less, other processes included
        sizes.append(("model_loading_bytes", ("model_loading_gb",)))
    for name, parts in sizes:
        if all(part in told for part in parts):
            values[name] = sum(float(told[part]) for part in parts) * 2**30
    chosen = ("attention_backend", "moe_backend")
    effective: dict[str, str] = {name: told[name] for name in chosen if name in told}
    effective["graphs"] = "off" if "graphs_off" in told else "on"
    settings = {
        "chunked_prefill_tokens": told.get("chunked_prefill_tokens", "off"),
        "prefix_cache": "off" if "radix_cache_off" in told else "on",
    }
    return LaunchFacts(values=values, effective=effective, settings=settings)


def weights_bytes_per_rank(url: str) -> tuple[float, ...]:
    """Bytes of parameters that each rank holds, as the ranks themselves count them.

    Raises:
        requests.RequestException: the server does not answer, or was started without
            the plugin.

    """
    return tuple(float(rank["weights_bytes"]) for rank in _ranks(url))


def inject_delay(url: str, per_token_ms: float) -> None:
    """Slow every rank down by a delay for each token that it makes, so that a test can see the gate fire.

    Raises:
        InjectionFailed: not every rank confirmed it.

    """
    import requests  # here and below: collecting tests must not wait for it

    try:
        answer = requests.post(
            f"{url}/set_internal_state",
            json={"server_args": {DELAY: per_token_ms}},
            timeout=TIMEOUT_S,
        )
        answer.raise_for_status()
        ranks = _ranks(url)
    except requests.RequestException as error:
        ranks = []
        seen = str(error)
    else:
        seen = f"the ranks answered {ranks}"
    if not ranks or any(rank.get(DELAY) != per_token_ms for rank in ranks):
        raise InjectionFailed(
            tried=f"injecting a delay of {per_token_ms} ms per token at {url}",
            seen=seen,
            remedy="look at the server's log; without the delay this run proves nothing",
        )


def settle(url: str) -> None:
    """Take what start and warm-up left in memory out of the garbage collection of all its processes, as SGLang advises.

    A full collection looks at all of that, which stops every stream for 0.4 to 0.5 s;
    once frozen, for 4 to 15 ms. vLLM does so by itself, and SGLang 0.5.23 (not 0.5.16)
    once it serves, before the load has left anything.

    Raises:
        requests.RequestException: the server does not answer, or does not know the
            request.

    """
    import requests

    requests.post(f"{url}/freeze_gc", timeout=TIMEOUT_S).raise_for_status()


def _ranks(url: str) -> list[dict[str, float]]:
    """What the plugin adds to the first scheduler's state: one entry for each rank."""
    import requests

    answer = requests.get(f"{url}/server_info", timeout=TIMEOUT_S)
    answer.raise_for_status()
    told: dict[str, Any] = answer.json()
    try:
        ranks: list[dict[str, float]] = told["internal_states"][0][REPORT]
    except (KeyError, IndexError) as error:
        raise requests.RequestException(
            f"{url}/server_info has no {REPORT}: SGLang did not load the plugin"
        ) from error
    return ranks


ENGINE = Engine(
    name="sglang",
    plan=plan,
    read_log=read_log,
    weights_bytes_per_rank=weights_bytes_per_rank,
    inject_delay=inject_delay,
    settle=settle,
    tested={"sglang": ("0.5.16", "0.5.23")},
    # 0.5.23 returns the experts on the CPU; 0.5.16, for GPUs, dies of it with Mixtral.
    routing_probes={"cpu": "returned"},
    no_expert_parallelism={
        "cpu": "SGLang 0.5.23 starts on the CPU with its experts spread and dies at the "
        "first request: "
        "its kernel counts those of other ranks (index -1 in fused_moe_native.py)"
    },
    # sglang/srt/observability/metrics_collector.py (0.5.23).
    metrics=MetricNames(
        counters={
            "prompt_tokens": "sglang:prompt_tokens_total",
            "generation_tokens": "sglang:generation_tokens_total",
            "requests": "sglang:num_requests_total",
            "preemptions": "sglang:num_retracted_requests_total",
            "prefix_cache_hit_tokens": "sglang:cached_tokens_total",
        },
        means={
            "ttft_mean_ms": "sglang:time_to_first_token_seconds",
            "itl_mean_ms": "sglang:inter_token_latency_seconds",
            "e2el_mean_ms": "sglang:e2e_request_latency_seconds",
            "queue_mean_ms": "sglang:queue_time_seconds",
        },
        # Shown only once they have counted something.
        late=("preemptions", "prefix_cache_hit_tokens"),
    ),
    compiles=r"JIT|[Cc]ompiling|Autotun|[Cc]apture .*graph begin",
    bench_backend="sglang-oai",
    # Only with --enable-deterministic-inference, which takes other kernels.
    honours_seed=False,
    slow_on_cpu=True,
    cpu_note="SGLang has kernels of its own for AMX CPUs alone and runs PyTorch's "
    "operators here, with gloo between "
    "its ranks: of the two engines on GPUs this says nothing",
)
