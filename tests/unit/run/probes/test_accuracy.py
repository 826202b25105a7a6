"""Accuracy probe: the share of right answers, and questions that nobody answers."""

import math
from types import SimpleNamespace

import pytest

from perfgate.load.questions import workload_of
from perfgate.run.probes import accuracy
from tests.support.fake_launch import FakeEngine
from tests.support.load_targets import target_of
from tests.support.raw_server import endless, serving


@pytest.fixture
def workload(tmp_path):
    """Four questions, of which a server that says "a" all the time knows three."""
    file = tmp_path / "questions.jsonl"
    lines = [
        f'{{"prompt": "say", "answer": "{answer}", "max_tokens": 3}}'
        for answer in ("a", " A ", "a a", "b")
    ]
    file.write_text("\n".join(lines))
    return workload_of(file)


def ask(engine, workload):
    """One repetition."""
    return accuracy.measure(target_of(engine), workload, lambda *_: None)


def test_right_answers_are_counted(workload):
    """Whatever the case of their letters."""
    with FakeEngine() as engine:
        repetition = ask(engine, workload)

    assert math.isclose(3.5 / 4.5, repetition.values["accuracy"])
    assert ("3 of 4 answers are right",) == repetition.notes
    assert () == repetition.invalid


def test_a_model_that_knows_nothing_has_a_value(workload):
    """Above nothing, so that it can be judged."""
    with FakeEngine(answer="z") as engine:
        repetition = ask(engine, workload)

    assert math.isclose(0.5 / 4.5, repetition.values["accuracy"])


def test_a_question_that_is_not_answered_makes_it_invalid(workload):
    """No share of fewer questions is judged."""
    with FakeEngine() as engine:
        pass

    repetition = ask(engine, workload)

    assert 4 == repetition.failed
    assert repetition.invalid[0].startswith("question 1: ")


def test_a_server_that_hangs_is_asked_once(workload, monkeypatch):
    """Each further question would wait until its timeout."""
    monkeypatch.setattr(accuracy, "TIMEOUT_S", 0.2)
    asked = []

    with serving(endless(b"", b"", pause_s=0.05)) as server:
        engine = SimpleNamespace(url=server.url)
        repetition = ask(engine, workload)
        asked += server.asked

    assert 1 == len(asked)
    assert (0, 4) == (repetition.completed, repetition.failed)
    assert repetition.invalid[0].startswith("question 1: ")
