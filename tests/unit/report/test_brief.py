"""The brief says whether it is slower, what, why and what to do, each in a line."""

import msgspec
import pytest

from perfgate.errors import FailureRow
from perfgate.judge.verdict import Outcome
from perfgate.judge.wording import RUN
from perfgate.report import brief
from perfgate.results.diagnosis import Diagnosis
from perfgate.results.group_verdict import GroupVerdict
from tests.support.judged_runs import judged


def told(results, missing=0):
    """The lines by their first word."""
    lines = {}
    for line in brief.lines(results, "runs/r", missing):
        lines[line.split()[0]] = line
    return lines


def recorded(results, **changes):
    """The run with verdicts by baselines, with advice that names the run."""
    fields = {"reference": "recorded", "advice": f"`perfgate accept {RUN}`"}
    rows = tuple(
        msgspec.structs.replace(row, **(fields | changes))
        for row in results.verdicts
    )
    return msgspec.structs.replace(results, verdicts=rows)


def test_a_green_run_asks_for_nothing():
    """Its verdict, and what was compared."""
    lines = brief.lines(judged("PASSED", "PASSED"), "runs/r", 0)

    assert "Green: 2 of 2 rows passed" == lines[0]
    assert "vllm 0.26.0 on " in lines[1]
    assert lines[1].endswith("against the stored baselines")
    assert not [line for line in lines[2:] if not line.startswith("Next: look")]


def test_one_regression():
    """What moved, and its own advice with the run's path."""
    lines = told(recorded(judged("REGRESSED", "PASSED")))

    assert "Red:" in lines
    assert "throughput -5.0 %" in lines["REGRESSED:"]
    assert "Next: `perfgate accept runs/r`" == lines["Next:"]


def test_several_losses_have_one_command():
    """It accepts all of them; not one command for each."""
    lines = told(recorded(judged("REGRESSED", "REGRESSED")))

    assert "`perfgate accept runs/r --reason 'WHY'`" in lines["Next:"]


def test_the_cause_is_one_line():
    """Of several the others are counted."""
    cause = Diagnosis(
        servers=("s",), who="server", phase="decode", cause="graphs"
    )
    results = msgspec.structs.replace(
        judged("REGRESSED"), diagnoses=(cause, cause)
    )
    lines = told(results)

    assert lines["Cause:"].startswith("Cause: no graphs")
    assert "... and 1 more cause" == lines["..."]


def test_what_is_not_judged_is_counted_once():
    """With its parts, and the commonest reason."""
    results = recorded(
        judged("NO_BASELINE", "NO_BASELINE", "INCOMPARABLE", "PASSED"),
        summary="no baseline is recorded",
    )
    lines = told(results, missing=2)

    assert (
        "Not judged: 5 of 6 (1 INCOMPARABLE, 2 NO_BASELINE, 2 without a "
        "verdict): no baseline is recorded"
    ) == lines["Not"]


@pytest.mark.parametrize(
    ("outcomes", "urgent"),
    [
        (("NO_BASELINE", "NO_BASELINE", "NOT_EXCLUDED"), "NO_BASELINE"),
        (("NO_BASELINE", "NO_BASELINE", "REGRESSED"), "REGRESSED"),
        (("INVALID", "IMPROVED", "IMPROVED"), "INVALID"),
    ],
)
def test_what_to_do_is_of_the_most_urgent_rows(outcomes, urgent):
    """A red one; without it what most rows have."""
    results = judged(*outcomes)
    rows = tuple(
        msgspec.structs.replace(row, advice=f"about {row.outcome}")
        for row in results.verdicts
    )
    lines = told(msgspec.structs.replace(results, verdicts=rows))

    assert f"Next: about {urgent}" == lines["Next:"]


def test_an_invalid_run_says_why():
    """Its reason is the cause."""
    results = recorded(judged("INVALID"), summary="the client did not run")

    assert "Cause: the client did not run" == told(results)["Cause:"]


def test_a_failed_server_comes_before_all_else():
    """Its remedy is what to do."""
    failure = FailureRow(tried="a", seen="b", remedy="install it")
    results = msgspec.structs.replace(
        judged("NO_BASELINE"), failures={"s": failure}
    )

    assert "Next: install it" == told(results)["Next:"]


def test_a_group_that_fails_alone_is_what_moved():
    """No row of it is red by itself."""
    group = GroupVerdict(
        scope="server",
        subject="s",
        check="shift",
        outcome=Outcome.REGRESSED,
        gate="hard",
        summary="decoding is slower by 3.0 %",
        advice=f"look at `{RUN}`",
    )
    results = msgspec.structs.replace(judged("PASSED"), group_verdicts=(group,))
    lines = told(results)

    assert lines["REGRESSED:"].endswith("decoding is slower by 3.0 %")
    assert "Next: look at `runs/r`" == lines["Next:"]


def test_losses_of_several_rows_name_the_store_that_judges():
    """As the command of a single row does; it is one word of a shell."""
    advice = (
        f"`perfgate accept {RUN} --baselines 'a b' --only 'x' --reason 'WHY'`"
    )
    results = recorded(
        judged("REGRESSED", "REGRESSED"),
        advice=advice,
        store=" --baselines 'a b'",
    )

    line = told(results)["Next:"]

    assert "`perfgate accept runs/r --baselines 'a b' --reason 'WHY'`" in line
