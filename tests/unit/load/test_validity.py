"""Validity of a measurement: invalid ones are refused, ordinary ones are not."""

import dataclasses

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfgate.load.validity import POLICIES, examine, find_stalls
from perfgate.load.workload import Synthetic, Workload
from tests.support.builders import (
    MS,
    recording,
    stalled,
    steady_streams,
    transcript,
)

CUDA, CPU = POLICIES["cuda"], POLICIES["cpu"]
CLOSED = Workload(name="closed", num_prompts=8, max_concurrency=8)


def stalls(rows, policy=CUDA, gaps_ms=()):
    """Those that are the server's."""
    return [
        s
        for s in find_stalls(rows, recording(5000, gaps_ms), policy)
        if not s.client_absent
    ]


def reasons(
    rows,
    policy=CUDA,
    workload=CLOSED,
    gaps_ms=(),
    end_ms=5000.0,
    **server_values,
):
    """Why the run may not be judged."""
    return examine(
        workload, rows, recording(end_ms, gaps_ms), server_values, policy
    ).invalid


def changed(row, **fields):
    """A transcript with other fields."""
    return dataclasses.replace(row, **fields)


@given(
    length_ms=st.floats(50, 2000),
    at_ms=st.floats(60, 480),
    count=st.integers(1, 32),
    itl_ms=st.floats(4, 12),
)
def test_every_global_gap_of_50_ms_is_found(length_ms, at_ms, count, itl_ms):
    """One gap of 50 ms to 2 s while 1 to 32 streams decode is found once, with its length."""
    streams = steady_streams(
        count=count, tokens=int(600 / itl_ms), itl_ms=itl_ms
    )
    found = stalls(stalled(streams, at_ms, length_ms))

    assert 1 == len(found)
    # the gap also holds the time between two chunks, at most one step
    assert length_ms <= found[0].length_ms + 0.01 <= length_ms + itl_ms + 0.02


@pytest.mark.parametrize(
    ("policy", "end_ms", "length_ms", "is_valid"),
    [
        (CUDA, 50_000.0, 50, True),
        (CUDA, 50_000.0, 140, True),
        (CUDA, 50_000.0, 160, False),
        (CUDA, 5_000.0, 50, False),
        (CPU, 500_000.0, 400, False),
    ],
)
def test_short_stalls_of_a_long_load_are_notes(
    policy, end_ms, length_ms, is_valid
):
    """Up to 0.3 % of the load on a GPU: 150 ms of 50 s."""
    rows = stalled(
        steady_streams(count=4, tokens=100, itl_ms=5), 250, length_ms
    )

    found = examine(CLOSED, rows, recording(end_ms), {}, policy)

    assert is_valid is not any("fell silent" in text for text in found.invalid)
    assert is_valid is any("fell silent" in text for text in found.notes)


@given(
    length_ms=st.floats(50, 2000),
    chunk=st.integers(1, 49),
    count=st.integers(2, 32),
)
def test_one_slow_stream_is_no_stall(length_ms, chunk, count):
    """While the others go on, one silent stream is no stall, however long."""
    streams = steady_streams(count=count, tokens=500)
    slow = [
        t + (length_ms if k >= chunk else 0)
        for k, t in enumerate(streams[0][:50])
    ]
    rows = [
        transcript(chunks_ms=times, index=i)
        for i, times in enumerate([slow, *streams[1:]])
    ]

    assert [] == stalls(rows)


def test_steady_streams_have_no_stall():
    """Nothing is found where nothing is."""
    assert () == reasons(stalled(steady_streams(), 0, 0))


def test_prefill_of_other_requests_is_no_stall():
    """Decoding waits for prefill, in proportion to the requests prefilled: no stall."""
    rows = [
        transcript(
            chunks_ms=[400 + 30 * k + (120 if k > 5 else 0) for k in range(20)],
            index=i,
        )
        for i in range(8)
    ]
    # first wave: 8 requests in 400 ms, 50 ms each; later two come together and
    # take 120 ms
    rows += [
        transcript(
            sent_ms=560,
            chunks_ms=[700 + 30 * k for k in range(20)],
            index=8 + i,
        )
        for i in range(2)
    ]

    assert [] == stalls(rows)


def test_a_stall_is_not_excused_by_a_request_that_happens_to_wait():
    """A second of silence is a stall.

    Even if a request got its first token at its end and others took 20 ms
    for theirs.
    """
    streams = steady_streams(count=8)
    rows = stalled(streams, 200, 1000)
    rows += [
        transcript(
            sent_ms=30 * k, chunks_ms=[30 * k + 20, 30 * k + 30], index=20 + k
        )
        for k in range(1, 5)
    ]
    rows += [transcript(sent_ms=205, chunks_ms=[1210, 1220], index=30)]

    assert 1 == len(stalls(rows))


def test_idle_time_of_an_open_loop_is_no_stall():
    """Between two requests nothing is in flight: that silence is the workload's."""
    rows = [
        transcript(sent_ms=s, chunks_ms=[s + 20, s + 30, s + 40])
        for s in (0, 2000, 4000)
    ]

    assert [] == stalls(rows)


def test_single_stream_stall_is_found():
    """With one request at a time, its silence is everybody's."""
    streams = [[20 + 10 * k for k in range(50)]]

    assert 1 == len(stalls(stalled(streams, 200, 60)))


def test_the_clients_own_absence_is_told_apart():
    """A gap in which the client's heartbeat was missing is a note, not the server's stall."""
    rows = stalled(steady_streams(), 200, 70)
    found = examine(CLOSED, rows, recording(9000, [(205, 270)]), {}, CUDA)

    assert () == found.invalid
    assert "the client itself did not run" in found.notes[0]


def test_a_client_that_is_often_absent_cannot_measure():
    """Absences of more than 1 % of the run spoil it, whatever the streams look like."""
    gaps = [(100 * k, 100 * k + 30) for k in range(1, 10)]

    # 9 x 30 ms of 5 s are 5.4 %
    assert (
        "the client did not run for a total of 270 ms: its machine is too busy to measure on",
    ) == reasons(stalled(steady_streams(), 0, 0), gaps_ms=gaps)


@pytest.mark.parametrize(("policy", "count"), [(CUDA, 1), (CPU, 0)])
def test_hiccups_of_a_busy_two_core_machine(policy, count):
    """120 ms of silence is a stall on a GPU host.

    Where the engine takes every core it is ordinary scheduling.
    """
    assert count == len(stalls(stalled(steady_streams(), 200, 120), policy))


def test_stalls_on_the_cpu_are_found_from_its_floor():
    """400 ms are a stall there too, if steps take 10 ms; five steps of 90 ms are none."""
    assert 1 == len(stalls(stalled(steady_streams(), 200, 400), CPU))
    assert [] == stalls(stalled(steady_streams(itl_ms=90), 200, 300), CPU)


@given(st.floats(-1000, 1000), st.randoms())
def test_order_and_clock_do_not_matter(offset_ms, random):
    """The rule looks at differences of times."""
    rows = stalled(
        [[t + 2000 + offset_ms for t in times] for times in steady_streams()],
        2200 + offset_ms,
        100,
    )
    rows = [changed(t, sent_ns=int((2000 + offset_ms) * MS)) for t in rows]
    random.shuffle(rows)

    assert 1 == len(stalls(rows))


def test_failed_and_short_requests_are_named():
    """Every way in which answers differ from what was asked for is a reason."""
    rows = [
        transcript(index=0),
        transcript(index=1, error="HTTP 503: overloaded", chunks_ms=[]),
    ]
    rows.append(changed(transcript(index=2), output_tokens=2))
    rows.append(changed(transcript(index=3), input_tokens=9))

    assert (
        "1 of 4 requests failed: HTTP 503: overloaded",
        "1 request with another output length than requested (request 2: requested 3 "
        "tokens, got 2)",
        (
            "1 request with more chunks than tokens: a gap is not the time of a token "
            "(request 2: 3 chunks, 2 tokens)"
        ),
        (
            "1 request with another input length than sent (request 3: sent 8 tokens, "
            "the server counted 9)"
        ),
    ) == reasons(rows)


def test_more_chunks_than_tokens_are_a_reason():
    """Then no gap is the time of a token, and the server counts fewer tokens than it sends."""
    rows = [
        transcript(),
        changed(transcript(index=1, output_tokens=2), asked_tokens=2),
    ]

    assert (
        (
            "1 request with more chunks than tokens: a gap is not the time of a token "
            "(request 1: 3 chunks, 2 tokens)"
        ),
    ) == reasons(rows)


def test_merged_chunks_are_noted():
    """Chunks of several tokens make ITL a time per chunk."""
    found = examine(
        CLOSED, [transcript(output_tokens=6)], recording(), {}, CUDA
    )

    assert (
        "6 tokens came in 3 chunks, some of several tokens: ITL is per chunk, not per token",
    ) == found.notes


def test_preemptions_and_prefix_hits_are_reasons():
    """The server's own counters: preempted requests, and prompts answered out of the cache."""
    rows = [transcript()] * 100

    assert (
        "the engine preempted 2 requests: its KV cache was too small for the workload",
    ) == reasons(rows, preemptions=2.0)
    # 800 tokens sent: 8 are one per cent, which engines that cache single
    # tokens reach by chance
    assert () == reasons(rows, prefix_cache_hit_tokens=8.0)
    assert (
        "the prefix cache answered 9 of 800 input tokens: these prompts were sent before",
    ) == reasons(rows, prefix_cache_hit_tokens=9.0)
    shared = msgspec.structs.replace(
        CLOSED, prompts=Synthetic(shared_prefix_tokens=8)
    )
    assert () == reasons(rows, workload=shared, prefix_cache_hit_tokens=700.0)


def test_an_open_loop_that_is_late_is_a_reason():
    """At 10 requests/s 25 ms are allowed at p99, a quarter of the mean gap.

    A closed loop is never late.
    """
    on_time = [changed(transcript(), due_ns=-20 * MS)] * 100
    behind = [changed(transcript(), due_ns=-40 * MS)] * 100
    loop = Workload(name="open", num_prompts=100, request_rate=10.0)

    assert () == reasons(on_time, workload=loop)
    assert (
        "the client fell behind: p99 lateness of its requests 40 ms, limit 25 ms",
    ) == reasons(behind, workload=loop)
    assert () == reasons(behind)


def test_a_run_without_a_completed_request():
    """Nothing to look for stalls in; the failures say it all."""
    assert ("2 of 2 requests failed: cut",) == reasons(
        [transcript(chunks_ms=[], error="cut")] * 2
    )


def waves(stalled_at_ms=float("inf")):
    """Four waves of a closed loop as an H200 answers it, optionally with a stall of 1.3 s.

    The prompts of a wave are prefilled in one step of 75 ms, their first chunks
    leave within 8 ms, and every step takes 5 ms; in the first wave one request
    is prefilled alone, before the others.
    """

    def at(time_ms):
        return time_ms + (1300 if time_ms > stalled_at_ms else 0)

    rows = []
    for wave in range(4):
        begun = 500 * wave
        for k in range(32):
            first = begun + (15 if (wave, k) == (0, 0) else 90) + 0.25 * k
            later = [begun + 100 + 0.05 * k + 5 * step for step in range(60)]
            rows.append(
                transcript(
                    sent_ms=at(begun),
                    chunks_ms=[at(t) for t in (first, *later)],
                    index=len(rows),
                )
            )
    return rows


def test_prefill_of_a_whole_wave_is_no_stall():
    """One stream is silent while 31 prompts are prefilled in one step: no stall.

    The same holds for all streams between two waves.
    """
    assert [] == stalls(waves())


def test_a_stall_among_waves_is_found():
    """A silence of 1.3 s in the middle of decoding is found among such waves."""
    assert [1300] == [
        round(stall.length_ms) for stall in stalls(waves(stalled_at_ms=700))
    ]


def test_a_stall_is_told_with_its_time_since_the_start():
    """The clock of the recording begins at any time."""
    rows = [
        changed(
            row,
            sent_ns=row.sent_ns + 700 * MS,
            chunk_ns=tuple(time_ns + 700 * MS for time_ns in row.chunk_ns),
        )
        for row in stalled(steady_streams(), 300.0, 400.0)
    ]
    whole = msgspec.structs.replace(recording(5000), start_ns=700 * MS)

    (stall,) = find_stalls(rows, whole, CUDA)

    # The first stream has a chunk at 300 ms, the second one at 301 + 400 ms.
    assert (300.0, 401.0) == pytest.approx((stall.start_ms, stall.length_ms))
