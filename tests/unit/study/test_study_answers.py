"""Questions about answers: of which servers, and of questions only where a file is named."""

import dataclasses

import pytest

from perfgate.load.workload import Workload
from tests.perf.test_answers import accuracy, answers
from tests.support.studies import study_of


@pytest.mark.parametrize("platform", ["cpu", "h200"])
def test_every_model_is_asked_and_judged(platform):
    """A model that answers otherwise is red on every platform."""
    study = study_of(platform, "vllm")

    cases = list(answers(study))

    assert [server.key for server in study.models] == [
        case.subject for case in cases
    ]
    assert {"hard"} == {case.gate for case in cases}


def test_weights_that_an_engine_makes_up_are_not_asked():
    """They hold every token for as likely."""
    assert [] == list(answers(study_of("h200", "vllm", load_format="dummy")))


def test_questions_are_asked_where_a_file_is_named():
    """One case a model."""
    study = study_of("h200", "vllm")
    questions = Workload(name="accuracy", num_prompts=2, graded=True)

    assert [] == list(accuracy(study))
    asked = dataclasses.replace(study, accuracy=questions)
    assert 2 == len(list(accuracy(asked)))
