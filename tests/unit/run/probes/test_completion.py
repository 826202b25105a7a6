"""Completion: an answer with its log-probabilities, and answers of another form."""

import pytest

from perfgate.run.probes.completion import complete
from perfgate.web import NoAnswer
from tests.support.fake_launch import FakeEngine
from tests.support.load_targets import target_of
from tests.support.raw_server import serving, whole

BODY = {"model": "fake", "prompt": [1, 2], "max_tokens": 2}


def test_an_answer_has_its_text_and_what_was_asked_for():
    """Log-probabilities where the request says so."""
    with FakeEngine() as engine:
        plain = complete(target_of(engine), BODY, 10.0)
        asked = complete(target_of(engine), BODY | {"logprobs": 2}, 10.0)

    assert (" a a", None) == (plain.text, plain.logprobs)
    assert asked.logprobs is not None
    assert (" a", " a") == asked.logprobs.tokens


@pytest.mark.parametrize(
    "content", [b"<html>", b'{"choices": []}', b'{"choices": [{}]}']
)
def test_an_answer_of_another_form_is_none(content):
    """Such as that of a proxy."""
    with (
        serving(whole(content)) as server,
        pytest.raises(NoAnswer, match="no completion"),
    ):
        complete(target_of(server), BODY, 10.0)
