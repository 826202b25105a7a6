"""Answers in whole sessions: a model that answers otherwise is red, however fast it is."""

from __future__ import annotations

import pytest

from perfgate.results.schema import load
from tests.support.projects import outcomes, record, verdicts

pytest_plugins = ["pytester"]
QUESTIONS = "questions.jsonl"
DENSE_CPU = "fake-llama-small-tp2"
ANSWERS = ("-m", "cpu", "-k", "test_answers", "--accuracy", QUESTIONS)
CASES = (
    "fake-llama-small-tp2/launch/answers_perplexity",
    "fake-llama-small-tp2/accuracy/accuracy",
)
# Kills the first server that a probe asks.
KILLS = """
import os, signal
from perfgate.run.probes import {probe}
from perfgate.servers.health import listeners

ask = {probe}.{function}
killed = []

def deadly(target, *more):
    if not killed:
        killed.extend(listeners(int(target.url.rpartition(":")[2])))
        os.kill(killed[0], signal.SIGKILL)
    return ask(target, *more)

{probe}.{function} = deadly
"""


@pytest.mark.parametrize(
    ("probe", "function"), [("accuracy", "measure"), ("answers", "read")]
)
def test_a_server_that_dies_of_a_question_is_launched_once_more(
    project, pytester, probe, function
):
    """So that its answers are graded; also where the fixed prompts before ended it."""
    (pytester.path / QUESTIONS).write_text('{"prompt": "a", "answer": "a"}\n')
    (pytester.path / "deadly.py").write_text(
        KILLS.format(probe=probe, function=function)
    )

    result = project(*ANSWERS, "-p", "deadly", "--run-dir", "run")

    result.stdout.fnmatch_lines(
        ["*SIGKILL, during: answering questions; launching it again*"]
    )
    run = load(pytester.path / "run")
    assert {"NO_BASELINE"} == set(verdicts(pytester.path / "run").values())
    assert run.complete
    first, *later = [row for row in run.measurements if row.server == DENSE_CPU]
    assert "answering questions" in first.failure.seen
    assert all(row.is_sound for row in later)


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


def test_questions_that_cannot_be_read_are_a_message(project, pytester):
    """It says what to write, without the code that read the file."""
    (pytester.path / QUESTIONS).write_text("2 + 2 = 4\n")

    result = project(*ANSWERS, "--collect-only")

    shown = result.stdout.str()
    assert result.ret != 0
    assert f"reading the questions {pytester.path / QUESTIONS}" in shown
    assert "  do:   write one JSON object a line" in shown
    assert "raise " not in shown
