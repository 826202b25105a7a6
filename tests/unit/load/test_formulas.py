"""Formulas of the client's metrics, on samples whose figures a person can check."""

from __future__ import annotations

import operator

import pytest

from perfgate.load import formulas
from perfgate.load.formulas import CompletedRequests
from tests.support.builders import MS, transcript

# 8 tokens in each; 4 and 2 out.
REQUESTS = (
    transcript(sent_ms=0, chunks_ms=[20, 30, 50, 100]),
    transcript(sent_ms=0, chunks_ms=[40, 60]),
)
ITL = operator.attrgetter("itl")


def test_throughputs():
    """Tokens and requests over two seconds."""
    sample = CompletedRequests(REQUESTS, duration_s=2.0)

    assert 3.0 == formulas.output_throughput(sample)
    assert 11.0 == formulas.total_token_throughput(sample)
    assert 1.0 == formulas.request_throughput(sample)


def test_goodput_and_the_steady_throughput_need_what_they_are_of():
    """Without limits or a window there is no figure, rather than 0."""
    sample = CompletedRequests(REQUESTS, duration_s=2.0)

    assert formulas.request_goodput(sample) is None
    assert formulas.steady_output_throughput(sample) is None


def test_goodput_and_the_steady_throughput():
    """One request is within 30 ms; five tokens came in the window of 80 ms."""
    window = (20 * MS, 100 * MS)
    sample = CompletedRequests(
        REQUESTS, 2.0, slo_ms=(("ttft", 30.0),), window=window
    )

    # chunks at 30, 50, 100 and at 40, 60: five, each of one token
    assert 0.5 == formulas.request_goodput(sample)
    assert 5 / 0.08 == formulas.steady_output_throughput(sample)


def test_statistics_of_the_gaps():
    """Gaps of 10, 20, 50 and 20 ms."""
    sample = CompletedRequests(REQUESTS, duration_s=2.0)

    assert 25.0 == formulas.mean_ms(ITL, sample)
    assert 20.0 == formulas.median_ms(ITL, sample)
    assert formulas.percentile_ms(90, ITL, sample) is None


@pytest.mark.parametrize("statistic", [formulas.mean_ms, formulas.median_ms])
def test_no_gaps_have_no_statistic(statistic):
    """A request of one token has none."""
    assert (
        statistic(ITL, CompletedRequests((transcript(chunks_ms=[20]),), 1.0))
        is None
    )
