"""Unused baselines: what no question asks of any study."""

import dataclasses

from perfgate.run.unused import Question, asked_otherwise, versus_of
from tests.support.studies import study_of

ONE, TWO = (study_of("h200", "vllm", ranks) for ranks in (1, 2))


def start_up(study):
    """One case of a study."""
    yield study.value("E1", "ready_s", study.model, None)


def asked(ids, question, *sessions, compares_engines=False):
    """What a question asks of them."""
    questions = [Question(compares_engines, question)]
    return asked_otherwise(ids, questions, sessions, "vllm")


def test_a_case_of_another_session_is_asked():
    """What none of them asks is not; sessions after the last answer are not made."""
    (case,) = start_up(TWO)
    ids = [case.id, "vllm-other/closed/ready_s"]

    assert {case.id} == asked(ids, start_up, [ONE], [TWO])
    assert set() == asked(ids, start_up, [ONE])

    def sessions():
        yield [TWO]
        raise AssertionError("all is found")

    questions = [Question(False, start_up)]
    assert {case.id} == asked_otherwise([case.id], questions, sessions(), None)


def test_a_question_that_fails_asks_what_it_asked_before():
    """A test of somebody's own may not be made for options that nobody gives."""
    (case,) = start_up(TWO)

    def broken(study):
        yield case
        raise IndexError

    assert set() == asked(["a/b/c"], broken, [TWO])
    assert {case.id} == asked([case.id], broken, [TWO])


def test_engines_are_compared_with_the_first():
    """Each pair by itself; without a first engine, with the first by name."""
    other = study_of("h200", "sglang")
    alone = dataclasses.replace(other, pair="other")
    studies = [TWO, other, alone]

    def engines(first):
        return [
            (row.candidate.engine, row.reference.engine)
            for row in versus_of(studies, first)
        ]

    assert [("sglang", "vllm")] == engines("vllm")
    assert [("vllm", "sglang")] == engines(None)

    def question(versus):
        yield versus.ratio("itl_median_ms", versus.models[0], TWO.closed)

    versus = next(versus_of(studies, "vllm"))
    (case,) = question(versus)
    assert {case.id} == asked(
        [case.id], question, studies, compares_engines=True
    )
