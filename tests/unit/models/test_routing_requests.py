"""Counts by request: written as text and read again; damaged text is an error."""

import base64
import zlib

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perfgate.models.routing import (
    LayerShares,
    RequestCounts,
    RoutingUnreadable,
)
from perfgate.models.routing_requests import decode, encode, group_size

# Two requests of two layers with two experts.
COUNTS = (3, 1, 2, 2, 5, 1, 4, 2)
TOTALS = ((8, 2), (6, 4))


def shares(requests, totals=TOTALS):
    """A launch with these counts by request."""
    noise = (0.1,) * len(totals)
    return LayerShares(counts=totals, noise=noise, requests=requests)


def text_of(raw):
    """Bytes as a baseline stores them."""
    return base64.b64encode(zlib.compress(raw)).decode("ascii")


@given(st.lists(st.integers(1, 2**20), min_size=4, max_size=4))
@settings(max_examples=30, deadline=None)
def test_counts_survive(counts):
    """What is written is read again, whatever the size of the counts."""
    totals = ((counts[0] + counts[2], counts[1] + counts[3]),)

    launch = shares(encode(2, 1, counts), totals)

    assert tuple(counts) == decode(launch)


@pytest.mark.parametrize(
    ("requests", "layers", "experts", "expected"),
    [(64, 4, 8, 1), (256, 32, 8, 1), (257, 32, 8, 2), (256, 48, 128, 26)],
    ids=["small", "mixtral-8x7b", "one-more", "many-experts"],
)
def test_large_models_count_requests_together(
    requests, layers, experts, expected
):
    """No more than 65,536 counts of a launch are stored."""
    assert expected == group_size(requests, layers, experts)


def test_text_of_a_large_launch_is_short():
    """256 requests, 32 layers, 8 experts, two launches: below 200 kB in a file."""
    counts = []
    for number in range(256 * 32 * 8):
        counts.append(number * 7919 % 33)

    stored = encode(256, 1, counts)

    assert 2 * len(stored.encoded) < 200_000


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"encoded": "not base64!"}, "damaged"),
        ({"encoded": "AAAA"}, "damaged"),
        ({"encoded": "\u00e4"}, "damaged"),
        ({"encoded": text_of(bytes(COUNTS))[:8]}, "cut off"),
        ({"encoded": text_of(bytes(7))}, "7 bytes, not 1, 2 or 4"),
        ({"encoded": text_of(bytes(24))}, "24 bytes"),
        ({"encoded": text_of(bytes(10_000))}, "33 bytes"),
        ({"requests": 4}, "8 bytes"),
        ({"requests": 0}, "0 requests in groups of 1"),
        ({"group_size": 0}, "2 requests in groups of 0"),
        (
            {"encoded": text_of(bytes((4, *COUNTS[1:])))},
            "expert 0 of layer 0 9 times, the launch 8 times",
        ),
        (
            {"encoded": text_of(bytes((0, 0, 2, 2, 8, 2, 4, 2)))},
            "group 0 chose no expert in layer 0",
        ),
    ],
    ids=[
        "no-base64",
        "no-zlib",
        "no-ascii",
        "cut-off",
        "odd-bytes",
        "three-bytes",
        "too-long",
        "more-requests",
        "no-requests",
        "no-groups",
        "other-totals",
        "empty-request",
    ],
)
def test_damaged_text_is_an_error(changed, problem):
    """Each damage is named."""
    stored = msgspec.structs.replace(encode(2, 1, COUNTS), **changed)

    with pytest.raises(RoutingUnreadable, match=problem):
        decode(shares(stored))


def test_a_launch_without_them_is_an_error():
    """Whoever asks for the requests must have them."""
    with pytest.raises(RoutingUnreadable, match="no counts by request"):
        decode(shares(None))


def test_form_of_the_text():
    """The documented form: base64 of zlib of one byte for each small count."""
    stored = encode(2, 1, COUNTS)

    raw = zlib.decompress(base64.b64decode(stored.encoded))

    assert bytes(COUNTS) == raw
    expected = RequestCounts(requests=2, group_size=1, encoded=stored.encoded)
    assert expected == stored
