"""Work probe: counts of a batch become one repetition; no answer, or two, count for nothing."""

import msgspec
import pytest

from perfgate.engines.counts import Counts, Instructions
from perfgate.load.prompts import Synthetic
from perfgate.load.workload import Workload
from perfgate.run.probes import work
from perfgate.web import NoAnswer
from tests.support import builders as m

DECODE = Workload(
    name="decode",
    prompts=Synthetic(input_len_tokens=32, output_len_tokens=16),
    num_prompts=8,
    max_concurrency=4,
)
COUNTS = Counts(
    python_calls=10,
    c_calls=20,
    operators={"aten.mm.default": 30},
    new_tensor_bytes=40,
    steps=16,
    tokens=128,
    answers=("a", "b"),
    repeats=True,
)


def measured(monkeypatch, answer):
    """What the probe makes of the engine's answer, or of its failure."""

    def count(url, batch):
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(work, "count_batch", count)
    return work.measure(m.DENSE_CPU, "http://127.0.0.1:1", 2, DECODE)


def test_counts_are_one_repetition(monkeypatch):
    """Values of every count, the operators and the answers; nothing is invalid."""
    row = measured(monkeypatch, COUNTS)
    (repetition,) = row.repetitions
    assert (2, "decode") == (row.launch, row.workload)
    assert {"aten.mm.default": 30} == row.operators
    assert ("a", "b") == row.answers
    assert (30.0, 16.0) == (
        repetition.values["work_operators"],
        repetition.values["work_steps"],
    )
    assert () == repetition.invalid
    assert row.is_sound


def test_instructions_are_one_repetition(monkeypatch):
    """Of a server in valgrind nothing else is counted."""
    counted = Instructions(
        instructions=7, tokens=128, answers=("a", "b"), repeats=True
    )
    monkeypatch.setattr(work, "count_instructions", lambda url, batch: counted)
    config = msgspec.structs.replace(m.DENSE_CPU, held=True, instructions=True)

    row = work.measure(config, "http://127.0.0.1:1", 0, DECODE)

    assert {"work_instructions": 7.0} == row.repetitions[0].values
    assert {} == row.operators
    assert row.is_sound


def test_answers_that_differ_are_invalid(monkeypatch):
    """A batch that is answered otherwise the second time is no measure."""
    counts = msgspec.structs.replace(COUNTS, repeats=False)
    (repetition,) = measured(monkeypatch, counts).repetitions
    assert (work.UNSTEADY,) == repetition.invalid


def test_no_answer_is_a_failed_repetition(monkeypatch):
    """The reason is kept, and the launch is not judged."""
    failure = NoAnswer(tried="POST /count", seen="it was refused", remedy="r")
    row = measured(monkeypatch, failure)
    assert ("it was refused",) == row.repetitions[0].invalid
    assert not row.is_sound


@pytest.mark.parametrize(("streams", "expected"), [(4, 4), (None, 8)])
def test_the_batch_is_the_same_in_every_run(streams, expected):
    """Prompts of the first repetition, with as many in flight as the workload says."""
    workload = msgspec.structs.replace(DECODE, max_concurrency=streams)
    batch = work.batch_of(m.DENSE_CPU, workload)
    assert batch == work.batch_of(m.DENSE_CPU, workload)
    assert (8, 32, 16, expected) == (
        len(batch.prompts),
        len(batch.prompts[0]),
        batch.output_len_tokens,
        batch.max_concurrency,
    )
