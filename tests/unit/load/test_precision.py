"""Precision: a load is repeated until its parts agree, and no further."""

import msgspec
import numpy as np
import pytest

from perfgate.load import precision
from perfgate.load.repetition import Repetition, RequestRow
from perfgate.load.workload import Synthetic, Workload, build_requests
from tests.support import builders as m

CLOSED = Workload(
    name="closed",
    prompts=Synthetic(input_len_tokens=8, output_len_tokens=20),
    num_prompts=40,
    max_concurrency=4,
)
STEADY = msgspec.structs.replace(CLOSED, staggered=True, num_prompts=400)
SINGLE = msgspec.structs.replace(CLOSED, max_concurrency=1, num_prompts=16)


def repetition(workload, noise, ttft_noise=0.0, seed=0, index=0) -> Repetition:
    """Requests on a server whose waves, or single requests, differ by that much."""
    rng = np.random.default_rng(seed + index)
    free_ms = [0.0] * workload.max_concurrency
    speed = 1.0
    rows = []
    for request in build_requests(workload, index, 100):
        if request.index % workload.max_concurrency == 0:
            speed = 1 + noise * rng.standard_normal()
        sent_ms = min(free_ms)
        slot = free_ms.index(sent_ms)
        ttft_ms = 5.0 * (1 + ttft_noise * rng.standard_normal())
        gaps = [2.0 * speed] * (request.output_len_tokens - 1)
        free_ms[slot] = sent_ms + ttft_ms + sum(gaps)
        row = RequestRow(
            scheduled_ms=0.0,
            sent_ms=sent_ms,
            ttft_ms=ttft_ms,
            e2el_ms=ttft_ms + sum(gaps),
            output_tokens=request.output_len_tokens,
            itl_ms=tuple(gaps),
            error=None,
        )
        rows.append(row)
    empty = m.repetition(index, 1.0)
    return msgspec.structs.replace(empty, requests=tuple(rows))


@pytest.mark.parametrize("workload", [CLOSED, STEADY, SINGLE])
def test_a_load_whose_parts_agree_is_known_at_once(workload):
    """A second repetition would tell nothing."""
    assert precision.is_known(workload, [repetition(workload, 1e-5)])


@pytest.mark.parametrize(
    ("workload", "noise"), [(CLOSED, 0.02), (STEADY, 0.2), (SINGLE, 0.02)]
)
def test_a_load_whose_parts_differ_is_not(workload, noise):
    """A part of the steady state holds many requests, which average more."""
    rows = [repetition(workload, noise, index=index) for index in range(3)]

    assert not precision.is_known(workload, rows[:1])
    assert not precision.is_known(workload, rows)


def test_more_repetitions_make_it_known():
    """The error falls with the root of their number."""
    rows = [repetition(CLOSED, 0.012, index=index) for index in range(90)]

    errors = [precision.errors(CLOSED, rows[:count]) for count in (1, 8, 90)]
    found = [row["itl"] for row in errors]
    assert found == sorted(found, reverse=True)
    assert found[0] / found[2] == pytest.approx(90**0.5, rel=0.5)
    assert not precision.is_known(CLOSED, rows[:1])
    assert precision.is_known(CLOSED, rows)


def test_first_tokens_count_for_a_single_stream():
    """They are judged there, and scatter far more than the gaps."""
    noisy = repetition(SINGLE, 1e-5, ttft_noise=0.3)

    assert not precision.is_known(SINGLE, [noisy])
    assert precision.is_known(CLOSED, [repetition(CLOSED, 1e-5, 0.001)])


@pytest.mark.parametrize(
    "fields", [{"max_concurrency": None}, {"request_rate": 4.0}]
)
def test_a_burst_and_an_open_loop_are_never_cut(fields):
    """One is an event, the other a mixture of how many requests overlap."""
    other = msgspec.structs.replace(CLOSED, **fields)

    assert not precision.is_known(other, [repetition(CLOSED, 1e-5)])


def test_few_parts_tell_nothing():
    """Two waves may agree by chance."""
    short = msgspec.structs.replace(CLOSED, num_prompts=8)

    assert not precision.is_known(short, [repetition(short, 0.0)])


def test_invalid_repetitions_do_not_count():
    """What they measured is not the server."""
    quiet = repetition(CLOSED, 1e-5)
    invalid = msgspec.structs.replace(quiet, invalid=("a stall",))

    assert not precision.is_known(CLOSED, [invalid])
    assert precision.is_known(CLOSED, [invalid, quiet])
    assert not precision.is_known(CLOSED, [])


def test_tokens_that_come_in_one_chunk_have_no_error_of_their_gaps():
    """Their gaps are zero; the load is repeated as often as it may be."""
    row = repetition(CLOSED, 0.0)
    requests = []
    for request in row.requests:
        gaps = (0.0,) * len(request.itl_ms)
        requests.append(msgspec.structs.replace(request, itl_ms=gaps))
    merged = msgspec.structs.replace(row, requests=tuple(requests))

    assert not precision.is_known(CLOSED, [merged])


def test_a_steady_load_has_ten_equal_parts():
    """From the end of the first wave, at 100 ms, to the last sending, at 200 ms."""

    def row(sent_ms, ttft_ms, gaps_ms):
        return RequestRow(
            scheduled_ms=sent_ms,
            sent_ms=sent_ms,
            ttft_ms=ttft_ms,
            e2el_ms=ttft_ms + sum(gaps_ms),
            output_tokens=len(gaps_ms) + 1,
            itl_ms=tuple(gaps_ms),
            error=None,
        )

    workload = msgspec.structs.replace(STEADY, max_concurrency=2)
    rows = (
        row(0.0, 20.0, [20.0] * 2),
        row(0.0, 20.0, [20.0] * 4),
        row(60.0, 42.0, [2.0] * 60),
        row(200.0, 5.0, [2.0] * 3),
    )
    repetition = msgspec.structs.replace(m.repetition(0, 1.0), requests=rows)

    parts = list(precision.parts_of(workload, repetition))

    # The first chunk of the third request, at 102 ms, ends no gap.
    assert [(2.0, 500.0)] * 10 == [
        (part.itl_ms, part.tokens_per_s) for part in parts
    ]
