"""Contract of each engine: what the suite needs of it.

For every engine of the suite, with the real thing: one server of the small dense
model, on two ranks where there are two GPUs, or two cores on a machine without GPUs.
What the suite relies on (flags, log lines, metric names) is taken from the engine's
own value, so that an upgrade which breaks one is seen here and named. A new engine
needs no new test.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest
import requests

from perfgate.engines import environment, put_back
from perfgate.engines.base import (
    Engine,
    InjectionFailed,
    LaunchPlan,
    LaunchRequest,
    ServerConfig,
)
from perfgate.engines.registry import ENGINES
from perfgate.errors import Failure
from perfgate.load.server_metrics import difference, scrape
from perfgate.machine.hardware import detect
from perfgate.models import catalogue as models
from perfgate.models import estimate, weights
from perfgate.run.explain import comparison
from perfgate.servers import server as servers
from perfgate.servers.server import Server
from perfgate.servers.supervisor.processes import running_processes
from perfgate.study import ServerChoices
from perfgate.study import study_of as study_in
from perfgate.study.selection import select
from tests.support.plans import free_port
from tests.support.studies import SHIPPED, study_of

pytestmark = pytest.mark.engine

MODEL = "llama-small"
# What only happens on a GPU, or only with graphs.
NOT_ON_THE_CPU = {
    "compiling",
    "capturing graphs",
    "graphs captured",
    "kernels warmed up",
}


@dataclass(frozen=True)
class Running:
    """A server that is ready, how it was launched, and where its profiler writes."""

    engine: Engine
    config: ServerConfig
    python: Path
    server: Server
    traces: Path

    @property
    def on_gpu(self) -> bool:
        """Whether it serves on a GPU."""
        return self.config.device == "cuda"

    def complete(
        self, prompt: list[int], output_tokens: int, **more: object
    ) -> dict:
        """The answer to one request, not streamed."""
        body = {
            "model": MODEL,
            "prompt": prompt,
            "max_tokens": output_tokens,
            "temperature": 0,
            "ignore_eos": True,
        }
        answer = requests.post(
            f"{self.server.url}/v1/completions", json=body | more, timeout=300
        )
        answer.raise_for_status()
        return answer.json()

    def stream(self, prompt: list[int], output_tokens: int) -> list[dict]:
        """The chunks of one streamed request."""
        body = {
            "model": MODEL,
            "prompt": prompt,
            "max_tokens": output_tokens,
            "temperature": 0,
            "ignore_eos": True,
        }
        body |= {"stream": True, "stream_options": {"include_usage": True}}
        answer = requests.post(
            f"{self.server.url}/v1/completions",
            json=body,
            timeout=300,
            stream=True,
        )
        lines = [
            line.removeprefix(b"data: ")
            for line in answer.iter_lines()
            if line.startswith(b"data: ")
        ]
        assert b"[DONE]" == lines[-1]
        return [json.loads(line) for line in lines[:-1]]


def gpus_here() -> tuple[int, ...]:
    """NVML indices of the GPUs of this machine that an engine may use."""
    return tuple(gpu.index for gpu in detect().gpus)


def dense_server(engine: Engine, gpus: tuple[int, ...]) -> ServerConfig:
    """The server of the small dense model: on two ranks, where there are two devices."""
    if not gpus:
        cores = len(os.sched_getaffinity(0))
        return study_of("cpu", engine.name, min(2, cores), "auto").dense
    [small] = select(SHIPPED, ["small"], [])
    choices = ServerChoices(min(2, len(gpus)), "auto")
    return study_in(SHIPPED, "gpu", engine.name, small, choices).dense


def request_for(
    config: ServerConfig, python: Path, **where: object
) -> LaunchRequest:
    """A request to launch that server, here."""
    settings = {
        "offline": True,
        "host": "127.0.0.1",
        "port": free_port(),
        "startup_timeout_s": 600.0,
    } | where
    return LaunchRequest(config=config, python=python, **settings)


@pytest.fixture(scope="module", params=sorted(ENGINES))
def running(request, tmp_path_factory):
    """One server of each engine for this file; skipped where its environment is missing."""
    engine = ENGINES[request.param]
    gpus = gpus_here()
    dense = dense_server(engine, gpus)
    try:
        python = environment.find_python(engine.name, dense.device, {}).path
    except Failure as failure:
        pytest.skip(f"{failure.seen}; {failure.remedy}")
    where: dict[str, object] = {"gpu_indices": gpus[: dense.ranks]}
    if not gpus:
        where = {"cores": tuple(sorted(os.sched_getaffinity(0)))}
    found = weights.locate(
        models.lookup(MODEL), "auto", {}, False, lambda text: None
    )
    plan = engine.plan(request_for(dense, python, weights=found.path, **where))
    traces = tmp_path_factory.mktemp("traces")
    plan = engine.profiler.switched_on(
        plan, environment.versions(python), traces
    )
    server = servers.launch(
        plan, log_dir=tmp_path_factory.mktemp("logs"), index=0
    )
    try:
        server.wait_until_ready(lambda text: None)
        yield Running(engine, dense, python, server, traces)
    finally:
        server.stop()


@pytest.fixture(scope="module")
def listed(running):
    """The words of the engine's help."""
    return put_back.help_words(
        running.server.plan, running.engine.help_arguments
    )


def flags(plan: LaunchPlan) -> set[str]:
    """Options on its command line."""
    return {word for word in plan.argv if word.startswith("--")}


def test_version_is_tested(running):
    """The installed version is one that the suite names as tested."""
    installed = environment.versions(running.python)
    mine = {
        name: installed[name]
        for name in running.engine.tested
        if name in installed
    }

    assert mine
    assert [] == [
        f"{name} {version}"
        for name, version in mine.items()
        if version not in running.engine.tested[name]
    ]


def test_flags_are_known(running, listed):
    """Every option that the suite gives, on CPU and GPU, is one that the server accepts."""
    gpu = msgspec.structs.replace(
        running.config, device="cuda", expert_parallel=True
    )
    plans = [
        running.engine.plan(
            request_for(config, running.python, weights="m", **devices)
        )
        for config, devices in (
            (running.config, {"cores": (0, 1)}),
            (gpu, {"gpu_indices": (0, 1)}),
        )
    ]
    versions = environment.versions(running.python)
    plans.append(
        running.engine.profiler.switched_on(plans[0], versions, Path("/t"))
    )

    assert set() == {flag for plan in plans for flag in flags(plan)} - listed


def test_arguments_that_put_a_choice_back_are_known(running, listed):
    """Each one of the table is in the engine's help."""
    written = []
    for entry in put_back.ARGUMENTS[running.engine.name].values():
        written += [entry] if isinstance(entry, str) else entry.values()

    assert [] == [
        text for text in written if text.partition(" ")[0] not in listed
    ]


def test_profiler_writes_a_trace_for_each_rank(running):
    """Whose steps are named: what is prefilled, and what decoded; with operators in them."""
    profiler = running.engine.profiler
    running.complete(list(range(10, 42)), 4)

    profiler.start(running.server.url, running.traces)
    running.complete(list(range(20, 52)), 8)
    profiler.stop(running.server.url)

    recorded = comparison.recorded(running.traces, requests=1)
    unit = "kernel" if running.on_gpu else "operator"
    assert (running.config.ranks, unit) == (recorded.ranks, recorded.unit)
    decode = recorded.phases["decode"]
    assert 1 == decode.batch
    assert 3 <= decode.steps <= 7
    assert 0 < decode.busy_us < decode.length_us
    assert {"decode", "prefill"} <= recorded.phases.keys()


def test_log_tells_each_phase(running):
    """Each phase of the start-up is found in the log, in the order of the engine's list."""
    seen = [phase.name for phase in running.server.record.phases]
    expected = [
        phase.name
        for phase in running.server.plan.phases
        if running.on_gpu or phase.name not in NOT_ON_THE_CPU
    ]

    # A server may answer before its last line is in the log.
    assert set(expected[:-1]) <= set(seen)


def test_log_tells_what_was_chosen(running):
    """Memory, backend and settings are read back from the log, and the prefix cache is off."""
    with Path(running.server.record.log).open(errors="replace") as log:
        facts = running.engine.read_log(running.config, log)

    # vLLM does not name its attention backend on the CPU.
    graphs = "off"
    if running.on_gpu:
        graphs = "on"
        assert "attention_backend" in facts.effective
    assert {"kv_cache_tokens"} <= facts.values.keys()
    assert facts.values["kv_cache_tokens"] >= 32 * 64
    assert graphs == facts.effective["graphs"]
    assert "off" == facts.settings["prefix_cache"]
    assert facts.settings["chunked_prefill_tokens"].isdigit()


def test_streams_exact_lengths(running):
    """As many tokens as were asked, in and out, in nearly as many chunks; usage comes last."""
    chunks = running.stream(list(range(10, 42)), 32)
    usage = chunks[-1]["usage"]

    assert (32, 32) == (usage["prompt_tokens"], usage["completion_tokens"])
    assert 24 <= sum(bool(chunk["choices"]) for chunk in chunks) <= 33


def test_ignores_the_end_of_sequence(running):
    """With ignore_eos an answer has its full length even if every token ends it.

    Without it such an answer is shorter.
    """
    ends = {"logit_bias": {"2": 100}}

    assert (
        16
        == running.complete([5, 6, 7], 16, **ends)["usage"]["completion_tokens"]
    )
    assert (
        running.complete([5, 6, 7], 16, **ends, ignore_eos=False)["usage"][
            "completion_tokens"
        ]
        < 16
    )


def test_greedy_answers_repeat(running):
    """At temperature 0 the same prompt has the same answer."""
    answers = [
        running.complete(list(range(50, 70)), 8)["choices"][0]["text"]
        for _ in range(2)
    ]

    assert answers[0] == answers[1]


def test_seeded_answers_repeat(running):
    """Seeded sampling is repeatable exactly where the engine says so."""
    told = {"temperature": 1.0, "seed": 7}
    answers = [
        running.complete(list(range(50, 70)), 8, **told)["choices"][0]["text"]
        for _ in range(2)
    ]

    assert running.engine.honours_seed == (answers[0] == answers[1])


def test_counts_what_it_served(running):
    """Its counters have the names that the suite reads and agree with what was sent.

    No prompt came from a cache.
    """
    before = scrape(running.server.url)
    for _ in range(2):
        running.complete(list(range(100, 132)), 8)
    counted = difference(
        running.engine.name, before, scrape(running.server.url)
    )
    names = running.engine.metrics

    # From vLLM 0.33 on drafts are counted only where some are made.
    not_always = {"itl_mean_ms", "prefill_mean_ms", "accepted_draft_tokens"}
    assert {*names.counters, *names.means} - not_always <= counted.keys()
    assert (64.0, 16.0, 2.0) == (
        counted["prompt_tokens"],
        counted["generation_tokens"],
        counted["requests"],
    )
    assert (0.0, 0.0) == (
        counted["prefix_cache_hit_tokens"],
        counted["preemptions"],
    )


def test_weights_are_what_the_arithmetic_says(running):
    """Each rank reports its share of the parameters."""
    ranks = running.engine.weights_bytes_per_rank(running.server.url)
    size, architecture = (
        running.config.tensor_parallel_size,
        models.lookup(MODEL).architecture,
    )
    values = estimate.weights_values(
        ranks, architecture, size, running.config.dtype
    )

    assert size == len(ranks)
    assert 1 == pytest.approx(values["weights_over_arithmetic"], abs=0.03)


def test_delay_is_injected_and_seen(running):
    """A delay for each token slows an answer by its length; an impossible one is an error."""
    running.engine.inject_delay(running.server.url, 200.0)
    try:
        answer = requests.post(
            f"{running.server.url}/v1/completions",
            json={
                "model": MODEL,
                "prompt": [1, 2, 3],
                "max_tokens": 16,
                "temperature": 0,
                "ignore_eos": True,
            },
            timeout=300,
        )
        assert answer.elapsed.total_seconds() >= 16 * 0.2
    finally:
        running.engine.inject_delay(running.server.url, 0.0)
    with pytest.raises(InjectionFailed):
        running.engine.inject_delay("http://127.0.0.1:9", 1.0)


def test_warm_server_settles(running):
    """What the engine advises once it is warm is taken, and it serves on."""
    running.engine.settle(running.server.url)

    assert 4 == running.complete([1, 2, 3], 4)["usage"]["completion_tokens"]


def test_nothing_is_left(running):
    """Stopped, it has ended every process that it started. The last test: it ends the server."""
    pids = set(running.server.pids())
    report = running.server.stop()

    assert len(pids) > 1
    assert () == report.survivors
    assert set() == pids & running_processes().keys()
