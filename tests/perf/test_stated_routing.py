"""E8: What do uneven routers cost? One model, told to choose its experts in several ways.

Only with --stated-routing, and with made-up weights: each way is a server of its own.
"""

from collections.abc import Iterator

import msgspec
import pytest

from perfgate.cases import Case, Load
from perfgate.engines.base import ServerConfig
from perfgate.study import Study


def ways(study: Study) -> Iterator[tuple[ServerConfig, list[ServerConfig]]]:
    """Each sparse model with even routing, and with each uneven one that was asked for."""
    uneven = [way for way in study.stated_routings if way != "uniform"]
    if study.stated_routings:
        for server in study.sparse:
            even = study.stated(server, "uniform")
            yield even, [study.stated(server, way) for way in uneven]


def each_way(study: Study) -> Iterator[Case]:
    """Throughput and ITL of each."""
    for even, uneven in ways(study):
        for server in (even, *uneven):
            yield study.value(
                "E8", study.closed_throughput, server, study.closed
            )
            for workload in (study.closed, study.single_stream):
                yield study.value("E8", "itl_median_ms", server, workload)


def over_even(study: Study) -> Iterator[Case]:
    """Each uneven way over the even one; judged where absolute values are."""
    for even, uneven in ways(study):
        for server in uneven:
            for metric, workload in (
                (study.closed_throughput, study.closed),
                ("itl_median_ms", study.closed),
                ("itl_median_ms", study.single_stream),
            ):
                above = Load(server=server, workload=workload)
                below = Load(server=even, workload=workload)
                yield study.shape("E8", metric, above, below)


def as_predicted(study: Study) -> Iterator[Case]:
    """The same ratio of the bandwidths: 1 where time follows the bytes of reached experts.

    Report-only: it is the ratio of the latencies again, over the calculated one.
    """
    for even, uneven in ways(study):
        for server in uneven:
            for workload in (study.closed, study.single_stream):
                above = Load(server=server, workload=workload)
                below = Load(server=even, workload=workload)
                case = study.ratio("E8", "decode_bandwidth_gb_s", above, below)
                yield case.report_only


def spread_over_even(study: Study) -> Iterator[Case]:
    """The same with whole experts on each of several ranks: the busiest one decides."""
    for even, uneven in ways(study):
        if even.ranks > 1:
            below = Load(server=spread(even), workload=study.closed)
            for server in uneven:
                above = Load(server=spread(server), workload=study.closed)
                yield study.shape("E8", study.closed_throughput, above, below)


def spread(server: ServerConfig) -> ServerConfig:
    """The server with expert parallelism."""
    return msgspec.structs.replace(server, expert_parallel=True)


def as_stated(study: Study) -> Iterator[Case]:
    """The experts that the engine reports, invalid unless they are those that are stated.

    The cost of imbalance under EP follows from the stated chances. Builds are not
    compared by it: that would take six more launches.
    """
    if study.has_base_build:
        return
    for even, uneven in ways(study):
        for server in (even, *uneven):
            asked = study.asked_routing(server)
            if asked is None:
                continue
            case = study.value("E8", "routing_ep_cost", asked, study.routing)
            yield msgspec.structs.replace(case, gate="hard")
            case = study.value(
                "E8", "routing_max_over_mean", asked, study.routing
            )
            yield case.report_only


@pytest.mark.perf(cases=each_way)
def test_each_stated_routing(check, case):
    """The sparse model is as fast as before, whatever its tokens are told to choose."""
    check(case)


@pytest.mark.perf(cases=over_even)
def test_uneven_over_even(check, case):
    """Uneven routing gains or costs as much as before."""
    check(case)


@pytest.mark.perf(cases=as_predicted)
def test_uneven_over_prediction(check, case):
    """Uneven routing takes the time of the experts that its tokens reach, as before."""
    check(case)


@pytest.mark.perf(cases=spread_over_even)
def test_uneven_over_even_spread(check, case):
    """With experts spread over the ranks, uneven routing costs as much as before.

    `routing_ep_cost` is what it costs where tokens decide.
    """
    check(case)


@pytest.mark.perf(cases=as_stated)
def test_tokens_choose_as_stated(check, case):
    """The experts of tokens are those that the server was told."""
    check(case)
