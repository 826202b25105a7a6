"""Verdicts over several rows in a whole run: a hard one fails it under either gate."""

from __future__ import annotations

from perfgate.results.schema import load
from tests.support.projects import H200, newest_run, record

pytest_plugins = ["pytester"]
# A check that objects to every run, in place of those of the judge.
OBJECTING = """

from perfgate.judge import groups
from perfgate.results.group_verdict import GroupVerdict
from perfgate.results.verdict import Outcome

def objecting(reader, verdicts, store):
    yield GroupVerdict(
        scope="run",
        check="stalls",
        outcome=Outcome.REGRESSED,
        gate="hard",
        summary="5 of 9 repetitions stalled",
        advice="Read the log.",
    )

groups.CHECKS = (objecting,)
"""


def test_a_hard_group_verdict_fails_a_run_whose_cases_pass(
    project, pytester, monkeypatch
):
    """The terminal has its line and its advice, the run's data the verdict."""
    monkeypatch.setenv("FAKE_GPUS", "2")
    selected = (*H200, "-k", "test_closed")
    record(project, pytester, *selected)
    for file in (pytester.path / "tests" / "perf").glob("test_*.py"):
        file.write_text(file.read_text() + OBJECTING)
        break

    result = project(*selected)

    assert 1 == result.ret, result.stdout.str()
    result.stdout.fnmatch_lines(
        [
            "REGRESSED: stalls: 5 of 9 repetitions stalled",
            "Next: Read the log.",
            "*1 group of rows failed*",
        ]
    )
    assert "failed" not in result.parseoutcomes()
    run = newest_run(pytester)
    assert ["stalls"] == [row.check for row in load(run).group_verdicts]
