"""Reasons: a loss has a cause or none that is known; what was not judged says why."""

import msgspec
import pytest

from perfgate.report import reasons as module
from perfgate.report.reasons import reasons
from perfgate.results import schema
from tests.support import builders as m
from tests.support.goldens import ROOT
from tests.support.judged_runs import judged


def test_a_loss_without_a_cause_says_so():
    """No baseline is at hand, so that nothing differs from it."""
    assert [module.ALIKE] == reasons(judged("REGRESSED", "PASSED"), None)


def test_a_diagnosis_is_the_reason():
    """Its cause, and what was seen first; of an unknown one that no rule names it."""
    run = schema.load(ROOT / "docs/runs/h100x1-pairs/delay")
    if not run.diagnoses:
        run = judged("REGRESSED")
    (diagnosis,) = schema.load(
        ROOT / "docs/runs/h200x1-planted/moe-explained/01"
    ).diagnoses
    unknown = msgspec.structs.replace(
        diagnosis, cause="unknown", phase="decode", evidence=("a", "b", "c")
    )
    run = msgspec.structs.replace(run, diagnoses=(unknown,))

    assert [
        "No rule names the cause, lost in decoding. Seen: a; b."
    ] == reasons(run, None)


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [
        ("NOT_EXCLUDED", module.HIDDEN),
        ("NO_BASELINE", "<less> & NO_BASELINE."),
        ("INVALID", "<less> & INVALID."),
    ],
)
def test_what_was_not_judged_says_why(outcome, reason):
    """The reason of the first value that was not judged, or not for sure."""
    assert [reason] == reasons(judged(outcome, "PASSED"), None)


def test_a_run_that_was_cut_off_says_so_first():
    """Its values are invalid because it ended."""
    run = msgspec.structs.replace(judged("INVALID"), complete=False)

    assert reasons(run, None)[0].startswith("The run was cut off")


def test_a_green_run_says_what_it_rules_out():
    """The smallest and the largest loss that its launches exclude."""
    run = judged("PASSED", "PASSED")
    rows = tuple(
        msgspec.structs.replace(row, excluded=excluded)
        for row, excluded in zip(run.verdicts, (0.01, 0.05), strict=True)
    )
    run = msgspec.structs.replace(run, verdicts=rows)

    assert [
        "The launches rule out a loss of more than 1.0 to 5.0 %, value by value."
    ] == reasons(run, None)


def test_nothing_measured_has_no_reason():
    """There is nothing to say of it."""
    assert [] == reasons(m.run({}, []), None)
