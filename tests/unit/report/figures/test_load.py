"""Figures by load: drawn from measurements that belong together."""

import msgspec

from perfgate.load.workload import Workload
from perfgate.report.figures import load as figures_load
from perfgate.report.figures.series import batches
from perfgate.results.samples import RunIndex
from tests.support.judged_runs import EIGHT, FAST, ONE, judged


def test_batches_are_of_one_kind_of_prompts():
    """Closed loops with other prompts are no part of the sweep."""
    other = Workload(
        name="closed-c4",
        num_prompts=8,
        max_concurrency=4,
        prompts=msgspec.structs.replace(ONE.prompts, output_len_tokens=7),
    )
    results = msgspec.structs.replace(
        judged("PASSED"),
        workloads={w.name: w for w in (other, EIGHT, ONE, FAST)},
    )

    assert ["batch-1", "batch-8"] == [
        w.name for w in batches(RunIndex(results))
    ]


def test_ratio_vs_its_prediction_at_each_batch():
    """Every closed loop of both models, each with the ratio of the bytes that its steps read."""
    picture = figures_load.model_over_reference(RunIndex(judged("PASSED")), "")

    pair = "vllm-mixtral-8x7b-tp2 / llama-3.1-8b-tp2"
    lines = [row[-1] for row in picture.rows]
    assert [(pair, "batch-1", "1", "1x"), (pair, "batch-8", "8", "1x")] == [
        row[:-1] for row in picture.rows
    ]
    # 25.5 over 15.0 GB, and 84.3 over 15.1 GB, KV cache included
    assert ["1.699x", "5.588x"] == lines
