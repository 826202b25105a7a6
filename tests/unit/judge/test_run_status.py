"""Status of a run: it passes when the whole suite passed, and says what failed it."""

import msgspec
import pytest

from perfgate.errors import FailureRow
from perfgate.judge import run_status
from perfgate.judge.baseline_store import Store
from perfgate.results.gates import GATES
from tests.support import builders as m
from tests.support.judged_runs import judged

FAILED = FailureRow(tried="launched it", seen="it exited", remedy="look")


@pytest.mark.parametrize(
    ("outcomes", "red"),
    [
        (("PASSED", "IMPROVED"), ()),
        (("PASSED", "NO_BASELINE"), ("strict",)),
        (("PASSED", "NOT_EXCLUDED"), ("strict",)),
        (("NOT_EXCLUDED",), ("strict",)),
        (("NO_BASELINE", "NO_BASELINE"), ("required", "strict")),
        (("PASSED", "INCONCLUSIVE"), ("required", "strict")),
        (("PASSED", "INCOMPARABLE"), ("required", "strict")),
        (("PASSED", "REGRESSED"), GATES),
        (("PASSED", "INVALID"), GATES),
        ((), GATES),
    ],
)
def test_outcomes_decide(outcomes, red):
    """Each gate fails a run by what it does not let pass, and by having nothing to say."""
    run = judged(*outcomes)

    assert red == tuple(gate for gate in GATES if run_status.fails(run, gate))


def test_nothing_but_reported_values_is_no_comparison():
    """A required gate that compared nothing would pass without a reason."""
    run = judged("PASSED", "REGRESSED")
    rows = [msgspec.structs.replace(row, gate="report") for row in run.verdicts]
    run = msgspec.structs.replace(run, verdicts=tuple(rows))

    assert not run_status.is_compared(run)
    assert run_status.fails(run, "required")
    assert not run_status.fails(run, "advisory")


@pytest.mark.parametrize(
    ("outcomes", "gate", "state"),
    [
        (("PASSED", "IMPROVED"), "required", "Green"),
        (("PASSED", "NOT_EXCLUDED"), "required", "Undecided"),
        (("PASSED", "NO_BASELINE"), "advisory", "Undecided"),
        (("PASSED", "INCOMPARABLE"), "required", "Red"),
        (("PASSED", "NOT_EXCLUDED"), "strict", "Red"),
    ],
)
def test_green_means_that_every_judged_case_passed(outcomes, gate, state):
    """What the gate lets pass without a verdict is not green."""
    run = msgspec.structs.replace(judged(*outcomes), gate=gate)

    assert state == run_status.state(run)


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

    assert run_status.fails(run, "required")
    assert ("failures" in changed) == run_status.fails(run, "advisory")


def test_what_needs_attention_comes_first():
    """Regressions before what is undecided, passes last, reported rows after all."""
    run = judged("PASSED", "NO_BASELINE", "REGRESSED", "INVALID")
    *rows, last = run.verdicts
    rows = (msgspec.structs.replace(last, gate="report"), *rows)
    run = msgspec.structs.replace(run, verdicts=rows)

    found = [row.outcome for row in run_status.ordered(run)]
    assert ["REGRESSED", "NO_BASELINE", "PASSED", "INVALID"] == found
    assert found[:3] == [row.outcome for row in run_status.judged_verdicts(run)]


@pytest.mark.parametrize("gate", ["required", "strict"])
def test_a_session_without_its_cases_does_not_pass(gate):
    """Nor does one that measured nothing; an advisory one is decided by its tests."""
    run = judged("PASSED")

    assert not run_status.session_fails(run, (), gate)
    assert run_status.session_fails(run, run.cases, gate)
    assert run_status.session_fails(None, (), gate)
    assert not run_status.session_fails(None, run.cases, "advisory")


def test_judged_again_by_what_is_recorded_now(tmp_path):
    """The tests' names stay; the outcomes are those of the store."""
    again = run_status.judged_again(judged("PASSED"), Store(tmp_path))

    assert [("t", "NO_BASELINE")] == [
        (row.test, row.outcome) for row in again.verdicts
    ]
    assert 0 == run_status.missing(again)
    assert 1 == run_status.missing(m.run({}, [m.THROUGHPUT]))


@pytest.mark.parametrize(
    ("gate", "outcome", "number"),
    [
        ("report", "REGRESSED", 1),
        ("report", "PASSED", 0),
        ("hard", "REGRESSED", 0),
    ],
)
def test_reported_rows_that_are_worse_are_counted(gate, outcome, number):
    """They fail no run, and are said beside those that do."""
    run = judged(outcome)
    (row,) = run.verdicts
    row = msgspec.structs.replace(row, gate=gate)
    run = msgspec.structs.replace(run, verdicts=(row,))

    assert number == run_status.regressed_report_only(run)
