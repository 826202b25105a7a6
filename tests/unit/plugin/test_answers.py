"""Answers in whole sessions: a model that answers otherwise is red, however fast it is."""

from __future__ import annotations

from tests.support.projects import outcomes, record, verdicts

pytest_plugins = ["pytester"]
QUESTIONS = "questions.jsonl"
ANSWERS = ("-m", "cpu", "-k", "test_answers", "--accuracy", QUESTIONS)
CASES = (
    "fake-llama-small-tp2/launch/answers_perplexity",
    "fake-llama-small-tp2/accuracy/accuracy",
)


def test_other_answers_are_red_and_the_same_ones_pass(
    project, pytester, monkeypatch
):
    """Another model in the place of one of two: its cases alone turn red.

    What it answers to the fixed prompts, and to questions whose answers are known.
    """
    (pytester.path / QUESTIONS).write_text(
        '{"prompt": "Say a.", "answer": "a"}\n'
        '{"prompt": "Say it again.", "answer": "a"}\n'
    )
    record(project, pytester, *ANSWERS)
    project(*ANSWERS, "--run-dir", "same")
    assert {"PASSED"} == set(verdicts(pytester.path / "same").values())
    monkeypatch.setenv("FAKE_MISBEHAVIOUR", 'llama-small: --set answer="b"')

    result = project(*ANSWERS, "--gate=required", "--run-dir", "other")

    assert {"passed": 2, "failed": 2} == outcomes(result)
    found = verdicts(pytester.path / "other")
    for case in CASES:
        assert "REGRESSED" == found.pop(case)
    assert ["PASSED", "PASSED"] == list(found.values())
    result.stdout.fnmatch_lines(
        ["*the model answers otherwise: 16 of 16 answers*"]
    )
