"""A connection's parser: every framing, cut anywhere, and bytes of any kind."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perfgate.load.http import Connection, Exchange
from perfgate.load.response import read
from perfgate.load.workload import Request

EVENTS = [
    *[b'data: {"choices":[{"text":" a"}]}'] * 3,
    b'data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":3}}',
    b"data: [DONE]",
]
BODY = b"".join(event + b"\r\n\r\n" for event in EVENTS)
INTERIM = b"HTTP/1.1 103 Early Hints\r\nContent-Length: 9\r\nLink: </x>\r\n\r\n"
FRAMINGS = {
    "length": b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BODY)
    + BODY,
    "chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    + b"%x\r\n%s\r\n%x\r\n%s\r\n0\r\n\r\n"
    % (7, BODY[:7], len(BODY) - 7, BODY[7:]),
    "HTTP/1.0": b"HTTP/1.0 200 OK\r\n\r\n" + BODY,
    "close": b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + BODY,
}


class Socket:
    """Takes what is written; so many bytes of it were not sent yet."""

    unsent = 0

    def write(self, data):
        """Nothing."""

    def abort(self):
        """Nothing."""

    def close(self):
        """Nothing."""

    def get_write_buffer_size(self):
        """As a test says."""
        return self.unsent


class Owner:
    """Counts what is over, and the connections that can be used again."""

    def __init__(self):
        self.over = []
        self.given_back = []

    def finished(self, exchange, connection):
        """Keep it."""
        self.over.append(exchange)
        if connection is not None:
            self.given_back.append(connection)

    def lost(self, connection):
        """Nothing."""


def received(data, sizes):
    """The transcript of an answer that came in reads of these sizes, in turn."""
    owner = Owner()
    connection = Connection(owner)
    connection.connection_made(Socket())
    connection.send(Exchange(Request(0, (1,), 3, 0), b""))
    at = turn = 0
    while at < len(data):
        size = sizes[turn % len(sizes)]
        connection.data_received(data[at : at + size])
        at, turn = at + size, turn + 1
    connection.connection_lost(None)
    (exchange,) = owner.over
    return read(exchange.record())


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("before", [b"", INTERIM, INTERIM * 2])
def test_cut_at_every_byte(framing, before):
    """Interim answers before it, and whatever ends the body."""
    data = before + FRAMINGS[framing]
    for cut in range(1, len(data)):
        t = received(data, [cut, len(data)])

        assert (None, 3) == (t.error, len(t.chunk_ns)), cut


@pytest.mark.parametrize(("unsent", "given_back"), [(0, 1), (5, 0)])
def test_a_connection_with_an_unsent_rest_is_not_used_again(unsent, given_back):
    """A front that refuses a long request early would take the rest for the next one."""
    owner = Owner()
    connection = Connection(owner)
    connection.connection_made(Socket())
    connection.transport.unsent = unsent
    connection.send(Exchange(Request(0, (1,), 3, 0), b""))
    connection.data_received(b"HTTP/1.1 413 Long\r\nContent-Length: 1\r\n\r\nx")

    assert (1, given_back) == (len(owner.over), len(owner.given_back))


@settings(deadline=None)
@given(
    st.sampled_from(sorted(FRAMINGS)),
    st.lists(st.integers(1, 60), min_size=1, max_size=8),
)
def test_cut_anywhere(framing, sizes):
    """Also byte by byte."""
    t = received(INTERIM + FRAMINGS[framing], sizes)

    assert (None, 3) == (t.error, len(t.chunk_ns))


@settings(deadline=None)
@given(
    st.sampled_from(sorted(FRAMINGS)),
    st.integers(0, 400),
    st.binary(max_size=12),
    st.integers(0, 12),
    st.lists(st.integers(1, 60), min_size=1, max_size=4),
)
def test_damaged_anywhere(framing, place, inserted, removed, sizes):
    """Nothing raises, each request ends once, and a reason is one printable line."""
    data = FRAMINGS[framing]
    place %= len(data)
    damaged = data[:place] + inserted + data[place + removed :]
    t = received(damaged or b"x", sizes)

    assert t.error is None or t.error.isprintable()
