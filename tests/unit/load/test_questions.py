"""Questions: a file as a graded load, and files that are none."""

import pytest

from perfgate.load.prompts import UnusableWorkload
from perfgate.load.questions import read, workload_of

SUM = b'{"prompt": "2 + 2 =", "answer": "4", "max_tokens": 4}'
CAPITAL = b'{"prompt": "The capital of France is", "answer": "Paris"}'


def test_a_file_is_a_load_that_is_graded(tmp_path):
    """One question a line; empty lines are let through."""
    file = tmp_path / "questions.jsonl"
    file.write_bytes(SUM + b"\n\n" + CAPITAL + b"\n")

    workload = workload_of(file)

    assert (2, True) == (workload.num_prompts, workload.graded)
    assert [4, 32] == [question.max_tokens for question in read(file)]


def test_other_questions_are_another_load(tmp_path):
    """The content of the file is in its identity, its place is not."""
    first, same, other = (tmp_path / name for name in ("a", "b", "c"))
    first.write_bytes(SUM)
    same.write_bytes(SUM)
    other.write_bytes(CAPITAL)

    assert workload_of(first).fingerprint() == workload_of(same).fingerprint()
    assert workload_of(first).fingerprint() != workload_of(other).fingerprint()


@pytest.mark.parametrize(
    ("content", "seen"),
    [
        (b"", "no question"),
        (b"what is 2 + 2?", "line 1"),
        (SUM + b'\n{"prompt": "2"}', "line 2"),
        (b'{"prompt": "", "answer": "4"}', "line 1"),
        (SUM[:-1] + b', "x": ' + b"[" * 100_000, "line 1"),
    ],
)
def test_a_file_of_something_else_is_refused(tmp_path, content, seen):
    """The line is named, and what to write."""
    file = tmp_path / "questions.jsonl"
    file.write_bytes(content)

    with pytest.raises(UnusableWorkload, match=seen):
        workload_of(file)


def test_a_missing_file_is_refused(tmp_path):
    """With its path."""
    with pytest.raises(UnusableWorkload, match=r"none\.jsonl"):
        workload_of(tmp_path / "none.jsonl")
