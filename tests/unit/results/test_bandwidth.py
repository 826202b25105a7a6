"""Bandwidth of a decode step: bytes over time, absent where one is unknown."""

import math

import msgspec
import pytest

from perfgate.cases import Load
from perfgate.load.workload import PromptFile, Synthetic, Workload
from perfgate.models.catalogue import CATALOGUE
from perfgate.results import bandwidth
from perfgate.results.bandwidth import context_of, no_peak, points, ratio_points
from perfgate.results.samples import RunIndex
from tests.support import builders
from tests.support.builders import DENSE, MOE, MOE_CPU

EIGHT = Workload(
    name="eight",
    num_prompts=64,
    max_concurrency=8,
    prompts=Synthetic(input_len_tokens=128, output_len_tokens=64),
)
RATE = Workload(name="rate", num_prompts=8, request_rate=1.0)
MIXTRAL = CATALOGUE["mixtral-8x7b"].architecture


@pytest.mark.parametrize(
    ("workload", "batch"),
    [
        (EIGHT, 8),
        (Workload(name="burst", num_prompts=100), 100),
        (Workload(name="few", num_prompts=3, max_concurrency=8), 3),
        (RATE, None),
    ],
)
def test_batch_of_a_workload(workload, batch):
    """A closed loop keeps its slots full, a burst decodes together, an open loop has no batch."""
    assert batch == workload.batch


def test_context_is_that_of_the_middle():
    """At a middle step half of the output exists; lengths from a file are unknown."""
    # 128 + 64 / 2
    assert 160 == context_of(EIGHT)
    assert 0 == context_of(
        Workload(name="file", num_prompts=1, prompts=PromptFile(path="x.jsonl"))
    )


def test_utilisation_is_bytes_over_time_over_peak():
    """On two H200, half of the bytes on each."""
    read = MIXTRAL.step_bytes_per_rank(2, "bfloat16", 8, 160)

    seen = bandwidth.values(
        MOE, EIGHT, {"itl_median_ms": 20.0}, builders.hardware()
    )

    # both ranks' bytes in 20 ms; one rank's over 4.8 TB/s
    assert {
        "decode_bandwidth_gb_s": pytest.approx(2 * read / 0.020 / 1e9),
        "bandwidth_utilisation": pytest.approx(read / 0.020 / 4.8e12),
    } == seen


def test_a_stated_routing_reads_what_its_tokens_reach():
    """All on two experts read less than even routing, which reads what no statement does."""
    read = {}
    for stated in ("", "uniform", "skewed", "few"):
        server = msgspec.structs.replace(MOE, stated_routing=stated)
        read[stated] = bandwidth.step_bytes(server, EIGHT)
    one = msgspec.structs.replace(EIGHT, max_concurrency=1)

    assert read[""] == pytest.approx(read["uniform"])
    assert read["uniform"] > read["skewed"] > read["few"]
    # Two experts at any batch, but for the KV cache of the other seven sequences.
    cache = 7 * 160 * 131072 / 2
    assert bandwidth.step_bytes(MOE, one) + cache == pytest.approx(read["few"])


def test_no_peak_of_a_cpu():
    """There the bandwidth is told and no utilisation, and why."""
    machine = builders.hardware("cpu")

    assert {"decode_bandwidth_gb_s"} == bandwidth.values(
        MOE_CPU, EIGHT, {"itl_median_ms": 20.0}, machine
    ).keys()
    assert "peak of a CPU is unknown" in no_peak(MOE_CPU, machine)
    assert no_peak(MOE, builders.hardware()) is None
    assert "NVIDIA L4" in no_peak(MOE, builders.hardware("l4"))


@pytest.mark.parametrize(
    ("workload", "values"), [(RATE, {"itl_median_ms": 9.0}), (EIGHT, {})]
)
def test_nothing_is_made_up(workload, values):
    """Without a batch, or without a time per token, there is no figure."""
    assert {} == bandwidth.values(MOE, workload, values, builders.hardware())


def run_of_both():
    """Both models at batch 8 and at a rate; of the sparse one two launches."""
    rows = {
        Load(server=MOE, workload=EIGHT): {"itl_median_ms": [20.0, 22.0]},
        Load(server=DENSE, workload=EIGHT): {"itl_median_ms": [5.0]},
        Load(server=MOE, workload=RATE): {"itl_median_ms": [9.0]},
    }
    return builders.run(rows, ())


def test_points_of_a_run():
    """One for each server and batch, of the launches' mean; an open loop has none."""
    dense, moe = points(RunIndex(run_of_both()))
    mean_ms = math.sqrt(20 * 22)

    assert [(DENSE.key, 8), (MOE.key, 8)] == [
        (p.server, p.batch) for p in (dense, moe)
    ]
    assert pytest.approx(5) == dense.itl_ms
    assert pytest.approx(mean_ms) == moe.itl_ms
    assert moe.bandwidth_gb_s == pytest.approx(moe.step_bytes / mean_ms / 1e6)
    assert moe.utilisation == pytest.approx(moe.bandwidth_gb_s / 9600)


def test_ratio_vs_its_prediction():
    """The measured ratio is of times, the line of bytes; both are told."""
    (point,) = ratio_points(RunIndex(run_of_both()), MOE, DENSE)

    assert (8, pytest.approx(math.sqrt(20 * 22) / 5)) == (
        point.batch,
        point.measured,
    )
    # 5.6 without the KV cache, which both read alike
    assert 5.55 == pytest.approx(point.line, abs=0.01)


def test_points_are_plain_values():
    """They go into a report as JSON."""
    assert (
        '"batch":8'
        in msgspec.json.encode(points(RunIndex(run_of_both()))).decode()
    )
