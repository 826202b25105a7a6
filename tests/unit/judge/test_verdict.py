"""Outcomes: which of them fail a run, and which cases have none."""

import msgspec
import pytest

from perfgate.judge.gate import judge
from perfgate.judge.verdict import Outcome, is_red, unjudged
from perfgate.results.gates import GATES
from tests.support import builders as m


def verdict(case, values, baseline, **more):
    """The verdict on launches with these values."""
    return judge(case, m.seen(case, *values), baseline, today=m.TODAY, **more)


@pytest.mark.parametrize("outcome", list(Outcome))
def test_which_outcomes_fail(outcome):
    """Strict: all but passed and improved; required: not what has nothing to say.

    Advisory: regressed and invalid. A report-only case never fails.
    """
    expected = (
        outcome in (Outcome.REGRESSED, Outcome.INVALID),
        outcome in ("REGRESSED", "INVALID", "INCONCLUSIVE", "INCOMPARABLE"),
        outcome not in (Outcome.PASSED, Outcome.IMPROVED),
    )

    assert expected == tuple(is_red(outcome, "hard", gate) for gate in GATES)
    assert not any(is_red(outcome, "report", gate) for gate in GATES)


def test_unjudged_cases_are_listed():
    """Of two hard cases and a reported one, with one judged, one is missing."""
    cases = [
        m.THROUGHPUT,
        m.ITL,
        msgspec.structs.replace(m.TTFT, gate="report"),
    ]
    verdicts = [verdict(m.THROUGHPUT, [1000.0], None)]
    assert [m.ITL] == unjudged(cases, verdicts)
