"""Is a server that somebody else runs left alone?"""

import time

import pytest

from fixtures.servers.attached import AttachedServer, BadAttachment, NotReachable, parse_attachment
from fixtures.servers.launches import StopReport
from tests.unit.fake_launch import FakeEngine
from tests.unit.plans import free_port


def test_attached_server_is_alive_until_it_is_not() -> None:
    """Life is what it answers; to stop it does nothing."""
    with FakeEngine() as engine:
        server = AttachedServer(engine.url + "/", fresh_s=0.05)
        server.check()

        assert server.alive()
        assert engine.url == server.url
        assert StopReport(seconds=0.0) == server.stop()
        assert server.alive()

    until = time.monotonic() + 20
    while server.alive() and time.monotonic() < until:
        time.sleep(0.02)

    assert not server.alive()
    with pytest.raises(NotReachable, match="/v1/models"):
        server.check()


def test_asking_again_does_not_wait() -> None:
    """Whoever measures may ask ten times a second: one request to the server, the rest from memory."""
    with FakeEngine() as engine:
        server = AttachedServer(engine.url, fresh_s=600)

        assert server.alive()

    assert server.alive()


def test_logs_are_said_to_be_missing() -> None:
    """What cannot be known is said, not left empty."""
    server = AttachedServer(f"http://127.0.0.1:{free_port()}")

    assert "not available" in server.log_tail()
    assert "Connection refused" in server.death("measuring").seen


def test_attachment_is_read() -> None:
    """ENGINE=URL; a path in front of /v1 is kept."""
    engine, server = parse_attachment("sglang=https://ray.example:8443/serve/")

    assert ("sglang", "https://ray.example:8443/serve") == (engine, server.url)


@pytest.mark.parametrize("text", ["http://host:8000", "vllm=host:8000", "vllm=", "=http://host", "vllm=http://"])
def test_bad_attachment_is_refused(text: str) -> None:
    """A slip is told with an example of what is right."""
    with pytest.raises(BadAttachment, match="vllm=http://"):
        parse_attachment(text)
