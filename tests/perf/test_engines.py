"""E9: How do two engines compare on the same machine, with the same model, prompts and client?"""

from collections.abc import Iterator

import msgspec
import pytest

from perfgate.cases import Case
from perfgate.study import Versus


def busy(versus: Versus) -> Iterator[Case]:
    """Both engines at a fixed concurrency: throughput, and the time per token."""
    for servers in versus.models:
        for metric in ("output_throughput", "itl_median_ms"):
            yield versus.ratio(metric, servers, versus.of.closed)


def tails(versus: Versus) -> Iterator[Case]:
    """Time to the first token, and the slowest tokens: too noisy on shared CPU cores to be judged there."""
    for servers in versus.models:
        for metric in ("ttft_median_ms", "itl_p90_ms"):
            case = versus.ratio(metric, servers, versus.of.closed)
            yield msgspec.structs.replace(case, gate=versus.of.absolute)


def alone(versus: Versus) -> Iterator[Case]:
    """Both engines answering one request at a time."""
    for servers in versus.models:
        yield versus.ratio("itl_median_ms", servers, versus.of.single_stream)


@pytest.mark.perf(engines=busy)
def test_engine_over_engine(check, case):
    """Under a fixed concurrency one engine stands to the other as before."""
    check(case)


@pytest.mark.perf(engines=tails)
def test_engine_over_engine_tails(check, case):
    """First tokens and slowest tokens of one engine stand to those of the other as before."""
    check(case)


@pytest.mark.perf(engines=alone)
def test_engine_over_engine_alone(check, case):
    """One request at a time, one engine stands to the other as before."""
    check(case)
