"""Metrics of a load: figures from timestamps, by their definitions."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfgate.load.metrics import METRICS, compute
from perfgate.load.request_times import itl_ns, steady_window, tpot_ns
from tests.support.builders import MS, transcript


@st.composite
def transcripts(draw):
    """Any run: completed, one-token and failed requests in any order."""
    made = []
    for index in range(draw(st.integers(0, 12))):
        sent = draw(st.integers(0, 5000))
        gaps = draw(st.lists(st.integers(0, 300), min_size=1, max_size=12))
        times = [sent + sum(gaps[: k + 1]) for k in range(len(gaps))]
        error = draw(st.sampled_from([None, None, None, "HTTP 503"]))
        made.append(
            transcript(
                sent,
                [] if error else times,
                error=error,
                index=index,
                output_tokens=len(times),
            )
        )
    return made


def run(rows, end_ms=10_000.0, **more):
    """Figures of a run of ten seconds."""
    return compute(rows, 0, int(end_ms * MS), **more)


def test_one_request_by_hand():
    """All figures of a single request follow from its times."""
    values = run(
        [transcript(sent_ms=100, chunks_ms=[120, 130, 150, 200])], end_ms=400
    )

    # TTFT 120 - 100; ITL 10, 20, 50; TPOT (200 - 120) / 3; E2EL 200 - 100; 4
    # tokens out and 8 in, in 0.4 s
    assert 20.0 == values["ttft_median_ms"]
    assert (20.0, 80 / 3) == (values["itl_median_ms"], values["itl_mean_ms"])
    assert 80 / 3 == values["tpot_median_ms"]
    assert 100.0 == values["e2el_median_ms"]
    assert (10.0, 30.0, 2.5) == tuple(
        values[name]
        for name in (
            "output_throughput",
            "total_token_throughput",
            "request_throughput",
        )
    )


def test_chunks_of_several_tokens():
    """Ten tokens in chunks of 1, 3, 3, 3: TPOT counts tokens, ITL counts chunks."""
    values = run([transcript(chunks_ms=[200, 260, 320, 380], output_tokens=10)])

    # TPOT (380 - 200) / 9 = 20; ITL 60 between chunks
    assert (20.0, 60.0) == (values["tpot_median_ms"], values["itl_median_ms"])


def test_nothing_completed_gives_no_figure():
    """A run without a completed request has no figures: zero would be the best latency."""
    assert {} == run([])
    assert {} == run([transcript(chunks_ms=[], error="HTTP 500")])


def test_one_token_answers_have_no_time_per_further_token():
    """TTFT and E2EL exist, ITL and TPOT do not."""
    values = run([transcript(chunks_ms=[20])])

    assert (20.0, 20.0) == (values["ttft_median_ms"], values["e2el_median_ms"])
    assert [] == [name for name in values if name.startswith(("itl", "tpot"))]
    with pytest.raises(ValueError, match="1 output tokens"):
        tpot_ns(transcript(chunks_ms=[20]))


@given(transcripts(), st.randoms())
def test_order_of_requests_does_not_matter(rows, random):
    """Shuffled requests give the same figures."""
    shuffled = list(rows)
    random.shuffle(shuffled)

    assert run(rows) == pytest.approx(run(shuffled))


@given(transcripts())
def test_failed_requests_change_no_figure(rows):
    """A failed request adds neither latencies nor tokens, whatever it says."""
    failed = transcript(sent_ms=1, chunks_ms=[2, 3, 99_999], error="cut")

    assert run(rows) == run([*rows, failed])


@given(transcripts())
def test_every_figure_is_declared_finite_and_not_negative(rows):
    """No NaN, no infinity, no undeclared name; throughput is positive if anything completed."""
    values = run(
        rows, slo_ms=(("ttft", 100.0),), window=steady_window(rows, False)
    )

    assert set() == values.keys() - METRICS.keys()
    assert {True} >= {
        math.isfinite(value) and value >= 0 for value in values.values()
    }
    assert any(r.error is None for r in rows) == ("output_throughput" in values)


@given(transcripts())
def test_itls_and_ttft_add_up_to_e2el(rows):
    """For each completed request TTFT + sum of ITL = E2EL.

    TPOT is the mean of its ITLs if chunks are tokens.
    """
    for t in rows:
        if t.error is None:
            assert t.last_ns - t.first_ns == itl_ns(t).sum()
            if t.output_tokens > 1:
                assert tpot_ns(t) == pytest.approx(itl_ns(t).mean())


@given(transcripts(), st.integers(-5000, 5000))
def test_clock_offset_does_not_matter(rows, offset):
    """Figures depend on differences of times alone."""
    later = [
        transcript(
            sent_ms=t.sent_ns / MS + 5000 + offset,
            chunks_ms=[ns / MS + 5000 + offset for ns in t.chunk_ns],
            error=t.error,
            output_tokens=t.output_tokens,
        )
        for t in rows
    ]
    start = (5000 + offset) * MS

    assert run(rows) == pytest.approx(
        compute(later, start, start + 10_000 * MS)
    )


def test_percentiles_refuse_to_exist_on_too_few_samples():
    """661 requests have no p99; 662 have."""
    rows = [
        transcript(sent_ms=10 * k, chunks_ms=[10 * k + 5, 10 * k + 6])
        for k in range(662)
    ]

    assert "ttft_p99_ms" not in run(rows[1:])
    assert 5.0 == pytest.approx(run(rows)["ttft_p99_ms"])


def test_streams_in_step_do_not_multiply_samples():
    """700 streams over 20 steps are 700 requests, not 14,000 independent gaps: no p99 of ITL."""
    rows = [
        transcript(chunks_ms=[20 + 10 * k for k in range(20)])
        for _ in range(700)
    ]
    values = run(rows)

    assert "ttft_p99_ms" in values
    assert "itl_p99_ms" not in values


def test_goodput_counts_requests_within_every_limit():
    """Two of four requests meet both limits; a failed one is not good."""
    rows = [
        transcript(chunks_ms=[20, 30]),
        transcript(chunks_ms=[20, 30]),
        transcript(chunks_ms=[60, 70]),  # TTFT 60
        transcript(chunks_ms=[20, 200]),  # TPOT 180
        transcript(chunks_ms=[], error="HTTP 503"),
    ]

    # 2 good in 10 s
    assert (
        0.2
        == run(rows, slo_ms=(("ttft", 50.0), ("tpot", 100.0)))[
            "request_goodput"
        ]
    )
    assert "request_goodput" not in run(rows)


def test_latency_of_a_request_that_cannot_be_is_an_error():
    """A first chunk before the request was sent is a fault of the clock, not a small number."""
    with pytest.raises(ValueError, match="not a completed request"):
        run([transcript(sent_ms=30, chunks_ms=[20])])
