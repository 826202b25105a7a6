"""SGLang: command line, log, /metrics names, delays, and weights of each rank.

Written for 0.5.16 and 0.5.23, on GPUs and on the CPU. It has CPU kernels for AMX only.
On any other CPU it runs PyTorch's operators, through a platform class that the suite
adds by SGLang's plugin interface (``inside/perfgate_sglang.dist-info``). The same
interface reports the weights of each rank and injects delays.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from perfgate import web
from perfgate.engines.base import (
    Engine,
    InjectionFailed,
    LaunchPlan,
    LaunchRequest,
    LogPhase,
    MetricNames,
    Remedy,
    ServerConfig,
    program,
)
from perfgate.engines.cpu_affinity import bind_cores, cores_per_rank
from perfgate.engines.precision import precision_flags
from perfgate.engines.sglang_log import read_log
from perfgate.engines.variables import search_path, stated_chances, visible_gpus
from perfgate.web import NoAnswer

INSIDE = Path(__file__).resolve().parent / "inside"
# What stands in for torchvision on the CPU alone: on a GPU it would hide the real one.
STAND_INS = INSIDE / "sglang_cpu"
# Of the KV cache on the CPU: the study's largest batch needs 2,048. Without a limit
# SGLang takes most of the machine.
CPU_KV_CACHE_TOKENS = 65536
HELD_KV_CACHE_TOKENS = 8192
# Of weights and KV cache together. vLLM's fraction (0.92 by default) holds activations
# and graphs too, SGLang's does not: on an H200 that leaves both the same room for the
# KV cache.
GPU_MEMORY_FRACTION = "0.9"
TIMEOUT_S = 60.0
# The plugin (inside/perfgate_sglang.py) has the same names.
PLAIN_CPU = "PERFGATE_SGLANG_PLAIN_CPU"
DELAY = "perfgate_delay_ms"
DRAWS = "stated_draws"
REPORT = "perfgate_ranks"
CHOICES = "choices"
# Choice -> field of /server_info, where it lists the arguments as they were resolved.
LISTED = {
    "attention_backend": "attention_backend",
    "sampling_backend": "sampling_backend",
    "quantization": "quantization",
    "kv_block_size": "page_size",
}
# Other projects' modules alone: its own ones it imports after the suite's plugin.
LATE_IMPORTS = (
    "aiohttp",
    "compressed_tensors",
    "fastapi",
    "openai",
    "sympy",
    "transformers",
    "uvicorn",
    "uvloop",
    "xgrammar",
)

PHASES = (
    LogPhase(
        "initialising the ranks", r"Init (?:parallel|torch distributed) begin"
    ),
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
        "the model leaves no room for the KV cache: use more GPUs, or end other "
        "processes on the GPU",
    ),
    Remedy(
        r"No module named 'sgl_kernel'|Could not load any common_ops library",
        "this SGLang needs kernels that are not installed: on the CPU use the versions "
        "of `perfgate engines install sglang-cpu`, on GPUs the sglang-kernel of that "
        "release",
    ),
    Remedy(
        r"Failed to (?:load|activate|execute) (?:platform |general )?plugin"
        r"|Failed to apply hooks",
        "this SGLang does not load the suite's plugin: use a version that "
        "`perfgate doctor` lists as tested",
    ),
)


def plan(request: LaunchRequest) -> LaunchPlan:
    """The command line and environment of a server; nothing is started.

    Raises:
        TooFewCores: a rank of a CPU server would have no core of its own.
    """
    config = request.config
    argv = [
        str(request.python),
        *program(config, "sglang.launch_server"),
        "--model-path",
        request.weights,
        "--served-model-name",
        config.model,
        *_layout(config),
        "--context-length",
        str(config.max_model_len),
        "--dtype",
        config.dtype,
        "--load-format",
        config.load_format,
        "--enable-metrics",
        "--host",
        request.host,
        "--port",
        str(request.port),
    ]
    if not config.prefix_caching:
        argv.append("--disable-radix-cache")
    if config.device == "cpu":
        argv += ["--device", "cpu", "--attention-backend", "torch_native"]
        kv_cache_tokens = CPU_KV_CACHE_TOKENS
        if config.held:
            kv_cache_tokens = HELD_KV_CACHE_TOKENS
            argv.append("--disable-overlap-schedule")
        argv += ["--max-total-tokens", str(kv_cache_tokens)]
        # Schedulers spin while they wait, and two of them leave the other processes no
        # core.
        argv.append("--sleep-on-idle")
    else:
        argv += ["--mem-fraction-static", GPU_MEMORY_FRACTION]
        argv += ["--sampling-backend", "pytorch"]
    if config.routing == "returned":
        argv.append("--enable-return-routed-experts")
    argv += precision_flags(config)
    return LaunchPlan(
        key=config.key,
        argv=(*argv, *config.arguments()),
        env=tuple(sorted(_environment(request).items())),
        host=request.host,
        port=request.port,
        health_path="/health",
        phases=PHASES,
        remedies=REMEDIES,
        startup_timeout_s=request.startup_timeout_s,
        gpu_indices=request.gpu_indices,
        late_imports=LATE_IMPORTS,
    )


def _layout(config: ServerConfig) -> list[str]:
    """Flags of the ranks.

    With data parallel attention SGLang counts all ranks in --tp-size; each copy of the
    attention is then split over --tp-size / --dp-size of them.
    """
    tensor_parallel_size = config.tensor_parallel_size
    if config.data_parallel_attention:
        tensor_parallel_size = config.ranks
    flags = ["--tp-size", str(tensor_parallel_size)]
    if config.data_parallel_size > 1:
        flags += ["--dp-size", str(config.data_parallel_size)]
    if config.data_parallel_attention:
        flags.append("--enable-dp-attention")
    if config.expert_parallel:
        flags += ["--ep-size", str(tensor_parallel_size)]
    return flags


def _environment(request: LaunchRequest) -> dict[str, str]:
    config = request.config
    folders = [INSIDE]
    if config.device == "cpu":
        folders.append(STAND_INS)
    env = {
        "PYTHONPATH": search_path(*folders),
        # After SIGTERM it takes the end of its ranks for a crash, sleeps 5 s
        # before it looks at them, and lets those that it finds dump the GPU's
        # memory for a minute.
        "SGLANG_PYSPY_DUMP_BEFORE_CRASH": "0",
        "SGLANG_CUDA_COREDUMP_BEFORE_CRASH": "0",
    }
    if request.offline:
        env["HF_HUB_OFFLINE"] = "1"
    if config.device == "cpu":
        ranks = config.ranks
        env[PLAIN_CPU] = "1"
        env["CUDA_VISIBLE_DEVICES"] = ""
        # It would compile the mask of the embedding at the first request, 5 to 20 s,
        # and be no faster.
        env["TORCHDYNAMO_DISABLE"] = "1"
        # Required with more ranks than NUMA nodes; without SGLang's kernels it binds
        # nothing. What matters is the number of OpenMP threads: by default each rank
        # has one for every core of the machine. Those that spin while they wait for
        # work starve the threads of gloo's all-reduce: 2 to 6 times slower at TP=2.
        env["SGLANG_CPU_OMP_THREADS_BIND"] = bind_cores(ranks, request.cores)
        env["OMP_NUM_THREADS"] = str(cores_per_rank(ranks, request.cores))
        if config.held:
            env["OMP_NUM_THREADS"] = "1"
    elif request.gpu_indices:
        env |= visible_gpus(request.visible_gpus)
    if config.stated_routing:
        env |= stated_chances(request.expert_chances)
    return env | config.variables()


def weights_bytes_per_rank(url: str) -> tuple[float, ...]:
    """Bytes of parameters that each rank holds, as the ranks themselves count them.

    Raises:
        NoAnswer: the server does not answer, or was started without the plugin.
    """
    return tuple(float(rank["weights_bytes"]) for rank in _ranks(url))


def read_choices(url: str) -> dict[str, str]:
    """What /server_info says of itself, and what the plugin adds of the first rank.

    Raises:
        NoAnswer: the server does not answer.
    """
    info = _info(url)
    choices: dict[str, str] = {}
    for name, field in LISTED.items():
        if info.get(field) is not None:
            choices[name] = str(info[field])
    states = info.get("internal_states") or [{}]
    ranks = states[0].get(REPORT) or [{}]
    choices.update(ranks[0].get(CHOICES, {}))
    return choices


def stated_draws(url: str) -> tuple[int, ...]:
    """How often tokens got stated experts, by rank: tokens times layers since the start.

    Raises:
        NoAnswer: the server does not answer, or was started without the plugin.
    """
    return tuple(int(rank[DRAWS]) for rank in _ranks(url))


def inject_delay(url: str, per_token_ms: float) -> None:
    """Delay each token of every rank, to test the gate; 0 ends it.

    Raises:
        InjectionFailed: not every rank confirmed it.
    """
    body = {"server_args": {DELAY: per_token_ms}}
    delays_ms: list[float | None] = []
    try:
        web.post(f"{url}/set_internal_state", body, timeout_s=TIMEOUT_S)
        ranks = _ranks(url)
    except NoAnswer as error:
        seen = error.seen
    else:
        seen = f"the ranks answered {ranks}"
        delays_ms = [rank.get(DELAY) for rank in ranks]
    if set(delays_ms) != {per_token_ms}:
        raise InjectionFailed(
            tried=f"injecting a delay of {per_token_ms} ms per token at {url}",
            seen=seen,
            remedy="read the server's log; without the delay this run tests nothing",
        )


def settle(url: str) -> None:
    """Freeze the garbage collector after the warm-up (gc.freeze), as SGLang advises.

    A full collection of what start and warm-up allocated stops every stream for 0.4 to
    0.5 s; once frozen, for 4 to 15 ms. vLLM does so by itself. SGLang 0.5.23 (not
    0.5.16) does so once it serves, before the load has allocated anything.

    Raises:
        NoAnswer: the server does not answer, or does not know the request.
    """
    web.post(f"{url}/freeze_gc", timeout_s=TIMEOUT_S)


def _info(url: str) -> dict[str, Any]:
    info: dict[str, Any] = web.get_json(
        f"{url}/server_info", timeout_s=TIMEOUT_S
    )
    return info


def _ranks(url: str) -> list[dict[str, Any]]:
    """What the plugin adds to the first scheduler's state: an entry for each rank."""
    info = _info(url)
    try:
        ranks: list[dict[str, Any]] = info["internal_states"][0][REPORT]
    except (KeyError, IndexError, TypeError) as error:
        raise NoAnswer(
            tried=f"GET {url}/server_info",
            seen=f"it has no {REPORT}: SGLang did not load the plugin",
            remedy="use a version that `perfgate doctor` lists as tested",
        ) from error
    return ranks


ENGINE = Engine(
    name="sglang",
    plan=plan,
    read_log=read_log,
    weights_bytes_per_rank=weights_bytes_per_rank,
    inject_delay=inject_delay,
    read_choices=read_choices,
    settle=settle,
    stated_draws=stated_draws,
    tested={"sglang": ("0.5.16", "0.5.23")},
    # 0.5.23 returns the experts on the CPU; 0.5.16, for GPUs, dies of it with Mixtral.
    routing_probes={"cpu": "returned"},
    no_expert_parallelism={
        "cpu": "SGLang 0.5.23 starts on the CPU with expert parallelism and dies at the "
        "first request: its kernel counts experts of other ranks (index -1 in "
        "fused_moe_native.py)"
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
        late=("preemptions", "prefix_cache_hit_tokens"),
    ),
    compiles=r"JIT|[Cc]ompiling|Autotun|[Cc]apture .*graph begin",
    bench_backend="sglang-oai",
    # Only with --enable-deterministic-inference, which uses other kernels.
    honours_seed=False,
    slow_on_cpu=True,
    held_on=frozenset({"cpu"}),
    prepared_on=frozenset({"cuda"}),
    cpu_note="SGLang has CPU kernels for AMX only. Here it runs PyTorch's operators, "
    "with gloo between its ranks, so this comparison does not apply to GPUs",
)
