"""Instructions: told to callgrind by machine code, which changes nothing outside valgrind."""

import importlib
import platform
import shutil
import subprocess
import sys

import pytest

from perfgate.engines.vllm import INSIDE

sys.path.insert(0, str(INSIDE))
perfgate_instructions = importlib.import_module("perfgate_instructions")
on_x86 = pytest.mark.skipif(
    platform.machine() != "x86_64", reason="client requests are of x86-64"
)
in_valgrind = pytest.mark.skipif(
    shutil.which("valgrind") is None, reason="needs valgrind"
)
PROGRAM = """
import perfgate_instructions as own
from pathlib import Path

callgrind = own.Callgrind(Path("counts"))
few, _ = callgrind.count(lambda: sum(range(1_000)))
many, value = callgrind.count(lambda: sum(range(100_000)))
assert value == sum(range(100_000))
assert 10 * few < many, (few, many)
"""


def answers(*batches):
    """Answers each of these in turn, the last one again and again."""
    left = list(batches)

    def answer():
        hashes = left.pop(0) if len(left) > 1 else left[0]
        return {"tokens": 2, "answers": hashes, "wall_ns": 1}

    return answer


def test_the_batch_is_counted_once_it_is_known():
    """The first ones are not, and what is not counted is left out."""
    counted = perfgate_instructions.instructions(
        answers(["a"], ["b"]), lambda work: (7, work())
    )

    assert {
        "instructions": 7,
        "tokens": 2,
        "answers": ["b"],
        "repeats": True,
    } == counted


def test_answers_that_change_are_told():
    """The counted batch was answered otherwise than the one before."""
    counted = perfgate_instructions.instructions(
        answers(["a"], ["a"], ["b"]), lambda work: (7, work())
    )

    assert not counted["repeats"]


def test_the_sum_of_a_file_of_counts():
    """Of all its functions; a file without a sum is an error."""
    text = "events: Ir\nfn=(1) main\n16 400\n\ntotals: 4321\n"

    assert 4321 == perfgate_instructions.total_of(text)
    with pytest.raises(ValueError, match="not enough values"):
        perfgate_instructions.total_of("events: Ir\n")


@on_x86
def test_a_request_outside_valgrind_does_nothing(tmp_path):
    """It returns, and nothing is written."""
    callgrind = perfgate_instructions.Callgrind(tmp_path / "counts")
    callgrind.request(perfgate_instructions.DUMP)

    assert [] == list(tmp_path.iterdir())


@on_x86
@in_valgrind
def test_valgrind_counts_what_is_asked_for(tmp_path):
    """A hundred times the work is ten times the instructions, at least."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    words = perfgate_instructions.command(tmp_path / "counts", ["program"])

    done = subprocess.run(
        words,
        cwd=tmp_path,
        env={"PYTHONPATH": f"{tmp_path}:{INSIDE}", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert 0 == done.returncode, done.stderr
    assert not list(tmp_path.glob("counts.*"))
