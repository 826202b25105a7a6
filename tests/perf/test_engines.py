"""E9: How do two engines compare on the same machine, with the same model, prompts and client?"""

from collections.abc import Iterator

import pytest

from perfgate.cases import Case
from perfgate.study import Versus


def fixed_concurrency(versus: Versus) -> Iterator[Case]:
    """Both engines at a fixed concurrency: output throughput and ITL."""
    for servers in versus.models:
        for metric in (versus.candidate.closed_throughput, "itl_median_ms"):
            yield versus.ratio(metric, servers, versus.candidate.closed)


def tail_latency(versus: Versus) -> Iterator[Case]:
    """TTFT, and the ITL's 90th percentile, which is reported alone.

    Both are too noisy on shared CPU cores to be judged there.
    """
    for servers in versus.models:
        for metric in ("ttft_median_ms", "itl_p90_ms"):
            case = versus.ratio(metric, servers, versus.candidate.closed)
            is_tail = metric == "itl_p90_ms"
            if is_tail or not versus.candidate.is_yardstick:
                case = case.report_only
            yield case


def single_stream(versus: Versus) -> Iterator[Case]:
    """Both engines answering one request at a time."""
    for servers in versus.models:
        yield versus.ratio(
            "itl_median_ms", servers, versus.candidate.single_stream
        )


@pytest.mark.perf(engines=fixed_concurrency)
def test_engine_over_engine(check, case):
    """At a fixed concurrency the ratio of the engines is as before."""
    check(case)


@pytest.mark.perf(engines=tail_latency)
def test_engine_over_engine_tails(check, case):
    """The ratio of the engines' TTFT and of their slowest tokens is as before."""
    check(case)


@pytest.mark.perf(engines=single_stream)
def test_engine_over_engine_alone(check, case):
    """With one request at a time the ratio of the engines is as before."""
    check(case)
