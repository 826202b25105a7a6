"""Times of one request and of a run: limits, samples, and the steady window."""

from __future__ import annotations

import dataclasses
from itertools import accumulate

import pytest

from perfgate.load.request_times import (
    independent_gaps,
    meets,
    samples_needed,
    short_gap_share,
    steady_window,
    tokens_per_chunk,
    tokens_within,
)
from tests.support.builders import MS, steady_streams, transcript


@pytest.mark.parametrize(
    ("percentile", "needed"), [(90, 64), (95, 130), (99, 662)]
)
def test_percentiles_need_samples(percentile, needed):
    """MLPerf's counts; p99 as published is 662."""
    assert needed == samples_needed(percentile)


def test_one_token_cannot_miss_a_tpot_limit():
    """As in `vllm bench serve`, its TPOT counts as 0 for goodput."""
    assert meets(transcript(chunks_ms=[20]), (("tpot", 1.0),))


def test_steady_window_leaves_out_ramp_and_tail():
    """Ten streams start 1 ms apart and end together, one late: the window is where all decode."""
    rows = [transcript(chunks_ms=times) for times in steady_streams(count=10)]
    straggler = transcript(chunks_ms=[100, 1000])
    start, end = steady_window([*rows, straggler], open_loop=False)

    # at most 11 decode; 90 % of that, 9.9, are reached when the tenth starts at
    # 29 ms, and left when the second of the ten ends: the first ends at 20 + 49
    # x 10 = 510 ms, the second 1 ms later
    assert (29 * MS, 511 * MS) == (start, end)


def test_steady_window_of_an_open_loop_is_its_middle():
    """From the fifth's to the four fifths' sending."""
    rows = [
        transcript(sent_ms=100 * k, chunks_ms=[100 * k + 20, 100 * k + 30])
        for k in range(10)
    ]

    assert (200 * MS, 800 * MS) == steady_window(rows, open_loop=True)


def test_no_steady_window_where_nothing_is_steady():
    """A single request has none, nor have requests one after the other whose peak is one moment."""
    rows = [
        transcript(sent_ms=0, chunks_ms=[20, 1000]),
        transcript(sent_ms=0, chunks_ms=[990, 2000]),
    ]

    assert None is steady_window(rows[:1], open_loop=False)
    assert None is steady_window(rows, open_loop=False)


def test_tokens_within_a_window():
    """Chunks after the start and up to the end count, with their request's tokens per chunk."""
    rows = [transcript(chunks_ms=[10, 20, 30, 40], output_tokens=8)]

    # chunks at 20 and 30, two tokens each
    assert 4.0 == tokens_within(rows, (10 * MS, 30 * MS))


@pytest.mark.parametrize(("streams", "independent"), [(1, 9), (3, 9), (9, 9)])
def test_streams_in_step_share_their_gaps(streams, independent):
    """Nine steps are nine samples, however many streams decode in each."""
    times = [20 + 10 * k for k in range(10)]
    rows = [transcript(chunks_ms=times) for _ in range(streams)]

    assert independent == independent_gaps(rows, 9 * streams)


def test_streams_one_after_the_other_share_nothing():
    """Each gap is a sample of its own."""
    rows = [transcript(chunks_ms=[10, 20]), transcript(chunks_ms=[30, 40])]

    assert 2 == independent_gaps(rows, 2)


@pytest.mark.parametrize(
    ("gaps", "share"),
    [
        ([10] * 20, 0.0),
        ([1, 19] * 10, 0.5),  # two at a time
        ([1, 1, 1, 37] * 5, 0.75),  # four at a time
        ([0, 20] * 10, 0.5),  # two in one read
        ([5] * 14 + [400], 0.0),  # one stall
        ([5] * 13 + [90, 90], 0.0),  # the prompts of others
    ],
)
def test_gaps_of_chunks_that_come_together_are_short(gaps, share):
    """Against the step of their own request, which a few long waits do not move."""
    times = list(accumulate([100, *gaps]))

    assert share == pytest.approx(
        short_gap_share([transcript(chunks_ms=times)])
    )


def test_too_few_gaps_show_no_bursts():
    """Answers of some tokens say nothing."""
    assert None is short_gap_share([transcript(chunks_ms=[1, 2, 3])])
    assert None is short_gap_share([])


def test_tokens_of_a_chunk():
    """By the server's count, over all requests."""
    assert 1.0 == tokens_per_chunk([transcript(chunks_ms=[1, 2, 3])])
    merged = dataclasses.replace(transcript(chunks_ms=[1, 2]), output_tokens=8)
    assert 4.0 == tokens_per_chunk([merged])
    assert None is tokens_per_chunk([])
