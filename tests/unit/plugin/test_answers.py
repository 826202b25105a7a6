"""Answers in whole sessions: a model that answers otherwise is red, however fast it is."""

from __future__ import annotations

from tests.support.projects import outcomes, record, verdicts

pytest_plugins = ["pytester"]
ANSWERS = ("-m", "cpu", "-k", "answers_perplexity")
CASE = "fake-llama-small-tp2/launch/answers_perplexity"


def test_other_answers_are_red_and_the_same_ones_pass(
    project, pytester, monkeypatch
):
    """Another model in the place of one of two: its case alone turns red."""
    record(project, pytester, *ANSWERS)
    project(*ANSWERS, "--run-dir", "same")
    assert {"PASSED"} == set(verdicts(pytester.path / "same").values())
    monkeypatch.setenv("FAKE_MISBEHAVIOUR", 'llama-small: --set answer="b"')

    result = project(*ANSWERS, "--gate=required", "--run-dir", "other")

    assert {"passed": 1, "failed": 1} == outcomes(result)
    found = verdicts(pytester.path / "other")
    assert "REGRESSED" == found.pop(CASE)
    assert ["PASSED"] == list(found.values())
    result.stdout.fnmatch_lines(
        ["*the model answers otherwise: 16 of 16 answers*"]
    )
