"""Families: a small twin of each is made, loaded, served and counted by the real engines.

The weights that each rank counts, and the tokens that its cache holds, are compared
with the arithmetic of the config.json.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
import requests

from perfgate.engines import environment
from perfgate.engines.base import (
    LaunchFacts,
    LaunchRequest,
    RoutingRequest,
    ServerConfig,
)
from perfgate.engines.registry import ENGINES
from perfgate.errors import Failure
from perfgate.models import weights
from perfgate.servers import server as servers
from perfgate.servers.launch_record import ServerExited
from perfgate.servers.server import Server
from perfgate.study import ServerChoices, read_study, study_of
from perfgate.study.shipped import shipped
from tests.support.checkpoints import quiet
from tests.support.plans import free_port

pytestmark = pytest.mark.engine

FAMILIES = read_study(shipped().study.with_name("families.toml"))
CORES = tuple(sorted(os.sched_getaffinity(0)))
RANKS = min(2, len(CORES))
VLLM_CACHE_BYTES = 2**30  # of each rank, by VLLM_CPU_KVCACHE_SPACE
PROMPT = list(range(10, 42))
# What an engine does not serve here, in its own words (SGLang 0.5.23).
REFUSED = {
    ("sglang", "gpt-oss-small"): "GptOssForCausalLM requires one of",
    ("sglang", "deepseek-v2-lite-small"): "assert rope_scaling is not None",
    # Norms over the whole projection, of which a rank has its share.
    ("sglang", "olmoe-small"): "Expected hidden_size to be 512, but found: 256",
}
# Families whose routers are read by hooks on the CPU.
ROUTED = (
    "qwen3-moe-small",
    "gpt-oss-small",
    "deepseek-v2-lite-small",
    "olmoe-small",
)


def config_of(
    engine: str, name: str, load_format: str = "auto"
) -> ServerConfig:
    """The study's server of that model."""
    study = study_of(
        FAMILIES, "cpu", engine, choices=ServerChoices(RANKS, "auto")
    )
    return msgspec.structs.replace(
        study.models[-1], model=name, load_format=load_format
    )


@contextlib.contextmanager
def served(
    config: ServerConfig, log_dir: Path
) -> Iterator[tuple[Server, LaunchFacts]]:
    """A server of that model, and what it logged; skipped without its engine."""
    engine = ENGINES[config.engine]
    try:
        python = environment.find_python(config.engine, "cpu", {}).path
    except Failure as failure:
        pytest.skip(f"{failure.seen}; {failure.remedy}")
    model = FAMILIES.models[config.model]
    if config.load_format == "dummy":
        model = msgspec.structs.replace(model, hub_id="owner/name")
    found = weights.locate(model, config.load_format, {}, False, quiet, python)
    plan = engine.plan(
        LaunchRequest(
            config=config,
            python=python,
            weights=found.path,
            offline=found.offline,
            host="127.0.0.1",
            port=free_port(),
            startup_timeout_s=600.0,
            cores=CORES,
        )
    )
    server = servers.launch(plan, log_dir=log_dir, index=0)
    try:
        server.wait_until_ready(quiet)
        with Path(server.record.log).open(errors="replace") as log:
            facts = engine.read_log(config, log)
        yield server, facts
    finally:
        server.stop()


def complete(server: Server, name: str) -> str:
    """The text of 16 tokens."""
    answer = requests.post(
        f"{server.url}/v1/completions",
        json={
            "model": name,
            "prompt": PROMPT,
            "max_tokens": 16,
            "temperature": 0,
            "ignore_eos": True,
        },
        timeout=300,
    )
    answer.raise_for_status()
    return answer.json()["choices"][0]["text"]


def chosen_experts(config: ServerConfig, server: Server) -> np.ndarray:
    """The experts of each token, layer by layer."""
    shape = FAMILIES.models[config.model].architecture
    return ENGINES["vllm"].routed_experts(
        RoutingRequest(
            config=config,
            url=server.url,
            prompt_token_ids=tuple(PROMPT),
            output_len_tokens=4,
            layers=shape.num_sparse_layers,
            experts=shape.num_local_experts,
            top_k=shape.num_experts_per_tok,
        )
    )


@pytest.mark.parametrize("name", FAMILIES.models)
@pytest.mark.parametrize("engine", sorted(ENGINES))
def test_a_twin_is_served_and_counted(tmp_path, engine, name):
    """Ranks hold the bytes of the arithmetic, the cache its tokens, and words come out.

    Where the engine does not serve the family on the CPU, its reason is the one known.
    """
    config = config_of(engine, name)
    shape = FAMILIES.models[name].architecture
    if (engine, name) in REFUSED:
        with pytest.raises(ServerExited), served(config, tmp_path):
            pass
        (log,) = tmp_path.glob("*.log")
        assert REFUSED[engine, name] in log.read_text(errors="replace")
        return
    with served(config, tmp_path) as (server, facts):
        text = complete(server, name)
        counted = ENGINES[engine].weights_bytes_per_rank(server.url)
        if engine == "vllm" and name in ROUTED:
            experts = chosen_experts(config, server)
            assert shape.num_local_experts > experts.max() >= 0
            assert (experts[:, 0] != experts[:, 1]).any()

    computed = shape.weights_bytes_per_rank(RANKS, "float32")
    assert [1.0] * RANKS == pytest.approx(
        [rank / computed for rank in counted], rel=0.01
    )
    assert 16 == len(text.split())
    assert set(text.split()) <= {f"t{number}" for number in range(4096)}
    kinds = {part.kind for layer in shape.layers for part in layer.cache}
    if engine == "vllm" and kinds == {"growing"}:
        tokens = facts.values["kv_cache_tokens"]
        each = shape.kv_bytes_per_token_per_rank(RANKS, "float32")
        assert VLLM_CACHE_BYTES == pytest.approx(tokens * each, rel=0.01)


@pytest.mark.parametrize("name", ["qwen3-moe-small", "deepseek-v2-lite-small"])
def test_dummy_weights_of_any_family_are_served(tmp_path, name):
    """A config.json and a tokenizer are all that the engine is given."""
    with served(config_of("vllm", name, "dummy"), tmp_path) as (server, _):
        assert 16 == len(complete(server, name).split())
