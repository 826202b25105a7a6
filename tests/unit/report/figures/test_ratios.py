"""Figures of ratios: a model over its reference, with what the bytes that are read predict."""

from perfgate.report.figures import ratios
from perfgate.results.samples import RunIndex
from tests.support.judged_runs import judged


def test_ratio_vs_its_prediction_at_each_batch():
    """Every closed loop of both models, each with the ratio of the bytes that its steps read."""
    picture = ratios.model_over_reference(RunIndex(judged("PASSED")), "")

    pair = "vllm-mixtral-8x7b-tp2 / llama-3.1-8b-tp2"
    lines = [row[-1] for row in picture.rows]
    assert [(pair, "batch-1", "1", "1x"), (pair, "batch-8", "8", "1x")] == [
        row[:-1] for row in picture.rows
    ]
    # 25.5 over 15.0 GB, and 84.3 over 15.1 GB, KV cache included
    assert ["1.699x", "5.588x"] == lines
