"""E14: Does the model answer as before, whatever its speed?"""

from collections.abc import Iterator

import msgspec
import pytest

from perfgate.cases import Case
from perfgate.study import Study


def answers(study: Study) -> Iterator[Case]:
    """Each model's greedy answers to fixed prompts; judged on every platform.

    Not with weights that an engine makes up: they hold every token for as likely, and
    rounding chooses. Nor where experts are stated: they are drawn for each token.
    """
    for server in study.models:
        if server.load_format != "dummy" and not server.stated_routing:
            case = study.value("E14", "answers_perplexity", server, None)
            yield msgspec.structs.replace(case, gate="hard")


def accuracy(study: Study) -> Iterator[Case]:
    """Each model's share of right answers to the questions of --accuracy."""
    if study.accuracy is None:
        return
    for server in study.models:
        case = study.value("E14", "accuracy", server, study.accuracy)
        yield msgspec.structs.replace(case, gate="hard")


@pytest.mark.perf(cases=answers)
def test_answers(check, case):
    """The answers are those of before, but for tokens that are as likely."""
    check(case)


@pytest.mark.perf(cases=accuracy)
def test_accuracy(check, case):
    """As many questions are answered rightly as before."""
    check(case)
