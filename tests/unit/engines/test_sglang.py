"""SGLang adapter: command line, environment, and what its log and server say."""

import configparser
import http.server
import importlib
import json
import os
import subprocess
import sys
import threading
import types

import msgspec
import pytest

from perfgate.engines import sglang
from perfgate.engines.base import InjectionFailed, ServerConfig
from perfgate.engines.cpu_affinity import TooFewCores
from perfgate.engines.sglang import (
    inject_delay,
    plan,
    read_choices,
    settle,
    weights_bytes_per_rank,
)
from perfgate.servers.log import LogWatch
from perfgate.web import NoAnswer
from tests.support.engine_logs import SGLANG_CPU_LOG
from tests.support.plans import options, request_for

CPU = ServerConfig(
    engine="sglang",
    model="mixtral-small",
    tensor_parallel_size=2,
    max_model_len=1024,
    dtype="float32",
)
GPU = ServerConfig(
    engine="sglang", model="mixtral-8x7b", tensor_parallel_size=2, device="cuda"
)


def test_command_line():
    """Every setting of the configuration is on the command line; the prefix cache is off."""
    launch = plan(request_for(CPU))

    assert ("/env/bin/python", "-m", "sglang.launch_server") == launch.argv[:3]
    assert {
        "--model-path": "/models/m",
        "--served-model-name": "mixtral-small",
        "--tp-size": "2",
        "--context-length": "1024",
        "--dtype": "float32",
        "--load-format": "auto",
        "--device": "cpu",
        "--host": "127.0.0.1",
        "--port": "8171",
    }.items() <= options(launch.argv).items()
    assert {"--disable-radix-cache", "--enable-metrics"} <= set(launch.argv)
    assert ("sglang-mixtral-small-tp2", "http://127.0.0.1:8171") == (
        launch.key,
        launch.url,
    )


@pytest.mark.parametrize(("wanted", "expected"), [(False, None), (True, "2")])
def test_expert_parallelism_is_asked_for(wanted, expected):
    """Experts are split over the same ranks."""
    config = msgspec.structs.replace(GPU, expert_parallel=wanted)

    assert expected == options(plan(request_for(config)).argv).get("--ep-size")


@pytest.mark.parametrize(
    ("attention", "expected"),
    [(False, ("2", "4", False, "2")), (True, ("8", "4", True, "8"))],
    ids=["copies of the model", "copies of the attention"],
)
def test_data_parallelism_is_asked_for(attention, expected):
    """With shared experts --tp-size counts all ranks, else those of one copy."""
    config = msgspec.structs.replace(
        GPU,
        tensor_parallel_size=2,
        data_parallel_size=4,
        data_parallel_attention=attention,
        expert_parallel=True,
    )
    argv = plan(request_for(config)).argv
    found = options(argv)

    assert expected == (
        found["--tp-size"],
        found["--dp-size"],
        "--enable-dp-attention" in argv,
        found["--ep-size"],
    )


def test_experts_are_returned_where_they_are_asked_for():
    """A timed server is never asked to keep them."""
    asked = msgspec.structs.replace(CPU, routing="returned")

    assert "--enable-return-routed-experts" in plan(request_for(asked)).argv
    assert "--enable-return-routed-experts" not in plan(request_for(CPU)).argv


@pytest.mark.parametrize(
    ("ranks", "cores", "threads", "bound"),
    [
        (2, (0, 1), "1", "0|1"),
        (1, (0, 1), "2", "0,1"),
        (2, (2, 3, 4, 5), "2", "2,3|4,5"),
    ],
)
def test_environment_on_the_cpu(ranks, cores, threads, bound):
    """No rank has more OpenMP threads than cores; nothing is compiled.

    Threads that spin would starve the all-reduce.
    """
    config = msgspec.structs.replace(CPU, tensor_parallel_size=ranks)
    env = dict(plan(request_for(config, cores=cores)).env)

    assert (threads, bound) == (
        env["OMP_NUM_THREADS"],
        env["SGLANG_CPU_OMP_THREADS_BIND"],
    )
    assert ("1", "") == (
        env["PERFGATE_SGLANG_PLAIN_CPU"],
        env["CUDA_VISIBLE_DEVICES"],
    )
    assert "1" == env["TORCHDYNAMO_DISABLE"]


@pytest.mark.parametrize("config", [CPU, GPU])
def test_end_is_not_taken_for_a_crash(config):
    """Neither of the two that make it sleep and write down what the GPU holds is left on."""
    env = dict(plan(request_for(config, cores=(0, 1))).env)

    assert ("0", "0") == (
        env["SGLANG_PYSPY_DUMP_BEFORE_CRASH"],
        env["SGLANG_CUDA_COREDUMP_BEFORE_CRASH"],
    )


def test_one_core_is_too_few_for_two_ranks():
    """The reader is told before anything is started."""
    with pytest.raises(TooFewCores, match="--tp"):
        plan(request_for(CPU, cores=(0,)))


def test_environment_on_gpus():
    """The server sees the GPUs that it was given, and the platform is the engine's own."""
    env = dict(plan(request_for(GPU)).env)

    assert "4,5" == env["CUDA_VISIBLE_DEVICES"]
    assert {
        "PERFGATE_SGLANG_PLAIN_CPU",
        "OMP_NUM_THREADS",
        "TORCHDYNAMO_DISABLE",
    }.isdisjoint(env)


@pytest.mark.parametrize("config", [CPU, GPU])
def test_a_stated_routing_is_told_to_the_plugin(config):
    """As chances of experts; SGLang's own simulators stay off."""
    stated = msgspec.structs.replace(config, stated_routing="few")
    told = plan(request_for(stated, expert_chances=(1.0, 0.25, 0.75)))
    plain = plan(request_for(config))

    assert {"PERFGATE_STATED_ROUTING": "1,0.25,0.75"} == dict(
        set(told.env) - set(plain.env)
    )
    assert plain.argv == told.argv


def test_phases_are_found_in_order(tmp_path):
    """A good start goes through the phases of the CPU."""
    log = tmp_path / "server.log"
    log.write_text(SGLANG_CPU_LOG)

    assert [
        "initialising the ranks",
        "loading weights",
        "weights loaded",
        "KV cache sized",
        "opening the port",
        "serving",
        "warmed up",
    ] == [name for name, _ in LogWatch(log, sglang.PHASES).news()]


@pytest.fixture
def ranks():
    """A server whose scheduler reports `state`; `asked` holds what it was sent."""
    told = types.SimpleNamespace(state={}, asked=[], info={})

    class Handler(http.server.BaseHTTPRequestHandler):
        """Answers like SGLang's /server_info and /set_internal_state."""

        def do_GET(self):
            """The state of the first scheduler."""
            self._answer({"internal_states": [told.state]} | told.info)

        def do_POST(self):
            """Something is set."""
            body = self.rfile.read(int(self.headers["Content-Length"]))
            told.asked.append((self.path, json.loads(body) if body else None))
            self._answer([True])

        def _answer(self, value):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(value).encode())

        def log_message(self, *args):
            """Quiet."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(
            target=server.serve_forever, args=(0.01,), daemon=True
        ).start()
        told.url = f"http://127.0.0.1:{server.server_port}"
        yield told
        server.shutdown()


def test_each_rank_says_what_it_holds(ranks):
    """One number for each rank, in their order."""
    ranks.state = {
        "perfgate_ranks": [{"weights_bytes": 690.0}, {"weights_bytes": 689.0}]
    }

    assert (690.0, 689.0) == weights_bytes_per_rank(ranks.url)


def test_server_without_the_plugin_is_an_error(ranks):
    """Nothing is read as zero bytes."""
    with pytest.raises(NoAnswer, match="did not load the plugin"):
        weights_bytes_per_rank(ranks.url)


@pytest.mark.parametrize(
    ("confirmed", "is_fine"),
    [([2.5, 2.5], True), ([2.5, 0.0], False), ([], False)],
)
def test_injected_delay_is_confirmed_by_every_rank(ranks, confirmed, is_fine):
    """A delay that one rank did not take would make the proof worthless, so it is an error."""
    ranks.state = {
        "perfgate_ranks": [{"perfgate_delay_ms": delay} for delay in confirmed]
    }

    if is_fine:
        inject_delay(ranks.url, 2.5)
        assert [
            ("/set_internal_state", {"server_args": {"perfgate_delay_ms": 2.5}})
        ] == ranks.asked
    else:
        with pytest.raises(InjectionFailed, match=r"2\.5 ms per token"):
            inject_delay(ranks.url, 2.5)


def test_warm_server_is_told_to_freeze(ranks):
    """Objects in memory by then leave its garbage collection; a server without an answer fails."""
    settle(ranks.url)

    assert [("/freeze_gc", None)] == ranks.asked
    with pytest.raises(NoAnswer):
        settle("http://127.0.0.1:9")


def test_stand_ins_are_for_the_cpu_alone(monkeypatch):
    """On a GPU the real torchvision is found; the plugin's folder is first, the shell's last."""
    monkeypatch.setenv("PYTHONPATH", "/mine")

    on_cpu = dict(plan(request_for(CPU)).env)["PYTHONPATH"]
    on_gpu = dict(plan(request_for(GPU)).env)["PYTHONPATH"]

    assert [str(sglang.INSIDE), str(sglang.STAND_INS), "/mine"] == on_cpu.split(
        ":"
    )
    assert [str(sglang.INSIDE), "/mine"] == on_gpu.split(":")


def test_stand_in_for_torchvision_loads_and_does_nothing():
    """What SGLang and Transformers import exists; using it is an error that names the name."""
    script = """
import importlib.util
from torchvision.io import ImageReadMode, decode_image
from torchvision.transforms import InterpolationMode, functional
from torchvision.transforms.functional import InterpolationMode as same
from torchvision.transforms.v2 import functional as second
import torchvision.transforms as T
assert importlib.util.find_spec("torchvision.io") and T.functional is functional
assert same is InterpolationMode
assert "bicubic" == {InterpolationMode.BICUBIC: "bicubic"}[same.BICUBIC]
assert not hasattr(functional, "__wrapped__")
class Derived(T.Resize): pass
for used in (Derived, second.resize, decode_image):
    try:
        used(1, size=2)
    except RuntimeError as error:
        print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"PYTHONPATH": str(sglang.STAND_INS)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert "" == done.stderr
    names = [
        line.partition(": ")[2].split()[0] for line in done.stdout.splitlines()
    ]
    assert ["Derived", "resize", "decode_image"] == names


@pytest.fixture
def plugin(monkeypatch):
    """The plugin as SGLang finds it: by its entry points, in the folder on PYTHONPATH."""
    monkeypatch.syspath_prepend(str(sglang.INSIDE))
    found = configparser.ConfigParser()
    found.read(sglang.INSIDE / "perfgate_sglang.dist-info" / "entry_points.txt")
    entries = {
        group: next(iter(found[group].values())) for group in found.sections()
    }
    module = importlib.import_module("perfgate_sglang")
    assert {
        "sglang.srt.platforms": f"{module.__name__}:{module.activate.__name__}",
        "sglang.srt.plugins": f"{module.__name__}:{module.register_hooks.__name__}",
    } == entries
    return module


@pytest.mark.parametrize(
    ("told", "expected"), [(None, None), ("1", "perfgate_sglang_cpu:PlainCpu")]
)
def test_platform_is_given_on_the_cpu_alone(
    plugin, monkeypatch, told, expected
):
    """On a GPU the engine finds its own."""
    monkeypatch.delenv(sglang.PLAIN_CPU, raising=False)
    if told:
        monkeypatch.setenv(sglang.PLAIN_CPU, told)

    assert expected == plugin.activate()


def test_names_are_the_same_inside_and_outside(plugin):
    """What the suite sets and reads is what the plugin takes and tells."""
    assert (sglang.PLAIN_CPU, sglang.DELAY, sglang.REPORT) == (
        plugin.PLAIN_CPU,
        plugin.DELAY,
        plugin.REPORT,
    )


@pytest.mark.parametrize(
    ("device", "expected"), [("cuda", {"moe_backend": "triton"}), ("cpu", {})]
)
def test_runner_of_the_experts_is_told(plugin, device, expected):
    """By the layers that have one; on a CPU they do not use it."""
    backend = types.SimpleNamespace(value="triton")
    runner = types.SimpleNamespace(runner_backend=backend)
    expert = types.SimpleNamespace(
        quant_method=types.SimpleNamespace(runner=runner)
    )
    model = types.SimpleNamespace(modules=lambda: [object(), expert, expert])
    scheduler = types.SimpleNamespace(
        device=device,
        tp_worker=types.SimpleNamespace(
            model_runner=types.SimpleNamespace(model=model)
        ),
    )

    assert expected == plugin.choices(scheduler)


def test_choices_are_read_from_its_information(ranks):
    """What it lists of itself, and what the plugin adds of the first rank."""
    ranks.state = {"perfgate_ranks": [{"choices": {"moe_backend": "triton"}}]}
    ranks.info = {"attention_backend": "fa3", "quantization": None}

    assert {
        "attention_backend": "fa3",
        "moe_backend": "triton",
    } == read_choices(ranks.url)


def test_injected_delay_grows_with_the_batch(plugin, monkeypatch):
    """Each step waits once for each sequence in it; without a delay nothing waits.

    Other settings reach the engine.
    """
    waits, settings = [], []
    monkeypatch.setattr("time.sleep", waits.append)
    scheduler = types.SimpleNamespace()
    batch = types.SimpleNamespace(reqs=["a", "b", "c"])

    plugin.wait(scheduler, batch)
    plugin.take_delay(
        lambda _, request: settings.append(request.server_args),
        scheduler,
        types.SimpleNamespace(server_args={sglang.DELAY: 2.0, "other": 1}),
    )
    plugin.wait(scheduler, batch)

    # 3 sequences x 2 ms
    assert ([0.006], [{"other": 1}]) == (waits, settings)


def test_ranks_say_how_often_tokens_got_stated_experts(monkeypatch):
    """Each rank counts by itself; the first scheduler reports for all."""
    ranks = [{"stated_draws": 12}, {"stated_draws": 13}]
    monkeypatch.setattr(sglang, "_ranks", lambda url: ranks)

    assert (12, 13) == sglang.stated_draws("http://x")


def test_a_held_engine_has_the_arguments_of_its_server():
    """What holds the scheduler gets the server's own arguments, and one thread."""
    held = msgspec.structs.replace(CPU, tensor_parallel_size=1, held=True)

    launch = plan(request_for(held))

    assert ("-m", "perfgate_held", "sglang") == launch.argv[1:4]
    assert "--disable-overlap-schedule" in launch.argv
    assert "8192" == options(launch.argv)["--max-total-tokens"]
    assert "1" == dict(launch.env)["OMP_NUM_THREADS"]
