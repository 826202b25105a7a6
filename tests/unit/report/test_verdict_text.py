"""One renderer turns the fields of a verdict into text."""

import msgspec
import pytest

from perfgate.judge.verdict import Outcome, Verdict
from perfgate.judge.wording import RUN
from perfgate.report import verdict_text
from perfgate.results.verdict import Screen

VERDICT = Verdict(
    case="vllm-moe-tp2/closed-c32/itl_median_ms",
    metric="itl_median_ms",
    outcome=Outcome.REGRESSED,
    gate="hard",
    unit="ms",
    value=9.0,
    baseline=8.0,
    change=0.125,
    noise=0.04,
    summary="+12.5 % vs the baseline 8 ms",
    details=("Baseline: 6 launches.", "Measured on 3 launches."),
    advice=f"`perfgate accept {RUN}`",
)


def changed(**fields):
    """The verdict with other fields."""
    return msgspec.structs.replace(VERDICT, **fields)


def test_a_folder_with_a_space_is_one_word_of_a_command():
    """It can be pasted into a shell; a plain folder is as it is."""
    assert "`perfgate accept runs/a`" == verdict_text.advice(VERDICT, "runs/a")
    assert "`perfgate accept '/home/läu fe/a'`" == verdict_text.advice(
        VERDICT, "/home/läu fe/a"
    )


def test_values_have_their_unit():
    """A dash where there is none."""
    assert ("9 ms", "8 ms") == (
        verdict_text.value(VERDICT),
        verdict_text.baseline(VERDICT),
    )
    assert "-" == verdict_text.baseline(changed(baseline=None))


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({}, "+12.5 % (slower)"),
        ({"noise": None}, "+12.5 % (slower)"),
        ({"change": 0.00001}, "unchanged"),
        ({"change": None}, "-"),
        ({"unit": "x", "change": -0.02}, "-2.0 %"),
    ],
)
def test_a_change_is_compared_with_the_noise(fields, text):
    """ln(1.125) / 0.04 = 2.9: by it a reader sees how sure it is."""
    assert text == verdict_text.change(changed(**fields))


def test_a_report_only_outcome_is_marked():
    """It fails no run."""
    assert "REGRESSED" == verdict_text.outcome(VERDICT)
    assert "REGRESSED (report-only)" == (
        verdict_text.outcome(changed(gate="report"))
    )


@pytest.mark.parametrize(
    ("moved", "ending"),
    [
        ("numerator", "; the numerator moved"),
        ("denominator", "; the denominator moved"),
        ("both", "; both sides moved"),
        (None, ""),
    ],
)
def test_the_side_that_moved_is_said(moved, ending):
    """Of a ratio whose sides are known."""
    text = verdict_text.finding_with_side(changed(moved=moved))

    assert f"9 ms, {VERDICT.summary}{ending}" == text


def test_a_whole_verdict_is_a_line_for_each_fact():
    """The decision first, the advice last, with a command that can be copied."""
    assert [
        "REGRESSED: vllm moe-tp2, closed-c32, itl_median_ms: 9 ms, "
        "+12.5 % vs the baseline 8 ms",
        "  Baseline: 6 launches.",
        "  Measured on 3 launches.",
        "  do:   `perfgate accept runs/1`",
    ] == verdict_text.render(VERDICT, "runs/1").splitlines()


def test_a_folder_of_several_words_is_one_word_of_the_command():
    """It is copied into a shell."""
    *_, advice = verdict_text.render(VERDICT, "runs/a b").splitlines()

    assert "  do:   `perfgate accept 'runs/a b'`" == advice


def test_reason_and_injection_have_a_line_each():
    """Only where there are any; without advice there is no last line."""
    text = verdict_text.render(
        changed(
            report_only_reason="too noisy", injected="2 ms a token", advice=""
        )
    )

    assert [
        "  Report-only: too noisy.",
        "  Injected: 2 ms a token. `accept` refuses such a run.",
    ] == text.splitlines()[3:]


def test_the_cause_comes_right_after_the_summary():
    """In the first line of a verdict, in one line, and in the text of several cases."""
    caused = changed(cause="graphs on -> off, chosen by the engine")
    summary = (
        f"{VERDICT.summary}, cause: graphs on -> off, chosen by the engine"
    )

    assert summary == verdict_text.summary(caused)
    assert f"9 ms, {summary}" == verdict_text.finding(caused)
    assert verdict_text.render(caused).splitlines()[0].endswith(summary)
    assert (
        f"REGRESSED: 3 cases: {summary}"
        == verdict_text.render_alike(caused, 3).splitlines()[0]
    )


def test_alike_verdicts_are_one_text():
    """With their number, without the value of any."""
    assert [
        "REGRESSED: 3 cases: +12.5 % vs the baseline 8 ms",
        "  do:   `perfgate accept RUN`",
    ] == verdict_text.render_alike(VERDICT, 3).splitlines()


def test_cases_without_a_baseline_have_one_reason():
    """Pytest counts equal skip reasons; one that has a value to compare says it."""
    first, second = (
        changed(outcome=Outcome.NO_BASELINE, baseline=None, value=value)
        for value in (1.0, 2.0)
    )
    published = changed(outcome=Outcome.NO_BASELINE)

    assert verdict_text.skip_reason(first) == verdict_text.skip_reason(second)
    assert verdict_text.render(published) == verdict_text.skip_reason(published)


def test_pairs_after_a_screen_are_marked():
    """What is report-only is marked so first: it fails no run."""
    screen = Screen(outcome="REGRESSED", reference="recorded")
    row = msgspec.structs.replace(
        VERDICT, outcome=Outcome.PASSED, gate="hard", screen=screen
    )
    report = msgspec.structs.replace(row, gate="report")

    assert "PASSED (pairs)" == verdict_text.outcome(row)
    assert "PASSED (report-only)" == verdict_text.outcome(report)
