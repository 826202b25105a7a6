"""Status of a run: it passes when the whole suite passed, and says what failed it."""

import msgspec
import pytest

from perfgate.errors import FailureRow
from perfgate.judge import run_status
from perfgate.judge.baseline_store import Store
from tests.support import builders as m
from tests.support.judged_runs import judged

FAILED = FailureRow(tried="launched it", seen="it exited", remedy="look")


@pytest.mark.parametrize(
    ("outcomes", "is_green", "is_red"),
    [
        (("PASSED", "IMPROVED"), True, False),
        (("PASSED", "NO_BASELINE"), False, False),
        (("PASSED", "INCONCLUSIVE"), False, False),
        (("PASSED", "REGRESSED"), False, True),
        (("PASSED", "INVALID"), False, True),
        ((), False, True),
    ],
)
def test_outcomes_decide(outcomes, is_green, is_red):
    """--gate=required asks that each case passed; else only a bad outcome fails the run."""
    run = judged(*outcomes)

    assert (is_green, is_red) == (
        run_status.is_green(run),
        run_status.fails(run, required=False),
    )
    assert is_green is not run_status.fails(run, required=True)


@pytest.mark.parametrize(
    "changed",
    [
        {"complete": False},
        {"left_out": ("tests/perf/test_memory.py",)},
        {"lacking": {"case": "needs 2x H200"}},
        {"failures": {"server": FAILED}},
    ],
)
def test_a_part_of_the_suite_does_not_pass(changed):
    """However well the cases did that were judged."""
    run = msgspec.structs.replace(judged("PASSED"), **changed)

    assert not run_status.is_green(run)
    assert ("failures" in changed) == run_status.fails(run, required=False)


def test_what_needs_attention_comes_first():
    """Regressions before what is undecided, passes last, reported rows after all."""
    run = judged("PASSED", "NO_BASELINE", "REGRESSED", "INVALID")
    *rows, last = run.verdicts
    rows = (msgspec.structs.replace(last, gate="report"), *rows)
    run = msgspec.structs.replace(run, verdicts=rows)

    found = [row.outcome for row in run_status.ordered(run)]
    assert ["REGRESSED", "NO_BASELINE", "PASSED", "INVALID"] == found
    assert found[:3] == [row.outcome for row in run_status.judged_verdicts(run)]


def test_a_session_without_its_cases_does_not_pass():
    """Nor is one that measured nothing."""
    run = judged("PASSED")

    assert run_status.is_green_session(run, ())
    assert not run_status.is_green_session(run, run.cases)
    assert not run_status.is_green_session(None, ())


def test_judged_again_by_what_is_recorded_now(tmp_path):
    """The tests' names stay; the outcomes are those of the store."""
    again = run_status.judged_again(judged("PASSED"), Store(tmp_path))

    assert [("t", "NO_BASELINE")] == [
        (row.test, row.outcome) for row in again.verdicts
    ]
    assert 0 == run_status.missing(again)
    assert 1 == run_status.missing(m.run({}, [m.THROUGHPUT]))
