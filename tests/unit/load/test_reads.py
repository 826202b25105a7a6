"""Packed reads: what was appended comes out again, in little memory."""

import sys

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from perfgate.load.reads import ReadLog, Reads

PAIRS = st.lists(
    st.tuples(st.integers(0, 2**62), st.binary(min_size=1, max_size=9))
)


@given(PAIRS)
def test_reads_come_out_as_they_went_in(pairs):
    """Times and pieces, also after they were sent to another process."""
    reads = Reads.of_pairs(pairs)
    copy = msgspec.msgpack.decode(msgspec.msgpack.encode(reads), type=Reads)

    assert pairs == list(reads) == list(copy)
    assert (len(pairs), b"".join(data for _, data in pairs)) == (
        len(reads),
        reads.body,
    )


def test_a_read_takes_little_memory():
    """At most 20 bytes beyond its payload: no object for each read."""
    log = ReadLog()
    for count in range(1, 10_001):
        log.body += bytes(250)
        log.note(count, count)
    reads = log.reads(0)
    size = sum(
        sys.getsizeof(part)
        for part in (
            reads.body,
            reads.packed_ns,
            reads.packed_client_ns,
            reads.packed_ends,
        )
    )

    assert size / 10_000 < 250 + 21


def test_the_kernels_times_count_where_it_told_them():
    """On the client's clock: 1,000 ns less; the client's own time for the other read."""
    log = ReadLog()
    for client_ns, kernel_ns in ((60, 1050), (80, 0)):
        log.body += b"x"
        log.note(client_ns, kernel_ns)

    used, ignored = log.reads(1000), log.reads()

    assert ([50, 80], [60, 80]) == (list(used.at_ns), list(used.client_ns))
    assert ([60, 80], []) == (list(ignored.at_ns), list(ignored.client_ns))


def test_a_read_without_any_of_the_body_is_none():
    """Headers, or the length of a chunk."""
    log = ReadLog()
    for data in (b"", b"a", b"", b"bc"):
        log.body += data
        log.note(len(log.body))

    assert [(1, b"a"), (3, b"bc")] == list(log.reads())
