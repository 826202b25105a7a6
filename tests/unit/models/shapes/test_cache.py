"""Cache: growing, bounded, fixed and index parts of a sequence."""

from perfgate.models.shapes.cache import CachePart


def test_a_growing_part_has_an_entry_for_each_token():
    """Its bytes grow with the context, and a step reads all of it."""
    part = CachePart(kind="growing", values=100, pieces=4)

    assert 200 == part.bytes_per_token("bfloat16")
    assert 200_000 == part.size_bytes("bfloat16", 1000)
    assert 200_000 == part.read_bytes("bfloat16", 1000)
    assert (2, 4) == (part.divisor(2), part.divisor(8))


def test_a_window_stops_growing():
    """It has no bytes per token in the long run."""
    part = CachePart(kind="window", values=100, window=128)

    assert 0 == part.bytes_per_token("bfloat16")
    assert 64 * 200 == part.size_bytes("bfloat16", 64)
    assert 128 * 200 == part.size_bytes("bfloat16", 10_000)


def test_a_fixed_part_has_its_own_precision():
    """A state in float32 is that whatever the cache's precision."""
    part = CachePart(kind="fixed", values=100, bytes_per_value=4)

    assert 0 == part.bytes_per_token("fp8")
    assert 400 == part.size_bytes("fp8", 0) == part.size_bytes("fp8", 9)


def test_entries_may_stand_for_several_tokens():
    """And a step may read a chosen few of them."""
    part = CachePart(
        kind="growing", values=100, tokens_per_entry=4, entries_read=10
    )

    assert 50 == part.bytes_per_token("bfloat16")
    assert 25 * 200 == part.size_bytes("bfloat16", 100)
    assert 10 * 200 == part.read_bytes("bfloat16", 100)
