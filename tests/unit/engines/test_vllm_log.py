"""Log of vLLM: memory and every choice, in the words of the releases that were seen."""

import pytest

from perfgate.engines.base import ServerConfig
from perfgate.engines.chosen import CHOICES, NOT_SEEN
from perfgate.engines.vllm_log import read_log
from tests.support.engine_logs import VLLM_CPU_LOG, VLLM_GPU_LOG

CPU = ServerConfig(engine="vllm", model="mixtral-small")
GPU = ServerConfig(engine="vllm", model="mixtral-8x7b", device="cuda")


def seen(effective):
    """The choices that were seen; every choice has a value."""
    assert set(CHOICES) == set(effective)
    return {
        name: value for name, value in effective.items() if value != NOT_SEEN
    }


def effective_of(*lines):
    """What is read out of a few lines."""
    return seen(read_log(GPU, iter(lines)).effective)


def test_log_of_a_cpu_server():
    """KV cache size and expert kernels are read; what was not logged is left out."""
    facts = read_log(CPU, iter(VLLM_CPU_LOG.splitlines(keepends=True)))

    assert {"kv_cache_tokens": 262_144} == facts.values
    assert {
        "moe_backend": "CPU",
        "graphs": "off",
        "model_runner": "V1",
    } == seen(facts.effective)
    assert {"compile_cache": "off"} == facts.facts


def test_log_of_a_gpu_server():
    """What memory is made of is read in bytes; of several ranks the first one counts."""
    facts = read_log(GPU, iter(VLLM_GPU_LOG.splitlines(keepends=True)))

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
    } == seen(facts.effective)


def test_graphs_that_were_not_captured_are_off():
    """Nothing was asked for: the engine, or an injected argument, switched them off."""
    lines = [
        line
        for line in VLLM_GPU_LOG.splitlines(keepends=True)
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
    assert backend == effective_of(line).get("attention_backend")


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
    assert chosen | {"graphs": "off"} == effective_of(line)


@pytest.mark.parametrize(
    ("line", "backend"),
    [
        ("Using 'FlashInfer CUTLASS' NvFp4 MoE backend.", "FLASHINFER_CUTLASS"),
        (
            "Using FLASHINFER_CUTLASS Fp8 MoE backend out of potential backends: [].",
            "FLASHINFER_CUTLASS",
        ),
        ("Using ROCm AITER Unquantized MoE backend out of x", "ROCM_AITER"),
        ("Using TritonExperts MoE backend", "Triton"),
        ("Using 'TRITON' Mxfp4 MoE backend.", "TRITON"),
        ("Using TRITON Unquantized MoE LoRA backend", "TRITON"),
        ("Using CPU W4A8 Int8 MoE backend out of x", "CPU"),
    ],
)
def test_moe_backend_has_one_name(line, backend):
    """Whatever number format and words of the release stand around it."""
    assert backend == effective_of(line)["moe_backend"]


def test_first_line_about_experts_counts():
    """The class that is named later is another word for the same thing."""
    lines = (
        "Using TRITON Unquantized MoE backend out of potential backends: [].",
        "Using TritonExperts MoE backend",
    )

    assert "TRITON" == effective_of(*lines)["moe_backend"]


CONFIG_LINE = (
    "INFO Initializing a V1 LLM engine (v0.26.0) with config: model='m', "
    "disable_custom_all_reduce=False, quantization=fp8, kv_cache_dtype=fp8_e4m3, "
    "compilation_config={'cudagraph_capture_sizes': [1, 2, 4, 8], 'x': None}"
)


def test_configuration_line_tells_formats_and_sizes():
    """What the engine resolved, not what was asked for."""
    assert {
        "custom_all_reduce": "on",
        "quantization": "fp8",
        "kv_cache_dtype": "fp8_e4m3",
        "capture_sizes": "1 to 8 (4)",
        "graphs": "off",
    } == effective_of(CONFIG_LINE)


def test_graphs_are_counted_as_captured():
    """By the progress bars of both model runners, each kind once."""
    lines = (
        "Capturing CUDA graphs (mixed prefill-decode, PIECEWISE):   0%|   | 0/51 [0s]",
        "Capturing CUDA graphs (mixed prefill-decode, PIECEWISE): 100%|###| 51/51 [5s]",
        "Capturing CUDA graphs (FULL):   0%|          | 0/35 [00:00<?, ?it/s]",
        "INFO [gpu_model_runner.py:6844] Graph capturing finished in 11 secs, took 0.6 GiB",
    )

    assert {
        "graphs": "on",
        "graphs_captured": "FULL 35, PIECEWISE 51",
        "model_runner": "V1",
    } == effective_of(*lines)


@pytest.mark.parametrize(
    ("line", "runner"),
    [
        ("INFO [model_runner.py:305] Model loading took 15.0 GiB", "V2"),
        ("INFO [gpu_model_runner.py:5347] Model loading took 87.0 GiB", "V1"),
        ("INFO [gpu_worker.py:518] Using V2 Model Runner", "V2"),
    ],
)
def test_model_runner_is_told_by_its_module(line, runner):
    """The release logs no other word for it."""
    assert runner == effective_of(line)["model_runner"]


@pytest.mark.parametrize(
    ("lines", "state"),
    [
        (["Directly load AOT compilation from path /x"], "hit"),
        (
            ["Directly load the compiled graph(s) for compile range (1, 8)"],
            "hit",
        ),
        (["Compiling a graph for compile range (1, 8) takes 3 s"], "cold"),
        ([], NOT_SEEN),
    ],
)
def test_compile_cache_is_a_fact_and_no_choice(lines, state):
    """It explains a start, not a speed."""
    assert {"compile_cache": state} == read_log(GPU, iter(lines)).facts


@pytest.mark.parametrize(
    ("line", "state"),
    [
        ("INFO [vllm.py:1109] Asynchronous scheduling is enabled.", "on"),
        ("INFO [vllm.py:1109] Asynchronous scheduling is disabled.", "off"),
        ("INFO [vllm.py:1109] nothing of it", "not seen"),
    ],
)
def test_scheduling_is_a_choice(line, state):
    """Whether the next step is prepared while the last one runs."""
    assert state == read_log(CPU, iter([line])).effective["async_scheduling"]
