"""External servers: measured and left alone."""

import time

import pytest

from perfgate.servers.external import (
    BadAttachment,
    ExternalServer,
    NotReachable,
    parse_attachment,
)
from perfgate.web import address_of
from tests.support.fake_launch import FakeEngine
from tests.support.plans import free_port


def test_attached_server_is_alive_until_it_is_not() -> None:
    """Life is what it answers."""
    with FakeEngine() as engine:
        server = ExternalServer(address_of(engine.url + "/"), fresh_s=0.05)

        assert server.alive()
        assert engine.url == server.url

    until = time.monotonic() + 20
    while server.alive() and time.monotonic() < until:
        time.sleep(0.02)

    assert not server.alive()
    with pytest.raises(NotReachable, match="/v1/models"):
        server.served_models()


def test_asking_again_does_not_wait() -> None:
    """Ten questions a second cost the server one request; the rest comes from memory."""
    with FakeEngine() as engine:
        server = ExternalServer(address_of(engine.url), fresh_s=600)

        assert server.alive()

    assert server.alive()


def test_silence_is_told_as_it_was_seen() -> None:
    """A server that does not answer is told by what was seen of it."""
    server = ExternalServer(address_of(f"http://127.0.0.1:{free_port()}"))

    assert "connection refused" in server.death("measuring").seen


def test_attachment_is_read() -> None:
    """ENGINE=URL; a path in front of /v1 is kept."""
    engine, server = parse_attachment("sglang=https://ray.example:8443/serve/")

    assert ("sglang", "https://ray.example:8443/serve") == (engine, server.url)


@pytest.mark.parametrize(
    "text",
    [
        "http://host:8000",
        "vllm=host:8000",
        "vllm=",
        "=http://host",
        "vllm=http://",
    ],
)
def test_bad_attachment_is_refused(text: str) -> None:
    """A slip is told with an example of what is right."""
    with pytest.raises(BadAttachment, match="vllm=http://"):
        parse_attachment(text)
