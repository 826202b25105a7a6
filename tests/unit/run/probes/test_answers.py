"""Answers probe: fixed prompts, one short hash for each; a failure is a note."""

import hashlib
import math

from perfgate.load.measurement import Target
from perfgate.load.workload import build_requests
from perfgate.run.probes import answers
from perfgate.run.probes.answers import PROMPTS
from tests.support.fake_launch import FakeEngine
from tests.support.raw_server import serving, whole


def target(url):
    """A server of a small model."""
    return Target(url=url, served_model="fake", vocab_size=1000, engine="fake")


def test_every_prompt_has_a_hash_of_its_answer():
    """Sixteen tokens each; the first 12 hex digits are kept."""
    text = " a" * 16
    digest = hashlib.sha256(text.encode()).hexdigest()
    with FakeEngine() as engine:
        answered = answers.read(target(engine.url))

    assert (digest[:12],) * 16 == answered.hashes
    assert () == answered.notes


def test_every_token_has_its_log_probability_and_the_runners_up():
    """Of vLLM's ids the number alone; the perplexity is that of all tokens."""
    with FakeEngine() as engine:
        answered = answers.read(target(engine.url))

    (first, *_) = answered.tokens
    assert (16, 16) == (len(answered.tokens), len(first.tokens))
    assert (" a", -0.5) == (first.tokens[0], first.logprobs[0])
    assert {" x": -1.5, " y": -2.5, " z": -3.5} == first.others[0]
    assert math.isclose(math.exp(0.5), answered.values["answers_perplexity"])


def test_a_server_without_log_probabilities_has_hashes_and_a_note():
    """Such as a front that leaves them out."""
    answer = whole(b'{"choices": [{"text": " a"}]}')
    with serving(answer) as server:
        answered = answers.read(target(server.url))

    assert 16 == len(answered.hashes)
    assert ((), {}) == (answered.tokens, answered.values)
    assert (answers.NO_LOGPROBS,) == answered.notes


def test_a_server_that_refuses_log_probabilities_is_asked_without():
    """It answers the plain request as before."""
    with FakeEngine("--refuse-logprobs") as engine:
        answered = answers.read(target(engine.url))

    assert 16 == len(answered.hashes)
    assert (answers.NO_LOGPROBS,) == answered.notes


def test_other_answers_have_other_hashes():
    """A server that says something else is told from one that does not."""
    with FakeEngine() as engine, FakeEngine(answer="b") as other:
        hashes = answers.read(target(engine.url)).hashes
        changed = answers.read(target(other.url)).hashes

    assert set(hashes).isdisjoint(changed)


def test_the_prompts_are_the_same_every_time():
    """Different ones, as short as the answers."""
    prompts = build_requests(PROMPTS, 0, 1000)

    assert prompts == build_requests(PROMPTS, 0, 1000)
    assert 16 == len({prompt.prompt_token_ids for prompt in prompts})
    assert {(16, 16)} == {
        (len(prompt.prompt_token_ids), prompt.output_len_tokens)
        for prompt in prompts
    }


def test_a_server_that_is_gone_makes_a_note():
    """No answer is kept, and nothing is raised."""
    with FakeEngine() as engine:
        url = engine.url

    answered = answers.read(target(url))

    assert () == answered.hashes
    assert ("answers: request 1 of 16: connection refused",) == answered.notes


def test_an_answer_of_another_form_makes_a_note():
    """Such as that of a proxy."""
    with serving(whole(b'{"choices": []}')) as server:
        (note,) = answers.read(target(server.url)).notes

    assert note.startswith("answers: request 1 of 16: ")
    assert "choices" in note
