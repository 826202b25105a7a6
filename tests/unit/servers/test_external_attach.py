"""What `--attach` refuses, and what it keeps to itself."""

import json
import time

import pytest

from perfgate.models.catalogue import CATALOGUE
from perfgate.servers import external
from perfgate.servers.external import (
    BadAttachment,
    ExternalServer,
    NotReachable,
    UnknownDeployment,
    attach,
    parse_attachment,
)
from perfgate.web import Address
from tests.support.raw_server import (
    Answer,
    by_path,
    endless,
    pieces,
    serving,
    whole,
)

MODEL = "mixtral-small"
VLLM_PAGE = b'# TYPE x counter\nvllm:prompt_tokens_total{a="b"} 1\n'
SGLANG_PAGE = b"sglang:prompt_tokens_total 1\n"


def models(*names: str, owner: object = "operator") -> Answer:
    """A list of models."""
    data = [{"id": name, "owned_by": owner} for name in names]
    return whole(json.dumps({"data": data}).encode())


def server_of(
    *names: str, owner: object = "operator", metrics: bytes = b""
) -> Answer:
    """A server with these models and this page of metrics."""
    answers = {"/v1/models": models(*names, owner=owner)}
    if metrics:
        answers["/metrics"] = whole(metrics)
    return by_path(answers)


def test_a_password_is_sent_and_kept_nowhere() -> None:
    """Each request has it as a header; URL, notes and failures have not."""
    with serving(server_of(MODEL)) as server:
        url = server.url.replace("//", "//alice:tiptoe@")
        ((_, found),) = attach([f"vllm={url}"]).items()
        texts = [found.url, *found.notes, str(found.launch_record("k"))]

    texts.append(str(found.death("measuring")))
    assert found.authorization.startswith("Basic ")
    assert not [text for text in texts if "tiptoe" in text or "alice" in text]
    for request in server.asked:
        assert f"Authorization: {found.authorization}".encode() in request
        assert b"Host: 127.0.0.1:" in request


def test_a_password_is_in_no_refusal() -> None:
    """Neither of a bad value nor of a server that does not answer."""
    for text in (
        "vllm=http://alice:tiptoe@127.0.0.1:9",
        "vllm=ftp://alice:tiptoe@h",
        "vlm=http://alice:tiptoe@h",
        "vllm=http://alice:tiptoe@h:99999",
        "vllm=http://alice:tiptoe@h/x?key=tiptoe",
    ):
        with pytest.raises((BadAttachment, NotReachable)) as caught:
            attach([text])
        assert "tiptoe" not in str(caught.value)


@pytest.mark.parametrize("name", ["PERFGATE_API_KEY", "OPENAI_API_KEY"])
def test_a_key_of_the_environment_is_sent(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the health check as to the load."""
    monkeypatch.setenv(name, "tiptoe-1")
    with serving(server_of(MODEL)) as server:
        ((_, found),) = attach([f"vllm={server.url}"]).items()

    assert "Bearer tiptoe-1" == found.authorization
    assert b"Authorization: Bearer tiptoe-1" in server.asked[0]


def test_a_server_that_asks_for_a_key_is_told_as_such() -> None:
    """The remedy is the variable, not the address."""
    answer = whole(b'{"error":"no key"}', "401 Unauthorized")
    with serving(answer) as server, pytest.raises(NotReachable) as caught:
        attach([f"vllm={server.url}"])

    assert "HTTP 401" in caught.value.seen
    assert "PERFGATE_API_KEY" in caught.value.remedy


@pytest.mark.parametrize(
    ("answer", "seen"),
    [
        (whole(b"[]"), "not a list of models"),
        (whole(b'{"data": null}'), "not a list of models"),
        (whole(b'{"data": [{"name": 1}]}'), "not a list of models"),
        (whole(b"<html>"), "not a list of models"),
        (whole(b"[" * 10**5), "not a list of models"),
        (
            endless(b"HTTP/1.0 200 OK\r\n\r\n", b"x" * 10**6),
            "larger than 4 MiB",
        ),
        (pieces(b"HTTP/1.1 200 OK\r\n"), "not a list of models"),
        (whole(b"\x1b[2J", "503 Busy"), r"HTTP 503: \\x1b\[2J"),
    ],
)
def test_an_answer_that_is_no_list_is_told(answer: Answer, seen: str) -> None:
    """Bounded and in one line."""
    with serving(answer) as server, pytest.raises(NotReachable, match=seen):
        attach([f"vllm={server.url}"])


@pytest.mark.parametrize("owner", [None, 3, ["vllm"], {"name": "vllm"}])
def test_an_owner_that_is_no_name_says_nothing(owner: object) -> None:
    """Other servers write there what they like."""
    with serving(server_of(MODEL, owner=owner)) as server:
        (served,) = attach([f"vllm={server.url}"])

    assert ("vllm", MODEL) == served


def test_slow_bytes_do_not_hold_the_session_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The limit is that of the whole answer."""
    monkeypatch.setattr(external, "_MODELS_S", 0.4)
    slow = endless(b"HTTP/1.0 200 OK\r\n\r\n", b"{", 0.05)
    with serving(slow) as server:
        began_s = time.monotonic()
        with pytest.raises(NotReachable, match="no complete answer"):
            attach([f"vllm={server.url}"])

    assert 10 > time.monotonic() - began_s


def test_a_hundred_thousand_names_are_a_short_message() -> None:
    """Some of them, and how many more; colours in a name are text."""
    names = ["\x1b[31m" + "x" * 500, *(f"m{k}" for k in range(99_999))]
    answer = by_path({"/v1/models": models(*names)})
    with serving(answer) as server, pytest.raises(UnknownDeployment) as caught:
        attach([f"vllm={server.url}"])

    assert "and 99,995 more" in caught.value.seen
    assert 2000 > len(str(caught.value))
    assert "\x1b" not in str(caught.value)


def test_two_servers_of_one_model_are_refused() -> None:
    """The second one would take the place of the first without a word."""
    with serving(server_of(MODEL)) as one, serving(server_of(MODEL)) as two:
        with pytest.raises(BadAttachment, match=f"both serve {MODEL}"):
            attach([f"vllm={one.url}", f"vllm={two.url}"])
        assert 2 == len(attach([f"vllm={one.url}", f"sglang={two.url}"]))


def test_one_server_under_two_names_is_no_second_server() -> None:
    """The first name counts."""
    with serving(server_of(MODEL, f"org/{MODEL}")) as server:
        ((_, found),) = attach([f"vllm={server.url}"]).items()

    assert MODEL == found.served_model


@pytest.mark.parametrize(
    ("owner", "metrics"),
    [("sglang", b""), ("operator", SGLANG_PAGE), ("sglang", VLLM_PAGE)],
)
def test_another_engines_server_is_refused(owner: str, metrics: bytes) -> None:
    """By what its list of models says, else by the names of its metrics."""
    answer = server_of(MODEL, owner=owner, metrics=metrics)
    with serving(answer) as server:
        with pytest.raises(BadAttachment) as caught:
            attach([f"vllm={server.url}"])
        assert 1 == len(attach([f"sglang={server.url}"]))

    assert f"write --attach sglang={server.url}" == caught.value.remedy


@pytest.mark.parametrize(
    ("owner", "metrics"),
    [
        ("vllm", b""),
        ("operator", VLLM_PAGE),
        ("operator", b"up 1\n"),
        ("operator", VLLM_PAGE + SGLANG_PAGE),
    ],
)
def test_a_server_of_that_engine_or_of_none_is_taken(
    owner: str, metrics: bytes
) -> None:
    """A gateway has neither name, and one in front of both has both."""
    answer = server_of(MODEL, owner=owner, metrics=metrics)
    with serving(answer) as server:
        assert ("vllm", MODEL) in attach([f"vllm={server.url}"])


def test_an_unknown_engine_is_refused() -> None:
    """Instead of being left out."""
    with pytest.raises(BadAttachment, match="did you mean vllm"):
        parse_attachment("vlm=http://h")


@pytest.mark.parametrize(
    "url",
    [
        "http://h:x",
        "http://h\r\nX: y",
        "http://h/a b",
        "http://hö",
        "http://h#a",
    ],
)
def test_a_url_that_is_none_is_refused(url: str) -> None:
    """Nothing of it reaches a request."""
    with pytest.raises(BadAttachment):
        parse_attachment(f"vllm={url}")


def test_tokens_are_life() -> None:
    """A busy server is late with its list of models; that alone is not death."""
    server = ExternalServer(Address("http://127.0.0.1:9"), fresh_s=0.01)
    until_s = time.monotonic() + 20
    while server.alive() and time.monotonic() < until_s:
        time.sleep(0.02)
    assert not server.alive()
    server.note_life()

    assert server.alive()


def test_one_late_answer_is_not_death() -> None:
    """Several in a row are, and the reason says so."""
    server = ExternalServer(Address("http://127.0.0.1:9"), fresh_s=600)

    assert server.alive()
    assert f"{external.MOST_MISSES} times in a row" in server.death_reason


@pytest.mark.parametrize("status", ["401 x", "403 x", "429 x"])
def test_a_server_that_refuses_lives(status: str) -> None:
    """It answers."""
    with serving(whole(b"no", status)) as found:
        server = ExternalServer(Address(found.url), fresh_s=0.0)
        for _ in range(2 * external.MOST_MISSES):
            assert server.alive()
            time.sleep(0.05)


def test_the_catalogue_has_the_model_of_these_tests() -> None:
    """Else they would test nothing."""
    assert MODEL in CATALOGUE
