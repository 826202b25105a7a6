"""Cases: a name by what is asked."""

import pytest

from perfgate.cases import Case, Load
from perfgate.engines.base import ServerConfig
from perfgate.load.workload import Workload

MOE = ServerConfig(engine="vllm", model="mixtral-small", tensor_parallel_size=2)
DENSE = ServerConfig(engine="vllm", model="llama-small", tensor_parallel_size=2)
CLOSED = Workload(name="closed-c16", num_prompts=48, max_concurrency=16)
SINGLE = Workload(name="single-stream", num_prompts=4, max_concurrency=1)


@pytest.mark.parametrize(
    ("of", "over", "expected"),
    [
        (
            Load(server=MOE, workload=CLOSED),
            None,
            "vllm-mixtral-small-tp2/closed-c16/itl_median_ms",
        ),
        (Load(server=MOE), None, "vllm-mixtral-small-tp2/launch/itl_median_ms"),
        (
            Load(server=MOE, workload=CLOSED),
            Load(server=DENSE, workload=CLOSED),
            "vllm-mixtral-small-tp2--over--vllm-llama-small-tp2/closed-c16/itl_median_ms",
        ),
        (
            Load(server=MOE, workload=CLOSED),
            Load(server=MOE, workload=SINGLE),
            "vllm-mixtral-small-tp2/closed-c16--over--single-stream/itl_median_ms",
        ),
        (
            Load(server=MOE, workload=CLOSED),
            Load(server=DENSE, workload=SINGLE),
            "vllm-mixtral-small-tp2--over--vllm-llama-small-tp2/closed-c16--over--single-stream/itl_median_ms",
        ),
    ],
)
def test_id_is_subject_workload_metric(of, over, expected):
    """The id names two servers or two workloads only where they differ."""
    case = Case(
        experiment="E1", metric="itl_median_ms", numerator=of, denominator=over
    )

    assert expected == case.id
    assert expected == f"{case.subject}/{case.workload}/{case.metric}"


def test_loads_to_measure():
    """The numerator comes first; an absolute needs one load alone."""
    of, over = (
        Load(server=MOE, workload=CLOSED),
        Load(server=DENSE, workload=CLOSED),
    )

    assert (of,) == Case(
        experiment="E1", metric="itl_median_ms", numerator=of
    ).loads
    assert (of, over) == Case(
        experiment="E1", metric="itl_median_ms", numerator=of, denominator=over
    ).loads


def test_cases_can_be_compared_and_kept_in_sets():
    """Equal questions are one question."""
    of = Load(server=MOE, workload=CLOSED)

    assert 1 == len(
        {
            Case(experiment="E1", metric="m", numerator=of),
            Case(experiment="E1", metric="m", numerator=of),
        }
    )
