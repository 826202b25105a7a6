"""What the shipped questions judge: each figure of a load once, and what is quiet there."""

import pytest

from tests.perf.test_batch_sweep import each_batch
from tests.perf.test_request_rates import answers_at_rate, each_rate
from tests.perf.test_saturated_throughput import (
    burst,
    closed_loop_latency,
    steady_state,
)
from tests.perf.test_single_stream import single_stream, whole_answer
from tests.perf.test_start_up import start
from tests.support.studies import study_of

GPU_ONLY = (closed_loop_latency, whole_answer, answers_at_rate, start)


def gates(study, *questions):
    """Metric -> gate, of the dense server."""
    found = {}
    for question in questions:
        for case in question(study):
            if case.numerator.server == study.dense:
                found[case.metric] = case.gate
    return found


@pytest.mark.parametrize(
    ("questions", "hard", "report"),
    [
        (
            (steady_state, closed_loop_latency),
            {"steady_output_throughput", "itl_mean_ms", "e2el_p95_ms"},
            {"e2el_mean_ms", "output_throughput"},
        ),
        (
            (burst,),
            {"output_throughput", "steady_output_throughput", "ttft_mean_ms"},
            {"total_token_throughput", "request_throughput"},
        ),
        (
            (single_stream, whole_answer),
            {"itl_median_ms", "ttft_median_ms", "itl_mean_ms", "e2el_mean_ms"},
            {"tpot_median_ms"},
        ),
        (
            (each_rate, answers_at_rate),
            {
                "itl_median_ms",
                "ttft_median_ms",
                "itl_mean_ms",
                "e2el_mean_ms",
                "e2el_p90_ms",
            },
            {"output_throughput"},
        ),
    ],
    ids=["closed", "burst", "single", "rates"],
)
def test_a_figure_of_one_load_is_judged_once(questions, hard, report):
    """Of figures that say the same of a load one is judged on GPUs."""
    found = gates(study_of("h200", "vllm"), *questions)

    assert dict.fromkeys(hard, "hard") | dict.fromkeys(report, "report") == (
        found
    )


def test_every_batch_of_the_sweep_is_judged():
    """A batch of 64 that is twice as slow on both servers must not be green.

    The batch of one is the single stream, which test_single_stream.py asks of.
    """
    study = study_of("gpu", "vllm")
    batches = []
    for case in each_batch(study):
        if case.numerator.server == study.moe and case.gate == "hard":
            batches.append((case.workload, case.metric))

    expected = []
    for batch in (8, 32, 2, 4, 16, 64):
        for metric in ("itl_median_ms", "output_throughput"):
            expected.append((f"batch-{batch}", metric))
    assert expected == batches


@pytest.mark.parametrize(
    ("load_format", "stated", "expected"),
    [("auto", None, "hard"), ("dummy", None, "hard"), ("dummy", "", "report")],
)
def test_random_routers_make_a_burst_window_chance(
    load_format, stated, expected
):
    """Where made-up routers choose, the sparse model's steady window is report-only."""
    study = study_of(
        "gpu", "vllm", load_format=load_format, stated_routing=stated
    )
    found = []
    for case in burst(study):
        is_sparse = case.numerator.server == study.moe
        if is_sparse and case.metric == "steady_output_throughput":
            found.append(case.gate)

    assert [expected] == found


@pytest.mark.parametrize("question", GPU_ONLY)
def test_a_cpu_is_not_asked_for_more(question):
    """What no CPU has recorded would be NO_BASELINE there."""
    assert [] == list(question(study_of("cpu", "vllm")))
