"""The session of requests: its deadline holds for all of an answer."""

import socket

import pytest

from perfgate.web_session import Deadline, session
from tests.support.raw_server import serving, whole


def test_an_answer_in_time():
    """The deadline does nothing to it, and no descriptor stays open."""
    with serving(whole(b"ok")) as server, Deadline(5) as deadline:
        with session(deadline, None) as opened:
            assert b"ok" == opened.get(server.url, timeout=5).content
        deadline.check()

    assert not deadline.is_over


def test_the_end_of_a_watched_connection():
    """Once the deadline is over, a blocked read ends, and so does what comes later."""
    here, there = socket.socketpair()
    with here, there:
        with Deadline(0.1) as deadline:
            deadline.watch(here)
            assert b"" == here.recv(1)
            with pytest.raises(TimeoutError):
                deadline.watch(here)

        assert deadline.is_over


def test_the_environment_does_not_count(monkeypatch):
    """Neither a proxy nor a user of ~/.netrc."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with (
        serving(whole(b"ok")) as server,
        Deadline(5) as deadline,
        session(deadline, None) as opened,
    ):
        assert b"ok" == opened.get(server.url, timeout=5).content
