"""vLLM adapter: command line, environment, and what its log and server say."""

import http.server
import json
import os
import re
import threading
import types

import msgspec
import pytest

from perfgate.engines import vllm
from perfgate.engines.base import InjectionFailed, ServerConfig
from perfgate.engines.cpu_affinity import TooFewCores
from perfgate.engines.vllm import inject_delay, plan, weights_bytes_per_rank
from perfgate.servers.log import LogWatch
from perfgate.web import NoAnswer
from tests.support.engine_logs import VLLM_CPU_LOG, VLLM_GPU_LOG
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


def test_data_parallelism_and_precision_are_asked_for():
    """Attention has as many copies as are wanted; the experts are over all ranks by themselves."""
    config = msgspec.structs.replace(
        GPU,
        data_parallel_size=4,
        data_parallel_attention=True,
        quantization="fp8",
        kv_cache_dtype="fp8",
    )
    argv = plan(request_for(config)).argv
    added = argv[len(plan(request_for(GPU)).argv) :]

    assert (
        "--quantization",
        "fp8",
        "--kv-cache-dtype",
        "fp8",
        "--data-parallel-size",
        "4",
    ) == added


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


def test_processes_are_copies_on_gpus_alone(monkeypatch):
    """Each would import everything again; on the CPU vLLM starts them anew by itself."""
    name = "VLLM_WORKER_MULTIPROC_METHOD"
    monkeypatch.delenv(name, raising=False)

    assert "fork" == dict(plan(request_for(GPU)).env)[name]
    assert name not in dict(plan(request_for(CPU)).env)


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


def test_start_up_is_followed(tmp_path):
    """The phases of an eager start are found in order.

    Turning compilation off is not read as compiling.
    """
    (tmp_path / "log").write_text(VLLM_CPU_LOG)

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
        (
            "INFO [jit_monitor.py:79] Kernel JIT monitor activated; monitored JIT "
            "compilations during inference will use mode=warn.",
            "kernels warmed up",
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
        if re.search(known.pattern, VLLM_CPU_LOG + VLLM_GPU_LOG)
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

    with pytest.raises(NoAnswer, match="404"):
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

    with pytest.raises(InjectionFailed, match="HTTP 500"):
        inject_delay(ranks.url, 2.5)


@pytest.mark.parametrize("config", [CPU, GPU])
def test_a_stated_routing_is_a_strategy_of_the_simulator(config):
    """The one that the workers' extension adds, and the chances that it draws by."""
    stated = msgspec.structs.replace(config, stated_routing="few")
    told = plan(request_for(stated, expert_chances=(1.0, 0.25, 0.75)))
    plain = plan(request_for(config))

    assert {
        "VLLM_MOE_ROUTING_SIMULATION_STRATEGY": "perfgate",
        "PERFGATE_STATED_ROUTING": "1,0.25,0.75",
    } == dict(set(told.env) - set(plain.env))
    assert plain.argv == told.argv


def test_ranks_say_how_often_tokens_got_stated_experts(monkeypatch):
    """Each rank counts by itself."""
    asked = []

    def call(url, method, args):
        asked.append((url, method, args))
        return [{"draws": 12.0}, {"draws": 13.0}]

    monkeypatch.setattr(vllm, "call", call)

    assert (12, 13) == vllm.stated_draws("http://x")
    assert [("http://x", "perfgate_stated_draws", [])] == asked


def test_a_held_engine_has_the_arguments_of_its_server():
    """What holds the engine gets the server's own arguments, one thread, and one process."""
    held = msgspec.structs.replace(CPU, tensor_parallel_size=1, held=True)
    alone = msgspec.structs.replace(held, held=False)

    launch = plan(request_for(held))

    assert ("-m", "perfgate_held", "vllm") == launch.argv[1:4]
    assert options(plan(request_for(alone)).argv) | {
        "--num-gpu-blocks-override": "64"
    } == options(launch.argv)
    env = dict(launch.env)
    assert ("1", "nobind", "0") == (
        env["OMP_NUM_THREADS"],
        env["VLLM_CPU_OMP_THREADS_BIND"],
        env["VLLM_ENABLE_V1_MULTIPROCESSING"],
    )
    assert "vllm-mixtral-small-tp1-held" == launch.key


def test_in_valgrind_it_is_the_same_held_engine():
    """Another program starts it, with the same arguments and variables."""
    held = msgspec.structs.replace(CPU, tensor_parallel_size=1, held=True)
    counted = msgspec.structs.replace(held, instructions=True)

    launch, plain = plan(request_for(counted)), plan(request_for(held))

    assert (
        "-m",
        "perfgate_instructions",
        "perfgate_held",
        "vllm",
    ) == launch.argv[1:5]
    assert options(plain.argv) == options(launch.argv)
    assert plain.env == launch.env
    assert "vllm-mixtral-small-tp1-held-instructions" == launch.key


def test_a_held_engine_on_a_gpu_takes_little_of_it():
    """Four are alive at once, so that what is free now says nothing."""
    held = msgspec.structs.replace(GPU, tensor_parallel_size=1, held=True)
    given = options(plan(request_for(held)).argv)

    assert ("4294967296", "0.05") == (
        given["--kv-cache-memory-bytes"],
        given["--gpu-memory-utilization"],
    )
    assert "--num-gpu-blocks-override" not in given
