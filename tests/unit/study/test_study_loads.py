"""The loads that people serve, in the shipped study: they fit, and have a steady state."""

import msgspec
import pytest

from perfgate.load.workload import Synthetic, build_requests
from perfgate.models.catalogue import lookup
from perfgate.study import throughput_of
from tests.perf.test_long_answers import long_answers
from tests.perf.test_mixed_lengths import mixed
from tests.perf.test_prefill import long_prompts, model_over_reference
from tests.perf.test_request_rates import each_rate
from tests.support.studies import PLATFORMS, SHIPPED, study_of

STAGGERED = [
    workload
    for members in SHIPPED.workloads.values()
    for workload in members.values()
    if workload.staggered
]


@pytest.mark.parametrize("workload", STAGGERED, ids=lambda load: load.name)
def test_a_staggered_load_has_a_steady_window(workload):
    """All slots decode for a third of it, between the first wave and the last sending."""
    free_steps = [0] * workload.max_concurrency
    sent_steps, ended_steps = [], []
    for request in build_requests(workload, 0, 1000):
        sent = min(free_steps)
        slot = free_steps.index(sent)
        free_steps[slot] = sent + request.output_len_tokens + 1
        sent_steps.append(sent)
        ended_steps.append(free_steps[slot])
    start = max(ended_steps[: workload.first_wave])

    assert sent_steps[-1] - start >= 0.3 * max(ended_steps)


def test_long_prompts_get_a_server_whose_context_holds_them():
    """One more server of each model on GPUs, the same for all long loads; none on the CPU."""
    servers = {}
    for platform in ("cpu", "h200"):
        study = study_of(platform, "vllm")
        cases = [*long_prompts(study), *model_over_reference(study)]
        servers[platform] = {
            load.server.key for case in cases for load in case.loads
        }
        for case in cases:
            for load in case.loads:
                longest = load.workload.longest_tokens
                assert longest <= load.server.max_model_len

    assert {server.key for server in study_of("cpu", "vllm").models} == (
        servers["cpu"]
    )
    assert {
        "vllm-mixtral-8x7b-tp2-long",
        "vllm-llama-3.1-8b-tp2-long",
    } == servers["h200"]


def test_a_model_that_is_made_for_less_is_not_asked():
    """Its server would not start."""
    study = study_of("h200", "vllm")
    workload = study.prefill[-1]
    longer = msgspec.structs.replace(
        workload,
        prompts=Synthetic(input_len_tokens=200_000, output_len_tokens=8),
    )
    limit = lookup(study.model.model).architecture.max_position_embeddings

    assert limit < 200_000
    assert study.fitting(study.model, longer) is None
    assert study.fitting(study.model, workload) is not None


@pytest.mark.parametrize("platform", PLATFORMS)
def test_their_steady_state_is_judged(platform):
    """On every platform, of each model."""
    study = study_of(platform, "vllm")

    cases = [*long_answers(study), *mixed(study)]
    judged = [
        case for case in cases if case.metric == "steady_output_throughput"
    ]
    assert 4 == len(judged)
    assert {"hard"} == {case.gate for case in judged}
    for workload in (*study.long_answers, *study.mixed):
        assert "steady_output_throughput" == throughput_of(workload)


def test_engines_that_are_slow_on_the_cpu_are_sent_none():
    """There is no time for them."""
    study = study_of("cpu", "sglang")

    assert [] == [*long_answers(study), *mixed(study), *long_prompts(study)]
    assert () == study.conversations


def test_rates_say_what_they_send():
    """Without the file random ids with ShareGPT's lengths, whose means are right."""
    study = study_of("h200", "vllm")

    names = {case.workload for case in each_rate(study)}
    assert {f"synthetic-rate-{rate}" for rate in (1, 2, 4, 8)} == names
    prompts = study.rates[0].prompts
    assert 243 == pytest.approx(prompts.input_len_tokens, rel=0.02)
    assert 230 == pytest.approx(prompts.output_len_tokens, rel=0.02)
