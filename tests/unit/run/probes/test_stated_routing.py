"""Stated routing of a launch: one short answer shows whether tokens get stated experts."""

import dataclasses

import pytest

from perfgate import web
from perfgate.engines.base import Engine, ServerConfig
from perfgate.run.probes.stated_routing import RoutingNotStated, confirm
from perfgate.web import NoAnswer
from tests.support import studies

SERVER = ServerConfig(
    engine="fake",
    model=studies.SHIPPED.pairs["small"].model,
    tensor_parallel_size=2,
    stated_routing="few",
)
ENGINE = Engine(
    name="fake",
    plan=None,
    read_log=None,
    weights_bytes_per_rank=None,
    inject_delay=None,
)


@pytest.fixture
def asked(monkeypatch):
    """The requests that are sent; each is answered."""
    bodies = []

    def post(url, document, timeout_s):
        bodies.append(document)
        return b"{}"

    monkeypatch.setattr(web, "post", post)
    return bodies


def counting(*readings):
    """An engine whose ranks have drawn so often, reading by reading."""
    rest = iter(readings)
    return dataclasses.replace(ENGINE, stated_draws=lambda url: next(rest))


def test_every_token_of_every_layer_must_get_stated_experts(asked):
    """Eight tokens of a prompt and four of an answer, in four layers, on both ranks."""
    confirm(counting((100, 100), (148, 149)), SERVER, "http://x")

    (body,) = asked
    assert (8, 5) == (len(body["prompt"]), body["max_tokens"])


@pytest.mark.parametrize("after", [(100, 100), (148, 147)])
def test_a_rank_that_routes_by_itself_is_refused(asked, after):
    """The message says how many choices were stated, how many were due, and what to do."""
    with pytest.raises(RoutingNotStated) as failure:
        confirm(counting((100, 100), after), SERVER, "http://x")

    taken = [count - 100 for count in after]
    assert f"took {taken} stated choices, at least 48 each" in (
        failure.value.seen
    )
    assert "leave stated_routing out" in failure.value.remedy
    assert SERVER.key in failure.value.tried


def test_an_engine_that_cannot_be_told_is_refused(asked):
    """It is named, and nothing is sent."""
    with pytest.raises(RoutingNotStated, match="fake cannot be told"):
        confirm(ENGINE, SERVER, "http://x")

    assert [] == asked


def test_a_server_without_an_answer_is_refused():
    """What it did instead is in the message."""

    def silent(url):
        raise NoAnswer("POST", "nobody listens", "look")

    engine = dataclasses.replace(ENGINE, stated_draws=silent)
    with pytest.raises(RoutingNotStated, match="nobody listens"):
        confirm(engine, SERVER, "http://x")
