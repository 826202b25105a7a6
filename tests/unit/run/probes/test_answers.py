"""Answers probe: fixed prompts, one short hash for each; a failure is a note."""

import hashlib

from perfgate.load.measurement import Target
from perfgate.load.workload import build_requests
from perfgate.run.probes import answers
from perfgate.run.probes.answers import PROMPTS, Answers
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

    assert Answers(hashes=(digest[:12],) * 16) == answered


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
