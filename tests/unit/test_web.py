"""The suite's own HTTP calls: which way they go, how long they last, what they say."""

import json
import time

import pytest

from perfgate import web
from perfgate.web import NoAnswer, address_of, get, get_json, post_json
from tests.support import raw_server
from tests.support.raw_server import endless, pieces, serving, whole

HEAD = b"HTTP/1.1 200 OK\r\n\r\n"


def test_a_whole_answer():
    """Its body, or the document in it."""
    with serving(whole(b'{"a": 1}')) as server:
        assert b'{"a": 1}' == get(server.url, timeout_s=5)
        assert {"a": 1} == post_json(server.url, {"b": 2}, timeout_s=5)

    assert server.asked[1].endswith(b'\r\n\r\n{"b":2}')


@pytest.mark.parametrize(
    "answer",
    [
        pieces(b"HTTP/1.0 200 OK\r\n\r\n", b"hello"),
        pieces(b"HTTP/1.1 100 Continue\r\n\r\n", HEAD, b"hello"),
        pieces(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
        ),
    ],
)
def test_bodies_end_in_several_ways(answer):
    """By the connection, after an interim answer, by the last chunk."""
    with serving(answer) as server:
        assert b"hello" == get(server.url, timeout_s=5)


@pytest.mark.parametrize(
    "answer",
    [
        endless(HEAD, b"x", 0.05),
        endless(b"HTTP/1.1 200 OK\r\nX: ", b"x", 0.05),
        endless(b"HTT", b"", 0.05),
        pieces(HEAD + b"beginning", pause_s=30),
    ],
)
def test_slow_bytes_end_at_the_deadline(answer):
    """The limit is that of the whole answer, not of one read; a part of it is no answer."""
    with serving(answer) as server:
        began_s = time.monotonic()
        with pytest.raises(NoAnswer, match=r"no complete answer within 0\.4 s"):
            get(server.url, timeout_s=0.4)

    assert 10 > time.monotonic() - began_s


@pytest.mark.parametrize(
    ("answer", "seen"),
    [
        (endless(HEAD, b"x" * 65536), "larger than 1 MiB"),
        (endless(b"HTTP/1.1 200 OK\r\nX: ", b"x" * 65536), "not HTTP"),
        (endless(b"HTTP/1.1 200 OK\r\n", b"A: b\r\n" * 100), "not HTTP"),
        (pieces(b"SSH-2.0-OpenSSH_9.6\r\n"), "not HTTP"),
        (pieces(b""), "connection closed without an answer"),
        (
            pieces(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"),
            "connection closed before the answer was complete",
        ),
    ],
)
def test_what_is_no_answer_is_told(answer, seen):
    """Gigabytes, endless lines and headers, other protocols, and none at all."""
    with serving(answer) as server, pytest.raises(NoAnswer, match=seen):
        get(server.url, timeout_s=20, most_bytes=2**20)


def test_a_redirect_is_not_followed():
    """Whoever redirects must not learn the key."""
    answer = whole(b"", "307 Temporary Redirect", ("Location: http://x/y",))
    with (
        serving(answer) as server,
        pytest.raises(NoAnswer, match="redirected to http://x/y"),
    ):
        get(server.url, timeout_s=5)


@pytest.mark.parametrize(
    ("status", "remedy"),
    [
        ("401 Unauthorized", "PERFGATE_API_KEY"),
        ("403 Forbidden", "the key may not do this"),
        ("429 Too Many Requests", "limits how much a client may send"),
        ("500 Internal Server Error", "read its log"),
    ],
)
def test_a_refusal_has_a_remedy_of_its_own(status, remedy):
    """What to do differs: a key, another key, another limit, the log."""
    with (
        serving(whole(b"no", status)) as server,
        pytest.raises(NoAnswer) as caught,
    ):
        get(server.url, timeout_s=5)

    assert int(status[:3]) == caught.value.status
    assert remedy in caught.value.remedy


def test_proxies_and_netrc_do_not_count(monkeypatch, tmp_path):
    """The load goes straight to the server, and so does every question."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password pw\n")
    monkeypatch.setenv("NETRC", str(netrc))
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with serving(whole(b"ok")) as server:
        assert b"ok" == get(server.url, timeout_s=5)

    assert b"authorization" not in server.asked[0].lower()


def test_a_proxy_that_is_not_used_is_named(monkeypatch):
    """Where another machine does not answer, that may be why."""
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")

    with pytest.raises(NoAnswer, match="https_proxy is set: the suite uses no"):
        get("http://no-such-host.invalid", timeout_s=5)


@pytest.mark.parametrize("body", [b"<html>", b"[" * 100_000, b"\xff\xfe"])
def test_what_is_no_json_is_told(body):
    """A page, nesting without end, bytes."""
    with serving(whole(body)) as server, pytest.raises(NoAnswer, match="JSON"):
        get_json(server.url, timeout_s=5)


def test_a_user_is_taken_off_a_url():
    """Address, port and path stay; name and password become a header."""
    address = address_of("http://al%40ice:pw:1@host:80/serve/")

    assert "http://host:80/serve" == address.url
    assert "Basic YWxAaWNlOnB3OjE=" == address.authorization
    assert web.Address("http://host") == address_of("http://host/")


def test_the_key_comes_from_the_environment():
    """The suite's own variable counts before the one of OpenAI's clients."""
    both = {"OPENAI_API_KEY": "theirs", "PERFGATE_API_KEY": "ours"}

    assert "Bearer ours" == web.key_authorization(both)
    assert "Bearer theirs" == web.key_authorization(
        {"OPENAI_API_KEY": "theirs"}
    )
    assert "" == web.key_authorization({"OPENAI_API_KEY": ""})
    with pytest.raises(NoAnswer, match="PERFGATE_API_KEY") as caught:
        web.key_authorization({"PERFGATE_API_KEY": "a\r\nHost: b"})
    assert "a\r\nHost" not in str(caught.value)


@pytest.mark.skipif(not raw_server.has_openssl(), reason="needs openssl")
def test_https_is_spoken(tmp_path, monkeypatch):
    """With a certificate that a variable names; without it nothing is sent."""
    path = raw_server.certificate(tmp_path)
    web.tls.cache_clear()
    with serving(whole(json.dumps([1]).encode()), path) as server:
        with pytest.raises(NoAnswer, match="certificate is not trusted"):
            get(server.url, timeout_s=5)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(path))
        web.tls.cache_clear()
        assert [1] == get_json(server.url, timeout_s=5)
        web.tls.cache_clear()

    assert 1 == len(server.asked)


def test_http_spoken_to_an_https_port_is_told():
    """And the other way round."""
    with (
        serving(whole(b"ok")) as server,
        pytest.raises(NoAnswer, match="does not speak TLS"),
    ):
        get(server.url.replace("http:", "https:"), timeout_s=5)


def test_a_certificate_file_that_is_none_is_told(tmp_path, monkeypatch):
    """By the variable that names it."""
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "missing.pem"))
    web.tls.cache_clear()
    with serving(whole(b"ok")) as server:
        url = server.url.replace("http:", "https:")
        with pytest.raises(NoAnswer, match="SSL_CERT_FILE"):
            get(url, timeout_s=5)
    web.tls.cache_clear()
