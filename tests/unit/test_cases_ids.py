"""The id of a case has parts: servers, workloads and a metric."""

import pytest

from perfgate.cases import Case, Load, is_ratio, parse_id, title
from perfgate.engines.base import ServerConfig
from perfgate.load.workload import Workload

MOE = ServerConfig(engine="vllm", model="mixtral-small", tensor_parallel_size=2)
DENSE = ServerConfig(engine="sglang", model="llama-small")
CLOSED = Workload(name="closed-c16", num_prompts=48, max_concurrency=16)
SINGLE = Workload(name="single-stream", num_prompts=4, max_concurrency=1)


@pytest.mark.parametrize(
    ("denominator", "servers", "workloads"),
    [
        (None, (MOE,), (CLOSED,)),
        (Load(server=DENSE, workload=CLOSED), (MOE, DENSE), (CLOSED,)),
        (Load(server=MOE, workload=SINGLE), (MOE,), (CLOSED, SINGLE)),
        (Load(server=DENSE, workload=SINGLE), (MOE, DENSE), (CLOSED, SINGLE)),
    ],
    ids=["absolute", "servers", "workloads", "both"],
)
def test_id_is_parsed_into_what_it_was_made_of(denominator, servers, workloads):
    """`parse_id` is the inverse of `Case.id`."""
    case = Case(
        experiment="E1",
        metric="itl_median_ms",
        numerator=Load(server=MOE, workload=CLOSED),
        denominator=denominator,
    )

    parts = parse_id(case.id)

    assert tuple(server.key for server in servers) == parts.servers
    assert tuple(workload.name for workload in workloads) == parts.workloads
    assert "itl_median_ms" == parts.metric
    assert (denominator is not None) == is_ratio(case.id)


def test_title_names_a_common_engine_once():
    """Two engines are both named, each with its server."""
    same = "vllm-a-tp2--over--vllm-b/closed-c16/itl_median_ms"
    both = "vllm-a--over--sglang-a/c1--over--c2/itl_median_ms"

    assert "vllm a-tp2 / b, closed-c16" == title(same)
    assert "vllm-a / sglang-a, c1 / c2" == title(both)
