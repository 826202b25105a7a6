"""Every outcome has its style, its sign and its place in the order of a run."""

import pytest

from perfgate.judge import run_status
from perfgate.judge.verdict import Outcome
from perfgate.report import junit, summary, terminal, verdict_text
from perfgate.report.headline import SIGNS, WORDS
from perfgate.report.page import Report, build
from tests.support.judged_runs import judged

TABLES = {"style": terminal.STYLES, "sign": SIGNS, "order": run_status.ORDER}


@pytest.mark.parametrize("name", TABLES)
def test_tables_have_every_outcome(name):
    """One that is missing would end a report with a KeyError."""
    table = TABLES[name]

    assert set(Outcome) == set(table)
    assert len(Outcome) == len(table)


@pytest.mark.parametrize("outcome", list(Outcome))
def test_reports_show_every_outcome(outcome):
    """Table, messages, job summary, annotations, page and JUnit XML name it."""
    results = judged(outcome, "PASSED")
    environment = {"GITHUB_ACTIONS": "true"}

    assert outcome in terminal.table(results, 150, terminal=True)
    assert outcome in verdict_text.skip_reason(results.verdicts[0])
    assert outcome in summary.markdown(results, None)
    assert outcome in build(Report([results]))
    assert outcome in junit.junit(results)
    commands = summary.workflow_commands(results, environment)
    assert (outcome != "PASSED") == (outcome in "".join(commands))


def test_every_outcome_has_words():
    """Of what is not excluded they name the ceiling."""
    assert set(Outcome) == {*WORDS, Outcome.NOT_EXCLUDED}
