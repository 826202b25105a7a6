"""Choices of the engine: named as the cause of what changed, never a reason not to judge."""

import dataclasses

import pytest

from perfgate.judge import choices
from perfgate.judge.gate import judge
from perfgate.judge.verdict import Outcome, is_red
from perfgate.report.verdict_text import render
from tests.support import builders as m

STEADY = [1000.0 * factor for factor in m.QUIET]
BEFORE = {"moe_backend": "TRITON", "graphs": "on"}
OTHER = {"moe_backend": "FLASHINFER_CUTLASS", "graphs": "on"}
CAUSE = "moe_backend TRITON -> FLASHINFER_CUTLASS, chosen by the engine"


def judged(*values, case=m.THROUGHPUT, chosen=OTHER, before=BEFORE, **changed):
    """A run in which the engine chose this, against a baseline in which it chose that.

    Keyword arguments change the identity of the run.
    """
    injected = changed.pop("injected", "")
    seen = dataclasses.replace(
        m.seen(case, *values, **changed), chosen=chosen, injected=injected
    )
    baseline = dataclasses.replace(m.recorded(case, STEADY), chosen=before)
    return judge(case, seen, baseline)


def test_a_loss_with_another_backend_is_a_regression_with_its_cause():
    """Half of the speed lost by a choice of the engine fails the run and is named."""
    verdict = judged(520.0)

    assert (Outcome.REGRESSED, CAUSE) == (verdict.outcome, verdict.cause)
    assert is_red(verdict.outcome, verdict.gate, "advisory")
    first = render(verdict).splitlines()[0]
    assert f"{verdict.summary}, cause: {CAUSE}" in first


def test_a_backend_that_the_user_fixed_is_another_configuration():
    """Its argument is identity; what follows from it is no cause."""
    verdict = judged(520.0, server_args="--moe-backend flashinfer_cutlass")

    assert (Outcome.INCOMPARABLE, "") == (verdict.outcome, verdict.cause)
    assert "server_args" in verdict.summary
    assert CAUSE not in render(verdict)


def test_another_backend_without_a_loss_passes_with_a_detail():
    """The choice is told, and is no cause: nothing changed."""
    verdict = judged(1000.0)

    assert (Outcome.PASSED, "") == (verdict.outcome, verdict.cause)
    assert f"Changed: {CAUSE}." in verdict.details


def test_a_gain_has_its_cause():
    """A faster backend is worth knowing before the gain is recorded."""
    verdict = judged(1200.0)

    assert (Outcome.IMPROVED, CAUSE) == (verdict.outcome, verdict.cause)


def test_the_same_choices_are_no_cause():
    """Neither in the first line nor in a detail."""
    lost, same = judged(520.0, chosen=BEFORE), judged(1000.0, chosen=BEFORE)

    assert "" == lost.cause == same.cause
    assert "Changed:" not in render(lost) + render(same)


def test_an_injected_change_is_not_the_engines_choice():
    """The backend was set by the injection; no one else chose it."""
    verdict = judged(520.0, injected="arguments --moe-backend x")

    assert (
        "moe_backend TRITON -> FLASHINFER_CUTLASS, under the injection"
        == verdict.cause
    )


def test_a_ratio_names_the_side():
    """The backend of the sparse model, which is the denominator."""
    verdict = judge(
        m.RATIO,
        dataclasses.replace(
            m.seen(m.RATIO, 7.0),
            chosen={"denominator.moe_backend": "B", "numerator.graphs": "on"},
        ),
        dataclasses.replace(
            m.recorded(m.RATIO, [3.5 * factor for factor in m.QUIET]),
            chosen={"denominator.moe_backend": "A", "numerator.graphs": "on"},
        ),
    )

    assert (
        "moe_backend A -> B (denominator), chosen by the engine"
        == verdict.cause
    )


@pytest.mark.parametrize(
    ("current", "recorded", "said"),
    [
        ({"a": "1"}, {"a": "1"}, []),
        ({"a": "2", "b": "4"}, {"a": "1", "b": "3"}, ["a 1 -> 2", "b 3 -> 4"]),
        (
            {"attention_backend": "A or B"},
            {"attention_backend": "A"},
            ["attention_backend A -> A or B"],
        ),
        ({}, {"a": "1"}, []),
        ({"a": "not seen"}, {"a": "1"}, []),
        ({"moe_backend": "triton"}, {"moe_backend": "auto"}, []),
        (
            {"attention_backend": "FLASH_ATTN"},
            {"attention_backend": "AttentionBackendEnum.FLASH_ATTN"},
            [],
        ),
        ({"a": "1"}, {}, []),
        (
            {"numerator.a": "2", "denominator.a": "2"},
            {"numerator.a": "1", "denominator.a": "1"},
            ["a 1 -> 2 (denominator and numerator)"],
        ),
    ],
    ids=[
        "same",
        "several",
        "launches-differ",
        "gone",
        "not-seen",
        "only-asked-for",
        "other-spelling",
        "unknown",
        "both-sides",
    ],
)
def test_changes_from_the_baseline_to_the_run(current, recorded, said):
    """In this direction; what no baseline knows says nothing."""
    assert said == choices.changes(current, recorded)


def test_a_choice_that_is_not_seen_is_told_beside_a_loss():
    """It may be the cause, but nobody knows: no cause is named."""
    verdict = judged(520.0, chosen={"graphs": "on"})

    assert (Outcome.REGRESSED, "") == (verdict.outcome, verdict.cause)
    assert (
        "Not seen in this run, so unknown: moe_backend. The baseline has them."
        in verdict.details
    )
