"""Policy of a metric: by the family that it declares, never by letters of its name."""

from __future__ import annotations

import pytest

from perfgate.judge.policy import (
    ACCURACY,
    ANSWERS,
    BATCH,
    CALLS,
    CPU_ABSOLUTE,
    CPU_LATENCY,
    CPU_RATIO,
    CPU_THROUGHPUT,
    CPU_TTFT,
    EXACT,
    GPU_E2EL_TAIL,
    GPU_ENERGY,
    GPU_RATE,
    GPU_TAIL,
    GPU_TTFT,
    HIT_RATE,
    HOST_CPU,
    MEMORY_GROWTH,
    PEAK,
    ROUTING,
    START_UP,
    START_UP_CPU,
    WORK,
    policy_for,
)
from perfgate.load import metrics
from perfgate.load.metrics import METRICS, Metric, register

FAMILY_OF = {
    "output_throughput": "throughput",
    "total_token_throughput": "throughput",
    "request_throughput": "throughput",
    "request_goodput": "throughput",
    "steady_output_throughput": "throughput",
    "ready_s": "start_up",
    "weights_bytes_per_rank": "memory",
    "weights_over_arithmetic": "constant",
    "kv_cache_tokens": "memory",
    "memory_bytes": "memory",
    "memory_peak_bytes": "memory_peak",
    "kv_cache_bytes": "memory",
    "memory_rest_bytes": "memory",
    "output_throughput_per_gb": "throughput",
    "energy_per_output_token_j": "energy",
    "decode_bandwidth_gb_s": "bandwidth",
    "bandwidth_utilisation": "bandwidth",
    "routing_shares": "routing",
    "routing_top2_share": "routing",
    "routing_max_over_mean": "routing",
    "routing_min_over_mean": "routing",
    "routing_entropy": "routing",
    "routing_balancedness": "routing",
    "routing_live_experts": "routing",
    "routing_repeats_first": "routing",
    "routing_repeats_any": "routing",
    "routing_ep_cost": "routing",
    "host_cpu_ms_per_output_token": "host_cpu",
    "front_cpu_ms_per_output_token": "host_cpu",
    "batch_cpu_ms": "batch",
    "batch_active_ms": "batch",
    "accuracy": "accuracy",
    "answers_perplexity": "answers",
    "engine_settings": "facts",
    "work_answers": "facts",
    "work_python_calls": "calls",
    "work_c_calls": "calls",
    "work_operators": "work",
    "work_new_bytes": "work",
    "work_steps": "work",
    "work_instructions": "calls",
    "start_imports_s": "start_up",
    "start_weights_s": "start_up",
    "start_compile_s": "start_up",
    "start_graphs_s": "start_up",
    "warm_up_s": "start_up",
    "warm_up_compiled": "start_up",
    "memory_growth": "memory_growth",
    "gpu_memory_growth": "memory_growth",
    "prefix_hit_rate": "hit_rate",
    "acceptance_length": "hit_rate",
    "chunk_tokens": "hit_rate",
    "step_itl_median_ms": "itl",
    "token_itl_mean_ms": "itl",
    "saturated_throughput": "throughput",
    "saturated_goodput": "throughput",
    "knee_streams": "constant",
    "preemptions_per_step": "constant",
    "ttft_mean_ms": "ttft",
    "ttft_median_ms": "ttft",
    "ttft_p90_ms": "tail",
    "ttft_p95_ms": "tail",
    "ttft_p99_ms": "tail",
    "itl_mean_ms": "itl",
    "itl_median_ms": "itl",
    "itl_p90_ms": "tail",
    "itl_p95_ms": "tail",
    "itl_p99_ms": "tail",
    "tpot_mean_ms": "tpot",
    "tpot_median_ms": "tpot",
    "tpot_p90_ms": "tail",
    "tpot_p95_ms": "tail",
    "tpot_p99_ms": "tail",
    "e2el_mean_ms": "e2el",
    "e2el_median_ms": "e2el",
    "e2el_p90_ms": "e2el_tail",
    "e2el_p95_ms": "e2el_tail",
    "e2el_p99_ms": "e2el_tail",
}
# On GPUs, absolute or ratio; on the CPU absolute; on the CPU a ratio.
RATE = (GPU_RATE, CPU_THROUGHPUT, CPU_RATIO)
LATENCY = (GPU_RATE, CPU_LATENCY, CPU_RATIO)
POLICIES_OF = {
    "throughput": RATE,
    "itl": LATENCY,
    "tpot": LATENCY,
    "e2el": LATENCY,
    "bandwidth": RATE,
    "custom": (GPU_RATE, CPU_ABSOLUTE, CPU_RATIO),
    "ttft": (GPU_TTFT, CPU_TTFT, CPU_RATIO),
    "e2el_tail": (GPU_E2EL_TAIL, CPU_ABSOLUTE, CPU_ABSOLUTE),
    "energy": (GPU_ENERGY, CPU_ABSOLUTE, CPU_RATIO),
    "tail": (GPU_TAIL, CPU_ABSOLUTE, CPU_ABSOLUTE),
    "start_up": (START_UP, START_UP_CPU, START_UP_CPU),
    "memory": (EXACT, EXACT, EXACT),
    "constant": (EXACT, EXACT, EXACT),
    "memory_peak": (PEAK, PEAK, PEAK),
    "routing": (ROUTING, ROUTING, ROUTING),
    "host_cpu": (HOST_CPU, HOST_CPU, HOST_CPU),
    "batch": (BATCH, BATCH, BATCH),
    "work": (WORK, WORK, WORK),
    "calls": (CALLS, CALLS, CALLS),
    "facts": (EXACT, EXACT, EXACT),
    "answers": (ANSWERS, ANSWERS, ANSWERS),
    "accuracy": (ACCURACY, ACCURACY, ACCURACY),
    "hit_rate": (HIT_RATE, HIT_RATE, HIT_RATE),
    "memory_growth": (MEMORY_GROWTH, MEMORY_GROWTH, MEMORY_GROWTH),
}


@pytest.fixture
def declare(monkeypatch):
    """Declares a custom metric for the length of a test; its name."""
    monkeypatch.setattr(metrics, "CUSTOM", dict(metrics.CUSTOM))
    added = []

    def enter(name, **family):
        register(
            [
                Metric(
                    name=name, unit="", better="lower", definition="d", **family
                )
            ]
        )
        added.append(name)
        return name

    yield enter
    for name in added:
        del METRICS[name]


def test_every_built_in_metric_has_its_family():
    """A new metric must be entered here, with the family that its author chose."""
    built_in = {row.metric.name: row.metric.family for row in metrics.BUILT_IN}

    assert FAMILY_OF == built_in
    assert set(metrics.FAMILIES) == set(POLICIES_OF)


@pytest.mark.parametrize("name", FAMILY_OF)
def test_policies_of_the_built_in_metrics(name):
    """The policies of each metric from before there were families still hold."""
    on_gpus, absolute, ratio = POLICIES_OF[FAMILY_OF[name]]

    assert on_gpus == policy_for("h200x2", name, ratio=False)
    assert on_gpus == policy_for("a100x1", name, ratio=True)
    assert absolute == policy_for("cpu-amd-epyc-avx2-x2", name, ratio=False)
    assert ratio == policy_for("cpu-amd-epyc-avx2-x2", name, ratio=True)


@pytest.mark.parametrize(
    ("name", "family", "expected"),
    [
        ("shared_prefix_ttft_median_ms", "ttft", GPU_TTFT),
        ("shared_prefix_itl_ms", "itl", GPU_RATE),
        ("weights_load_throughput", "throughput", GPU_RATE),
        ("prefix_hit_fraction", "constant", EXACT),
        ("itl_worst_ms", "tail", GPU_TAIL),
        ("joules", "energy", GPU_ENERGY),
    ],
)
def test_letters_of_a_name_decide_nothing(declare, name, family, expected):
    """A "share" in "shared" makes no share of a latency."""
    assert expected == policy_for(
        "h200x2", declare(name, family=family), ratio=False
    )


def test_a_metric_without_family_is_judged_like_a_rate(declare):
    """Whatever its name contains."""
    assert GPU_RATE == policy_for(
        "h200x2", declare("memory_share_ttft_p99"), False
    )
    assert GPU_RATE == policy_for(
        "h200x2", "never_declared_ttft_ms", ratio=False
    )
