"""Outcomes: which of them fail a run, and which cases have none."""

import msgspec
import pytest

from perfgate.judge.gate import judge
from perfgate.judge.verdict import Outcome, is_red, unjudged
from tests.support import builders as m


def verdict(case, values, baseline, **more):
    """The verdict on launches with these values."""
    return judge(case, m.seen(case, *values), baseline, today=m.TODAY, **more)


@pytest.mark.parametrize("outcome", list(Outcome))
def test_which_outcomes_fail(outcome):
    """Advisory: regressed and invalid. Required: all but passed and improved. Report: none."""
    expected = (
        outcome in (Outcome.REGRESSED, Outcome.INVALID),
        outcome not in (Outcome.PASSED, Outcome.IMPROVED),
        False,
        False,
    )
    modes = (
        ("hard", False),
        ("hard", True),
        ("report", False),
        ("report", True),
    )
    assert expected == tuple(
        is_red(outcome, mode, required) for mode, required in modes
    )


def test_unjudged_cases_are_listed():
    """Of two hard cases and a reported one, with one judged, one is missing."""
    cases = [
        m.THROUGHPUT,
        m.ITL,
        msgspec.structs.replace(m.TTFT, gate="report"),
    ]
    verdicts = [verdict(m.THROUGHPUT, [1000.0], None)]
    assert [m.ITL] == unjudged(cases, verdicts)
