"""Figures by load: drawn from measurements that belong together."""

import msgspec

from perfgate.load.workload import Workload
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
