"""A steady closed loop: the first wave is staggered, and what is before and after it is cut."""

import itertools

import msgspec
import pytest

from perfgate.load.lengths import Drawn
from perfgate.load.request_times import steady_window
from perfgate.load.response import Transcript
from perfgate.load.workload import Synthetic, Workload, build_requests

STEADY = Workload(
    name="steady",
    prompts=Synthetic(input_len_tokens=8, output_len_tokens=20),
    num_prompts=24,
    max_concurrency=4,
    staggered=True,
)
STEP_NS = 1000


def lengths(workload):
    """Tokens asked of each request."""
    requests = build_requests(workload, 0, 100)
    return [request.output_len_tokens for request in requests]


def test_answers_of_the_first_wave_are_evenly_spaced():
    """A quarter, a half, three quarters and the whole; all others are as declared."""
    assert [5, 10, 15, 20] + [20] * 20 == lengths(STEADY)


def test_drawn_lengths_are_shortened_too():
    """Each by its place in the wave."""
    drawn = Drawn(input_quantiles=(4, 8), output_quantiles=(40, 40))
    mixed = msgspec.structs.replace(STEADY, prompts=drawn)

    assert [10, 20, 30, 40, 40] == lengths(mixed)[:5]


def test_it_is_another_load():
    """Its baselines are its own, and those of other loads are as before."""
    plain = msgspec.structs.replace(STEADY, staggered=False)

    assert STEADY.fingerprint() != plain.fingerprint()
    assert ("steady", "closed") == (STEADY.arrivals, plain.arrivals)
    assert (4, 0) == (STEADY.first_wave, plain.first_wave)


@pytest.mark.parametrize(
    "fields",
    [
        {"max_concurrency": 1},
        {"max_concurrency": None},
        {"max_concurrency": 4, "request_rate": 2.0},
    ],
)
def test_only_a_closed_loop_can_be_staggered(fields):
    """Others have no slots that free up."""
    with pytest.raises(ValueError, match="staggered needs max_concurrency"):
        msgspec.structs.replace(STEADY, **fields)


def streams(workload):
    """Its requests on a server that decodes all slots in step."""
    free_ns = [0] * workload.max_concurrency
    transcripts = []
    for request in build_requests(workload, 0, 100):
        sent_ns = min(free_ns)
        slot = free_ns.index(sent_ns)
        chunks = []
        for place in range(request.output_len_tokens):
            chunks.append(sent_ns + (place + 1) * STEP_NS)
        free_ns[slot] = chunks[-1]
        transcript = Transcript(
            index=request.index,
            due_ns=0,
            sent_ns=sent_ns,
            end_ns=chunks[-1],
            chunk_ns=tuple(chunks),
            asked_tokens=request.output_len_tokens,
            sent_tokens=8,
            input_tokens=8,
            output_tokens=request.output_len_tokens,
            error=None,
        )
        transcripts.append(transcript)
    return transcripts


def test_slots_free_up_evenly():
    """One each five steps, where lock-step frees all four at once."""
    sent = sorted({t.sent_ns for t in streams(STEADY)})
    gaps = {later - now for now, later in itertools.pairwise(sent)}
    plain = msgspec.structs.replace(STEADY, staggered=False)

    assert {5 * STEP_NS} == gaps
    assert 6 == len({t.sent_ns for t in streams(plain)})


def test_the_window_lies_between_the_first_wave_and_the_last_sending():
    """There all slots decode; start and end are cut, whatever happened in them."""
    window = steady_window(streams(STEADY), False, STEADY.first_wave)

    assert window == (20 * STEP_NS, 100 * STEP_NS)


def test_a_load_of_little_more_than_a_wave_has_no_window():
    """Its slots are never all in the middle of an answer."""
    short = msgspec.structs.replace(STEADY, num_prompts=5)

    assert steady_window(streams(short), False, short.first_wave) is None
