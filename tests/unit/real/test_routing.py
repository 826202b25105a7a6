"""Routing of real engines vs `transformers`, token by token."""

import json
import os
import subprocess
from pathlib import Path

import msgspec
import pytest

from perfgate.engines import environment
from perfgate.engines import registry as engines
from perfgate.engines.base import LaunchRequest, RoutingRequest
from perfgate.load.workload import build_requests
from perfgate.machine import hardware
from perfgate.models import catalogue as models
from perfgate.models import weights
from perfgate.servers.pool import ServerPool
from tests.support.plans import free_port
from tests.support.studies import study_of

pytestmark = pytest.mark.engine
ROOT = Path(__file__).resolve().parents[3]
CORES = tuple(sorted(os.sched_getaffinity(0)))


TWO = pytest.param(
    2, marks=pytest.mark.skipif(len(CORES) < 2, reason="needs 2 cores")
)


def choices(config, tmp_path):
    """Every choice of every token of four prompts, by the engine and by `transformers`."""
    model = models.lookup(config.model)
    folder = weights.locate(model, "auto", {}, False, lambda text: None)
    python = environment.find_python(config.engine, config.device, {}).path
    workload = study_of("cpu", config.engine, 1, "auto").routing
    requests = build_requests(
        workload, 0, model.architecture.vocab_size, count=4
    )
    engine = engines.lookup(config.engine)
    plan = engine.plan(
        LaunchRequest(
            config=config,
            python=python,
            weights=folder.path,
            offline=True,
            host="127.0.0.1",
            port=free_port(),
            startup_timeout_s=600.0,
            cores=CORES,
            gpu_indices=(0,) if config.device == "cuda" else (),
        )
    )
    pool = ServerPool(
        log_dir=tmp_path, progress=lambda text: None, devices=None, lease=None
    )
    try:
        server = pool.get(plan)
        ours = [
            engine.routed_experts(
                RoutingRequest(
                    config=config,
                    url=server.url,
                    prompt_token_ids=request.prompt_token_ids,
                    output_len_tokens=request.output_len_tokens,
                    layers=4,
                    experts=8,
                    top_k=2,
                )
            ).tolist()
            for request in requests
        ]
    finally:
        pool.close()
    asked = json.dumps(
        [
            {"prompt": r.prompt_token_ids, "new": r.output_len_tokens}
            for r in requests
        ]
    )
    theirs = subprocess.run(
        [
            python,
            ROOT / "tests" / "support" / "reference_routing.py",
            folder.path,
        ],
        input=asked,
        capture_output=True,
        text=True,
        check=True,
    )
    return ours, json.loads(theirs.stdout)


@pytest.mark.parametrize("ranks", [1, TWO])
@pytest.mark.parametrize("name", ["vllm", "sglang"])
def test_engine_agrees_with_transformers(tmp_path, name, ranks):
    """In float32 every choice of every token in every layer is the same, in the same order.

    On one rank and on two.

    vLLM is asked by hooks, SGLang returns its experts, and both get the same
    prompts: so both ways agree.
    """
    ours, theirs = choices(
        study_of("cpu", name, ranks, "auto").moe_routing, tmp_path
    )

    assert theirs == ours


@pytest.mark.skipif(
    not hardware.detect().gpus,
    reason="needs a GPU: on the CPU vLLM does not return experts",
)
@pytest.mark.parametrize("how", ["returned", ""], ids=["returned", "hooks"])
def test_vllm_agrees_with_transformers_on_a_gpu(tmp_path, how):
    """What vLLM returns, and what its hooked routers choose, are `transformers`' choices."""
    moe = study_of("cpu", "vllm", 1, "auto").moe
    config = msgspec.structs.replace(
        moe, device="cuda", routing=how, extra_args=("--enforce-eager",)
    )

    ours, theirs = choices(config, tmp_path)

    assert theirs == ours
