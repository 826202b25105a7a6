"""Whole judged runs for reports: every kind of load, a verdict each; routed experts."""

import msgspec

from perfgate.cases import Load
from perfgate.judge.verdict import Outcome, Verdict
from perfgate.load.repetition import RequestRow
from perfgate.load.workload import Workload
from tests.support import builders as m

ONE, EIGHT = (
    Workload(name=f"batch-{n}", num_prompts=8 * n, max_concurrency=n)
    for n in (1, 8)
)
SLOW, FAST = (
    Workload(name=f"rate-{n}", num_prompts=100, request_rate=float(n))
    for n in (1, 2)
)
DENSE_1 = msgspec.structs.replace(m.DENSE, tensor_parallel_size=1)


def values(itl=8.0, throughput=1000.0):
    """What one load came to on three launches."""
    return {
        "itl_median_ms": [itl, itl * 1.01, itl * 0.99],
        "ttft_median_ms": [itl * 3] * 3,
        "output_throughput": [throughput] * 3,
    }


def judged(*outcomes, **how):
    """A run of every kind of load, with one verdict for each outcome."""
    loads = {
        Load(server=s, workload=w): values()
        for s in (m.MOE, m.DENSE)
        for w in (ONE, EIGHT, SLOW, FAST)
    }
    loads[Load(server=DENSE_1, workload=EIGHT)] = values(12.0, 700.0)
    held = {
        "weights_bytes_per_rank": [46.7e9],
        "memory_peak_bytes": [130e9],
        "kv_cache_bytes": [70e9],
    }
    loads[Load(server=m.MOE)] = held
    cases = [
        m.Case(experiment="E1", metric="output_throughput", numerator=load)
        for load in loads
        if load.workload
    ]
    results = m.run(loads, cases[: len(outcomes)], **how)
    rows = tuple(
        Verdict(
            case=case.id,
            metric=case.metric,
            outcome=Outcome(outcome),
            gate="hard",
            summary=f"<less> & {outcome}",
            unit="tok/s",
            advice="look",
            value=1000.0,
            baseline=1050.0,
            change=-0.05,
            worse_by=0.05,
            threshold=0.02,
            noise=0.016,
            launches=3,
        ).row(case, "t")
        for case, outcome in zip(results.cases, outcomes, strict=True)
    )
    return with_requests(msgspec.structs.replace(results, verdicts=rows))


def with_requests(results):
    """The run with eight requests in each repetition, all of whose streams stall once."""
    row = RequestRow(
        scheduled_ms=0.0,
        sent_ms=1.0,
        ttft_ms=20.0,
        e2el_ms=640.0,
        output_tokens=32,
        itl_ms=(8.0,) * 20 + (500.0,) + (8.0,) * 10,
        error=None,
    )
    rows = tuple(
        msgspec.structs.replace(
            measurement,
            repetitions=tuple(
                msgspec.structs.replace(r, requests=(row,) * 8, duration_s=0.8)
                for r in measurement.repetitions
            ),
        )
        for measurement in results.measurements
    )
    return msgspec.structs.replace(results, measurements=rows)
