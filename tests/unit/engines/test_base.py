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
    ],
)
def test_key_names_what_the_study_compares(settings, key):
    """Engine, model, tensor and expert parallelism are in the key."""
    assert (
        key == ServerConfig(engine="vllm", model="mixtral-8x7b", **settings).key
    )


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
