"""Engine settings: the key of a server, the address of a launch."""

import msgspec
import pytest

from perfgate.engines.base import LaunchPlan, ServerConfig


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({}, "vllm-mixtral-8x7b-tp1"),
        ({"tensor_parallel_size": 2}, "vllm-mixtral-8x7b-tp2"),
        (
            {"tensor_parallel_size": 2, "expert_parallel": True},
            "vllm-mixtral-8x7b-tp2-ep",
        ),
        ({"data_parallel_size": 2}, "vllm-mixtral-8x7b-tp1-dp2"),
        (
            {"data_parallel_size": 2, "data_parallel_attention": True},
            "vllm-mixtral-8x7b-tp1-dp2-dpa",
        ),
        (
            {"quantization": "fp8", "kv_cache_dtype": "fp8"},
            "vllm-mixtral-8x7b-tp1-fp8-kv-fp8",
        ),
    ],
)
def test_key_names_what_the_study_compares(settings, key):
    """Engine, model, layout of the ranks and precision are in the key."""
    assert (
        key == ServerConfig(engine="vllm", model="mixtral-8x7b", **settings).key
    )


def test_a_name_that_tells_the_precision_is_not_repeated():
    """A model that is declared for one precision has it in its name."""
    server = ServerConfig(
        engine="vllm", model="llama-3.1-8b-fp8", quantization="fp8"
    )

    assert "vllm-llama-3.1-8b-fp8-tp1" == server.key


@pytest.mark.parametrize(("device", "gpus"), [("cuda", 8), ("cpu", 0)])
def test_gpus_are_ranks_of_all_copies(device, gpus):
    """Tensor parallel ranks times data parallel copies; the CPU has ranks and no GPU."""
    server = ServerConfig(
        engine="vllm",
        model="mixtral-8x7b",
        device=device,
        tensor_parallel_size=2,
        data_parallel_size=4,
    )

    assert (8, gpus) == (server.ranks, server.gpu_count)


def test_stored_server_with_an_unknown_field_is_refused():
    """A field that this version does not know is an error that names it, not a lost setting."""
    stored = {
        "engine": "vllm",
        "model": "mixtral-8x7b",
        "pipeline_parallel_size": 2,
    }

    with pytest.raises(msgspec.ValidationError, match="pipeline_parallel_size"):
        msgspec.convert(stored, ServerConfig)


def test_url_has_no_trailing_slash():
    """Paths are appended to it as they are."""
    plan = LaunchPlan(
        key="k",
        argv=(),
        env=(),
        host="127.0.0.1",
        port=8000,
        health_path="/health",
        phases=(),
        remedies=(),
        startup_timeout_s=1,
    )

    assert "http://127.0.0.1:8000" == plan.url
