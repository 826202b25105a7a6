"""Log of SGLang: memory and every choice, in the words of the releases that were seen."""

import pytest

from perfgate.engines.base import ServerConfig
from perfgate.engines.chosen import CHOICES, NOT_SEEN
from perfgate.engines.sglang_log import read_log
from tests.support.engine_logs import SGLANG_CPU_LOG, SGLANG_GPU_LOG

CPU = ServerConfig(engine="sglang", model="mixtral-small")
GPU = ServerConfig(engine="sglang", model="mixtral-8x7b", device="cuda")


def seen(effective):
    """The choices that were seen; every choice has a value."""
    assert set(CHOICES) == set(effective)
    return {
        name: value for name, value in effective.items() if value != NOT_SEEN
    }


def test_log_of_the_cpu():
    """KV cache and chosen kernels are read.

    What the whole machine's memory lost meanwhile is not the model's.
    """
    facts = read_log(CPU, iter(SGLANG_CPU_LOG.splitlines()))

    # 2 x 0.03 GB
    assert {
        "kv_cache_tokens": 16384.0,
        "kv_cache_bytes": 0.06 * 2**30,
    } == facts.values
    assert {
        "attention_backend": "torch_native",
        "graphs": "off",
        "quantization": "none",
        "kv_cache_dtype": "float32",
        "max_num_seqs": "4096",
        "custom_all_reduce": "on",
    } == seen(facts.effective)
    assert {
        "chunked_prefill_tokens": "4096",
        "prefix_cache": "off",
    } == facts.settings


def test_log_of_a_gpu():
    """Memory of weights, KV cache and graphs, and the backend that it chose by itself."""
    facts = read_log(GPU, iter(SGLANG_GPU_LOG.splitlines()))

    gib = {
        "kv_cache_bytes": 39.0,
        "graphs_bytes": 0.65,
        "model_loading_bytes": 87.0,
    }
    assert {"kv_cache_tokens": 319264.0} | {
        name: size * 2**30 for name, size in gib.items()
    } == facts.values
    assert {
        "attention_backend": "fa3",
        "graphs": "on",
        "graphs_captured": "target decode",
        "quantization": "none",
        "kv_cache_dtype": "bfloat16",
        "max_num_seqs": "2048",
        "custom_all_reduce": "on",
    } == seen(facts.effective)


SWA = (
    "KV Cache is allocated. dtype: torch.bfloat16, #tokens: 800, K size: 1.00 GB, "
    "V size: 1.00 GB"
)
FULL = (
    "KV Cache is allocated. dtype: torch.bfloat16, #tokens: 1000, K size: 1.25 GB, "
    "V size: 1.25 GB"
)


@pytest.mark.parametrize(
    "caches",
    [(f"Full {FULL}", f"SWA {SWA}"), (SWA, FULL)],
    ids=["0.5.23", "0.5.16"],
)
def test_both_caches_of_a_model_with_windows_count(caches):
    """Tokens are those of the layers without a window, whichever is allocated first."""
    both = "SWAKVPool mem usage: 4.50 GB, swa size: 800, full size: 1000"

    assert {
        "kv_cache_tokens": 1000.0,
        "kv_cache_bytes": 4.5 * 2**30,
    } == read_log(GPU, iter([*caches, both])).values


def test_windows_alone_have_the_tokens_of_their_cache():
    """No layer is without one."""
    both = "SWAKVPool mem usage: 2.00 GB, swa size: 800, full size: 0"

    assert 800.0 == read_log(GPU, iter([SWA, both])).values["kv_cache_tokens"]


def test_cache_of_latent_attention():
    """One size of keys and values."""
    line = "KV Cache is allocated. dtype: torch.bfloat16, #tokens: 900, KV size: 3.00 GB"

    assert {
        "kv_cache_tokens": 900.0,
        "kv_cache_bytes": 3.0 * 2**30,
    } == read_log(GPU, iter([line])).values


@pytest.mark.parametrize(
    ("line", "choice"),
    [
        (
            "Using MoE kernel config from /env/site-packages/sglang/srt/layers/moe/"
            "configs/triton_3_6_0/E=8,N=14336.json.",
            "E=8,N=14336.json",
        ),
        (
            "Config file not found at /x/E=8.json. Fallback to triton version 3.4.0 and use "
            "MoE kernel config from /own/E=8.json. Performance might be sub-optimal!",
            "/own/E=8.json",
        ),
        (
            "Using default MoE kernel config. Performance might be sub-optimal! Config",
            "default",
        ),
    ],
)
def test_tuned_file_is_a_choice(line, choice):
    """A file of the package is named without its folder."""
    assert choice == seen(read_log(GPU, iter([line])).effective)["moe_config"]


def test_argument_is_not_what_was_chosen():
    """For the experts "auto" says what was asked for alone; a name says what was taken."""
    line = "server_args=ServerArgs(moe_runner_backend='{}', speculative_x='y')"

    assert (
        NOT_SEEN
        == read_log(GPU, iter([line.format("auto")])).effective["moe_backend"]
    )
    assert (
        "triton"
        == read_log(GPU, iter([line.format("triton")])).effective["moe_backend"]
    )


def test_graphs_add_up():
    """Decode and prefill are captured one after the other, by each rank alike."""
    end = (
        "[10:00 TP{}] Capture target {} CUDA graph end. bs=[1, 2, 4], elapsed=1.0 s, "
        "mem usage={} GB"
    )
    lines = [
        end.format(rank, kind, size)
        for kind, size in (("decode", 0.5), ("prefill", 0.25))
        for rank in (0, 1)
    ]
    facts = read_log(GPU, iter(lines))

    assert 0.75 * 2**30 == facts.values["graphs_bytes"]
    assert ("target decode, target prefill", "1 to 4 (3)") == (
        facts.effective["graphs_captured"],
        facts.effective["capture_sizes"],
    )


def test_failed_custom_all_reduce_is_off():
    """Nothing turned it off by an argument."""
    lines = [
        "server_args={'disable_custom_all_reduce': False}",
        "Setup Custom allreduce failed with x. To silence this warning, specify",
    ]

    assert "off" == read_log(GPU, iter(lines)).effective["custom_all_reduce"]


@pytest.mark.parametrize(("value", "state"), [("False", "on"), ("True", "off")])
def test_overlapped_schedule_is_a_choice(value, state):
    """Whether the next step is prepared while the last one runs."""
    line = (
        f"server_args={{'disable_overlap_schedule': {value}, 'page_size': 1}}"
    )

    assert state == read_log(GPU, iter([line])).effective["async_scheduling"]
