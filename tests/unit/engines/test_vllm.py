"""vLLM adapter: command line, environment, and what its log and server say."""

import http.server
import json
import os
import re
import threading
import types

import msgspec
import pytest
import requests

from perfgate.engines import vllm
from perfgate.engines.base import InjectionFailed, ServerConfig
from perfgate.engines.cpu_affinity import TooFewCores
from perfgate.engines.vllm import (
    inject_delay,
    plan,
    read_log,
    weights_bytes_per_rank,
)
from perfgate.servers.log import LogWatch
from tests.support.plans import options, request_for

CPU = ServerConfig(
    engine="vllm",
    model="mixtral-small",
    tensor_parallel_size=2,
    max_model_len=1024,
    dtype="float32",
    extra_args=("--enforce-eager",),
)
GPU = ServerConfig(
    engine="vllm", model="mixtral-8x7b", tensor_parallel_size=2, device="cuda"
)

# As 0.32.0 logged on the CPU, shortened at the ends of lines.
MIXTRAL_LOG = """\
(APIServer pid=8158) INFO 11-24 06:33:24 [api_utils.py:347]  ▄▄ ▄█ █     █     █ ▀▄▀ █  version \
0.32.0
(APIServer pid=8158) WARNING 11-24 06:33:24 [vllm.py:1703] Enforce eager set, disabling \
torch.compile, CUDAGraphs, and
(APIServer pid=8158) WARNING 11-24 06:33:24 [cpu.py:317] Reset SSM cache type to float32 for \
accelerated GDN mamba backend 'none'.
(EngineCore pid=8186) INFO 11-24 06:33:29 [core.py:133] Initializing a V1 LLM engine (v0.32.0) \
with config: model=
(EngineCore pid=8186) INFO 11-24 06:33:30 [ompmultiprocessing.py:185] OpenMP thread binding info:
(EngineCore pid=8186) INFO 11-24 06:33:30 [ompmultiprocessing.py:185] \
	VLLM_CPU_OMP_THREADS_BIND='0|1'
(Worker_TP0 pid=8195) INFO 11-24 06:33:35 [cpu_model_runner.py:68] Starting to load model \
mixtral-small...
(Worker_TP0 pid=8195) INFO 11-24 06:33:35 [unquantized.py:364] Using CPU Unquantized MoE \
backend out of potential backends: ['CPU'].
(Worker_TP0 pid=8195) INFO 11-24 06:33:35 [weight_utils.py:1108] Checkpoint size: 1.38 GiB. \
Available RAM: 16.12 GiB.
Loading safetensors checkpoint shards:   0% Completed | 0/5 [00:00<?, ?it/s]
(Worker_TP0 pid=8195) INFO 11-24 06:33:38 [default_loader.py:501] Loading weights took 2.45 seconds
(Worker_TP0 pid=8195) INFO 11-24 06:33:38 [unquantized.py:529] Using CPUUnquantizedExperts MoE \
backend
(EngineCore pid=8186) INFO 11-24 06:33:39 [utils.py:347] Using LBHNC KV cache layout.
(Worker_TP0 pid=8195) INFO 11-24 06:33:39 [cpu_worker.py:260] Explicitly set (1.0/18.46) GiB \
for KV cache on node 0.
(EngineCore pid=8186) INFO 11-24 06:33:39 [kv_cache_utils.py:2327] CPU KV cache size: 262,144 \
tokens, Maximum concurrency for 1,024 tokens per request: 256.00x
(EngineCore pid=8186) INFO 11-24 06:33:42 [core.py:402] init engine (profile, create kv cache, \
warmup model) took 2.68 s
(APIServer pid=8158) INFO 11-24 06:33:42 [entry.py:140] Starting vLLM server on \
http://127.0.0.1:8171
INFO:     Application startup complete.
"""
# Memory as 0.26 logged it for Mixtral-8x7B on one H200, in lines as its source
# formats them, with a second rank added.
GPU_LOG = """\
(Worker_TP0 pid=12) INFO Using FLASH_ATTN attention backend out of potential backends: \
['FLASH_ATTN'].
(Worker_TP0 pid=12) INFO Using TRITON Unquantized MoE backend out of potential backends: \
['TRITON'].
(Worker_TP0 pid=12) INFO Model loading took 87.0 GiB memory and 31.210000 seconds
(Worker_TP1 pid=13) INFO Model loading took 86.9 GiB memory and 31.340000 seconds
(Worker_TP0 pid=12) INFO Available KV cache memory: 38.97 GiB
(EngineCore pid=11) INFO GPU KV cache size: 319,264 tokens, Maximum concurrency for 4,096 \
tokens per request: 77.95x
(Worker_TP0 pid=12) INFO Graph capturing finished in 12 secs, took 0.65 GiB
"""


def test_command_line():
    """The module runs, not the `vllm` command, and every setting is on the command line."""
    launch = plan(request_for(CPU))

    assert (
        "/env/bin/python",
        "-m",
        "vllm.entrypoints.openai.api_server",
    ) == launch.argv[:3]
    assert {
        "--model": "/models/m",
        "--served-model-name": "mixtral-small",
        "--tensor-parallel-size": "2",
        "--max-model-len": "1024",
        "--dtype": "float32",
        "--load-format": "auto",
        "--host": "127.0.0.1",
        "--port": "8171",
    }.items() <= options(launch.argv).items()
    assert ("vllm-mixtral-small-tp2", "http://127.0.0.1:8171") == (
        launch.key,
        launch.url,
    )
    assert ("/health", 300.0, ()) == (
        launch.health_path,
        launch.startup_timeout_s,
        launch.gpu_indices,
    )


def test_no_answer_comes_from_the_prefix_cache():
    """Prefix caching is on by default in vLLM, and is turned off."""
    assert "--no-enable-prefix-caching" in plan(request_for(CPU)).argv


@pytest.mark.parametrize(("wanted", "count"), [(False, 0), (True, 1)])
def test_expert_parallelism_is_asked_for(wanted, count):
    """The option is there only if it is wanted."""
    config = msgspec.structs.replace(GPU, expert_parallel=wanted)

    assert count == plan(request_for(config)).argv.count(
        "--enable-expert-parallel"
    )


def test_extra_arguments_and_variables_come_last():
    """What the configuration adds stands after what the suite says, so that it wins."""
    config = msgspec.structs.replace(
        CPU,
        extra_args=("--dtype", "bfloat16"),
        extra_env=(("VLLM_CPU_KVCACHE_SPACE", "4"),),
    )
    launch = plan(request_for(config))

    assert ("--dtype", "bfloat16") == launch.argv[-2:]
    assert "4" == dict(launch.env)["VLLM_CPU_KVCACHE_SPACE"]


@pytest.mark.parametrize(("offline", "expected"), [(True, "1"), (False, None)])
def test_hub_is_asked_only_with_consent(offline, expected):
    """Weights that lie here are served without a network; only an agreed download may use it."""
    assert expected == dict(plan(request_for(CPU, offline=offline)).env).get(
        "HF_HUB_OFFLINE"
    )


def test_environment_on_the_cpu():
    """Each rank has its cores and a bounded KV cache; no GPU is named."""
    env = dict(plan(request_for(CPU)).env)

    assert ("0|1", "1") == (
        env["VLLM_CPU_OMP_THREADS_BIND"],
        env["VLLM_CPU_KVCACHE_SPACE"],
    )
    assert "CUDA_VISIBLE_DEVICES" not in env


@pytest.mark.parametrize(
    ("config", "compiles"),
    [
        (msgspec.structs.replace(CPU, extra_args=("--enforce-eager",)), False),
        (msgspec.structs.replace(CPU, extra_args=()), True),
        (msgspec.structs.replace(GPU, extra_args=("--enforce-eager",)), True),
    ],
    ids=["eager", "not eager", "on a GPU"],
)
def test_nothing_is_compiled_where_all_is_eager(config, compiles):
    """Where all is eager, compilation on the CPU is off: it costs more than it gains.

    Elsewhere vLLM's own default holds.
    """
    assert compiles == (
        "TORCHDYNAMO_DISABLE" not in dict(plan(request_for(config)).env)
    )


def test_environment_on_gpus():
    """The server sees the GPUs that it was given, by index, and no setting of the CPU."""
    launch = plan(request_for(GPU))

    assert ((4, 5), "4,5") == (
        launch.gpu_indices,
        dict(launch.env)["CUDA_VISIBLE_DEVICES"],
    )
    assert [] == [name for name, _ in launch.env if name.startswith("VLLM_CPU")]


@pytest.mark.parametrize(
    ("before", "after"), [(None, ""), ("/mine", f"{os.pathsep}/mine")]
)
def test_python_path_is_kept(monkeypatch, before, after):
    """The worker's methods come before what the user has in PYTHONPATH, which stays."""
    if before is None:
        monkeypatch.delenv("PYTHONPATH", raising=False)
    else:
        monkeypatch.setenv("PYTHONPATH", before)

    assert (
        f"{vllm.INSIDE}{after}"
        == dict(plan(request_for(CPU)).env)["PYTHONPATH"]
    )


def test_fewer_cores_than_ranks_are_refused():
    """Two ranks cannot share a core; that is said before anything is launched."""
    with pytest.raises(
        TooFewCores, match=r"2 ranks[\s\S]*may use 1[\s\S]*--tp"
    ):
        plan(request_for(CPU, cores=(3,)))


def test_log_of_a_cpu_server():
    """KV cache size and expert kernels are read; what was not logged is left out."""
    facts = read_log(CPU, iter(MIXTRAL_LOG.splitlines(keepends=True)))

    assert {"kv_cache_tokens": 262_144} == facts.values
    assert {"moe_backend": "CPU", "graphs": "off"} == facts.effective


def test_log_of_a_gpu_server():
    """What memory is made of is read in bytes; of several ranks the first one counts."""
    facts = read_log(GPU, iter(GPU_LOG.splitlines(keepends=True)))

    assert {
        "kv_cache_tokens": 319_264,
        "kv_cache_bytes": 38.97 * 2**30,
        "graphs_bytes": 0.65 * 2**30,
        "model_loading_bytes": 87.0 * 2**30,
    } == facts.values
    assert {
        "attention_backend": "FLASH_ATTN",
        "moe_backend": "TRITON",
        "graphs": "on",
    } == facts.effective


def test_graphs_that_were_not_captured_are_off():
    """Nothing was asked for: the engine, or an injected argument, switched them off."""
    lines = [
        line
        for line in GPU_LOG.splitlines(keepends=True)
        if "Graph capturing" not in line
    ]

    assert "off" == read_log(GPU, iter(lines)).effective["graphs"]


@pytest.mark.parametrize(
    ("line", "backend"),
    [
        (
            "INFO [cuda.py:446] Using AttentionBackendEnum.FLASHINFER backend.\n",
            "FLASHINFER",
        ),
        (
            "INFO [cuda.py:310] Using FLASHINFER attention backend out of potential backends: []",
            "FLASHINFER",
        ),
        ("INFO [utils.py:347] Using LBHNC KV cache layout.\n", None),
    ],
)
def test_attention_backend_is_told_in_two_ways(line, backend):
    """A chosen and a forced backend are logged in different words, and have one name."""
    assert backend == read_log(GPU, iter([line])).effective.get(
        "attention_backend"
    )


@pytest.mark.parametrize(
    ("line", "chosen"),
    [
        (
            "INFO Using configuration from /env/lib/python3.12/site-packages/vllm/"
            "model_executor/layers/fused_moe/configs/E=8,N=14336.json for MoE layer.",
            {"moe_config": "E=8,N=14336.json"},
        ),
        (
            "INFO Using configuration from /tuned/E=8,N=14336.json for MoE layer.",
            {"moe_config": "/tuned/E=8,N=14336.json"},
        ),
        (
            "WARNING Using default MoE config. Performance might be sub-optimal! "
            "Config file not found at /env/E=8,N=14336.json",
            {"moe_config": "default"},
        ),
        (
            "INFO Using ['CUSTOM', 'PYNCCL'] all-reduce backends (in dispatch order) for "
            "group 'tp:0' out of potential backends: ['CUSTOM', 'PYNCCL'].",
            {"all_reduce": "CUSTOM, PYNCCL"},
        ),
        (
            "INFO Using ['PYNCCL'] all-reduce backends (in dispatch order) for group "
            "'dp:0' out of potential backends: ['PYNCCL'].",
            {},
        ),
    ],
    ids=["tuned", "own-file", "default", "all-reduce", "other-group"],
)
def test_kernel_files_and_all_reduce_are_choices(line, chosen):
    """What is missing or slower there explains a loss."""
    facts = read_log(GPU, iter([line]))

    assert chosen | {"graphs": "off"} == facts.effective


def test_start_up_is_followed(tmp_path):
    """The phases of an eager start are found in order.

    Turning compilation off is not read as compiling.
    """
    (tmp_path / "log").write_text(MIXTRAL_LOG)

    assert [
        "initialising the engine",
        "loading weights",
        "weights loaded",
        "KV cache sized",
        "opening the port",
        "serving",
    ] == [name for name, _ in LogWatch(tmp_path / "log", vllm.PHASES).news()]


@pytest.mark.parametrize(
    ("line", "phase"),
    [
        ("INFO [monitor.py:40] Starting torch.compile", "compiling"),
        (
            "INFO [backends.py:643] Using cache directory: x for vLLM's torch.compile",
            "compiling",
        ),
        (
            "INFO [backends.py:703] Dynamo bytecode transform time: 5.21 s",
            "compiling",
        ),
        (
            "Capturing CUDA graphs (mixed prefill-decode, PIECEWISE):   0%|",
            "capturing graphs",
        ),
        (
            "INFO [gpu_model_runner.py:6582] Graph capturing finished in 12 secs, took 0.65 GiB",
            "graphs captured",
        ),
    ],
)
def test_phases_of_a_compiled_start(tmp_path, line, phase):
    """On GPUs the engine compiles and captures graphs too."""
    (tmp_path / "log").write_text(line + "\n")

    assert [phase] == [
        name for name, _ in LogWatch(tmp_path / "log", vllm.PHASES).news()
    ]


@pytest.mark.parametrize(
    ("line", "remedy"),
    [
        (
            "ValueError: Free memory on device cuda:0 (9.1/139.8 GiB) on "
            "startup is less than desired GPU memory "
            "utilization (0.9, 125.8 GiB).",
            "nvidia-smi",
        ),
        ("ValueError: No available memory for the cache blocks.", "KV cache"),
        (
            "AssertionError: Given number of CPU id list ['0'] doesn't match local world size 2.",
            "a core of its own",
        ),
        (
            "AssertionError: Not enough allowed NUMA nodes to bind threads of 2 local CPUWorkers.",
            "a core of its own",
        ),
        (
            "RuntimeError: operator torchvision::nms does not exist",
            "torchvision",
        ),
    ],
)
def test_known_failures_have_a_remedy(line, remedy):
    """A signature of a failed start is matched by one remedy."""
    found = [
        known.text for known in vllm.REMEDIES if re.search(known.pattern, line)
    ]

    assert [True] == [remedy in text for text in found]


def test_healthy_log_bears_no_remedy():
    """No line of a good start is taken for a failure's signature."""
    assert [] == [
        known.text
        for known in vllm.REMEDIES
        if re.search(known.pattern, MIXTRAL_LOG + GPU_LOG)
    ]


@pytest.fixture
def ranks():
    """A server whose ranks answer with `results`; `asked` holds (path, body) of each request."""
    state = types.SimpleNamespace(results=[], status=200, asked=[])

    class Handler(http.server.BaseHTTPRequestHandler):
        """Answers like vLLM's /collective_rpc."""

        def do_POST(self):
            """One remote call."""
            body = json.loads(
                self.rfile.read(int(self.headers["Content-Length"]))
            )
            state.asked.append((self.path, body))
            self.send_response(state.status)
            self.end_headers()
            self.wfile.write(json.dumps({"results": state.results}).encode())

        def log_message(self, *args):
            """Quiet."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(
            target=server.serve_forever, args=(0.01,), daemon=True
        ).start()
        state.url = f"http://127.0.0.1:{server.server_port}"
        yield state
        server.shutdown()


def test_each_rank_says_what_it_holds(ranks):
    """One number for each rank, in the order of the ranks."""
    ranks.results = [
        {"weights_bytes": 690_000_000.0},
        {"weights_bytes": 689_000_000.0},
    ]

    assert (690_000_000.0, 689_000_000.0) == weights_bytes_per_rank(ranks.url)
    assert [
        ("/collective_rpc", {"method": "perfgate_weights", "args": []})
    ] == ranks.asked


def test_server_without_the_extension_is_an_error(ranks):
    """A server that does not know the call is told by its status, not read as zero bytes."""
    ranks.status = 404

    with pytest.raises(requests.HTTPError, match="404"):
        weights_bytes_per_rank(ranks.url)


def test_injected_delay_is_confirmed_by_every_rank(ranks):
    """The delay travels as text, since HTTP arguments are strings, and returns as the number."""
    ranks.results = [{"per_token_ms": 2.5}, {"per_token_ms": 2.5}]

    inject_delay(ranks.url, 2.5)

    assert [
        (
            "/collective_rpc",
            {"method": "perfgate_inject_delay", "args": ["2.5"]},
        )
    ] == ranks.asked


@pytest.mark.parametrize(
    "results",
    [
        [],
        [{"per_token_ms": 2.5}, {}],
        [{"per_token_ms": 2.5}, {"per_token_ms": 0.0}],
    ],
    ids=["nobody", "one-silent", "one-other"],
)
def test_unconfirmed_delay_is_an_error(ranks, results):
    """A delay that one rank did not take would make the proof worthless, so it is an error."""
    ranks.results = results

    with pytest.raises(InjectionFailed, match=r"2\.5 ms per token") as error:
        inject_delay(ranks.url, 2.5)
    assert "tests nothing" in error.value.remedy


def test_delay_for_a_server_that_is_gone(ranks):
    """The server's silence is told as what was seen."""
    ranks.status = 500

    with pytest.raises(InjectionFailed, match="HTTP status 500"):
        inject_delay(ranks.url, 2.5)
