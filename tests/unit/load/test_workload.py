"""Workloads: the requests that are sent are those declared."""

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perfgate.load.workload import (
    Synthetic,
    UnusableWorkload,
    Workload,
    arrivals_ns,
    build_requests,
)

VOCAB = 1000


def closed(**fields):
    """A small closed-loop workload."""
    return msgspec.structs.replace(
        Workload(name="closed", num_prompts=8, max_concurrency=4), **fields
    )


def test_same_repetition_is_sent_again_alike():
    """A repetition's requests follow from the workload, its number and the vocabulary alone."""
    assert build_requests(closed(), 1, VOCAB) == build_requests(
        closed(), 1, VOCAB
    )


def test_repetitions_and_warm_ups_share_no_prompt():
    """An engine with a prefix cache sees no prompt twice."""
    prompts = [
        r.prompt_token_ids
        for k in (-3, -2, -1, 0, 1, 2)
        for r in build_requests(closed(), k, VOCAB)
    ]

    # 6 passes of 8 prompts
    assert 48 == len(set(prompts))


@settings(deadline=None, max_examples=30)
@given(
    length=st.integers(1, 60),
    output=st.integers(1, 60),
    ratio=st.floats(0, 0.9),
    first_id=st.integers(0, 10),
    repetition=st.integers(-3, 20),
)
def test_lengths_and_ids_stay_within_what_was_declared(
    length, output, ratio, first_id, repetition
):
    """Every id is in [first_id, vocab_size), every length within its ratio."""
    prompts = Synthetic(
        input_len_tokens=length,
        output_len_tokens=output,
        input_range_ratio=ratio,
        output_range_ratio=ratio,
        first_id=first_id,
    )
    requests = build_requests(closed(prompts=prompts), repetition, VOCAB)

    assert {True} == {
        first_id <= i < VOCAB for r in requests for i in r.prompt_token_ids
    }
    assert {True} == {
        max(1, np.floor(length * (1 - ratio)))
        <= len(r.prompt_token_ids)
        <= np.ceil(length * (1 + ratio))
        for r in requests
    }
    assert {True} == {
        1 <= r.output_len_tokens <= np.ceil(output * (1 + ratio))
        for r in requests
    }


def test_ratio_zero_makes_lengths_exact():
    """Without a range, all lengths are the declared ones."""
    requests = build_requests(
        closed(prompts=Synthetic(input_len_tokens=7, output_len_tokens=5)),
        0,
        VOCAB,
    )

    assert {(7, 5)} == {
        (len(r.prompt_token_ids), r.output_len_tokens) for r in requests
    }


def test_shared_prefix_is_the_same_in_all_repetitions():
    """The declared prefix is shared, and only that."""
    workload = closed(
        prompts=Synthetic(input_len_tokens=20, shared_prefix_tokens=12)
    )
    requests = [
        r for k in (-1, 0, 1) for r in build_requests(workload, k, VOCAB)
    ]

    assert 1 == len({r.prompt_token_ids[:12] for r in requests})
    assert 24 == len({r.prompt_token_ids[12:] for r in requests})
    assert workload.shares_prefixes


@settings(deadline=None, max_examples=30)
@given(
    rate=st.floats(0.1, 1000),
    burstiness=st.floats(0.1, 100),
    count=st.integers(1, 300),
)
def test_offered_rate_is_exact(rate, burstiness, count):
    """The last request is due at count / rate; arrivals never go backwards."""
    workload = Workload(
        name="open", num_prompts=count, request_rate=rate, burstiness=burstiness
    )
    arrivals = arrivals_ns(workload, count, np.random.default_rng(0))

    assert arrivals == sorted(arrivals)
    assert count / rate * 1e9 == pytest.approx(arrivals[-1], abs=1e3, rel=1e-9)


@pytest.mark.parametrize(
    ("burstiness", "variation"), [(1.0, 1.0), (0.25, 2.0), (4.0, 0.5)]
)
def test_burstiness_is_the_gamma_shape(burstiness, variation):
    """The coefficient of variation of the gaps is 1 / sqrt(burstiness): 1 for Poisson."""
    workload = Workload(
        name="open", num_prompts=1, request_rate=1.0, burstiness=burstiness
    )
    gaps = np.diff(arrivals_ns(workload, 20_000, np.random.default_rng(1)))

    assert variation == pytest.approx(np.std(gaps) / np.mean(gaps), rel=0.06)


def test_without_a_rate_everything_is_due_at_once():
    """A rate of None is the other clients' inf."""
    assert {0} == {r.arrival_ns for r in build_requests(closed(), 0, VOCAB)}


@pytest.mark.parametrize(
    ("fields", "batch", "arrivals"),
    [
        ({"max_concurrency": 1}, 1, "single"),
        ({"max_concurrency": 32}, 32, "closed"),
        ({"max_concurrency": 64, "num_prompts": 8}, 8, "closed"),
        ({}, 100, "burst"),
        ({"request_rate": 2.0}, None, "open"),
    ],
)
def test_requests_in_flight(fields, batch, arrivals):
    """A burst keeps all of them; an open loop no number."""
    workload = Workload(name="w", **{"num_prompts": 100, **fields})

    assert (batch, arrivals) == (workload.batch, workload.arrivals)


def test_fingerprint_is_of_what_is_sent_and_not_of_its_name():
    """Name, repetitions and SLOs do not change what is sent; lengths, seed and arrivals do."""
    same = {
        closed(**f).fingerprint()
        for f in (
            {},
            {"name": "x"},
            {"repetitions": 9},
            {"slo_ms": (("ttft", 1.0),)},
        )
    }
    others = [
        {"seed": 1},
        {"num_prompts": 9},
        {"max_concurrency": 5},
        {"request_rate": 1.0},
    ]
    others.append({"prompts": Synthetic(output_len_tokens=33)})

    assert 1 == len(same)
    assert 6 == len({closed(**f).fingerprint() for f in others} | same)


def test_workload_survives_json_and_can_be_a_key():
    """It is stored with the results, and used as a key of dicts."""
    workload = closed(
        prompts=Synthetic(shared_prefix_tokens=3), slo_ms=(("tpot", 30.0),)
    )

    assert workload == msgspec.json.decode(
        msgspec.json.encode(workload), type=Workload
    )
    assert 1 == len(
        {
            workload,
            closed(
                prompts=Synthetic(shared_prefix_tokens=3),
                slo_ms=(("tpot", 30.0),),
            ),
        }
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"num_prompts": 0},
        {"request_rate": 0.0},
        {"burstiness": 0.0},
        {"burstiness": math.nan},
        {"slo_ms": (("ttft", math.inf),)},
        {"slo_ms": (("ttft", 5.0), ("tpot", math.nan))},
        {"max_concurrency": 0},
        {"repetitions": 0},
    ],
)
def test_impossible_workloads_are_refused(fields):
    """A workload that cannot be sent cannot be made."""
    with pytest.raises(ValueError, match="closed"):
        Workload(**({"name": "closed", "num_prompts": 1} | fields))


def test_vocabulary_without_ordinary_ids_is_refused():
    """Below first_id there are only special tokens."""
    with pytest.raises(UnusableWorkload, match="vocabulary of 3"):
        build_requests(closed(), 0, 3)


@pytest.mark.parametrize(
    ("fields", "size"),
    [
        # a burst's shape is its size; a closed loop needs two per slot; an open
        # loop ten seconds of arrivals
        ({"max_concurrency": None, "num_prompts": 100}, 100),
        ({"max_concurrency": 16, "num_prompts": 100}, 32),
        ({"request_rate": 4.0, "num_prompts": 100}, 40),
        ({"request_rate": 0.5, "num_prompts": 100}, 16),
        ({"warm_up_prompts": 5, "num_prompts": 100}, 5),
    ],
)
def test_warm_up_covers_the_shapes(fields, size):
    """Fewer prompts than the measurement, but as many as its batch sizes need."""
    assert size == closed(**fields).warm_up_size()
