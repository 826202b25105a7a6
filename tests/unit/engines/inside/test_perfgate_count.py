"""Counts inside an engine: calls, operators and bytes, and the batch that is counted."""

import contextlib
import gc
import importlib
import sys

import pytest

from perfgate.engines import vllm


@pytest.fixture
def counts(monkeypatch):
    """The module as an engine finds it: on PYTHONPATH, under its own name."""
    monkeypatch.syspath_prepend(str(vllm.INSIDE))
    return importlib.import_module("perfgate_count")


class Tensor:
    """Elements of 4 bytes."""

    def __init__(self, count):
        self._count = count

    def numel(self):
        """Elements."""
        return self._count

    def element_size(self):
        """Bytes of an element."""
        return 4


class Operator:
    """An operator of torch; a view makes no new bytes."""

    def __init__(self, name, is_view=False):
        self.is_view = is_view
        self._name = name

    def __str__(self):
        return self._name


def helper():
    """A Python function that calls one C function."""
    return len("abc")


def test_calls_are_counted_exactly(counts):
    """Python and C calls within the context; the same each time, and one more for one more."""

    def counted(times):
        with counts.Calls() as calls:
            for _ in range(times):
                helper()
        return calls.python, calls.c

    assert counted(5) == counted(5)
    python, c = (
        more - less for more, less in zip(counted(6), counted(5), strict=True)
    )
    assert (1, 1) == (python, c)
    assert sys.getprofile() is None


def test_operators_and_new_bytes(counts):
    """Each operator by name; bytes of what it returned, of a list as well, and none of a view."""
    noted = counts.Operators()
    noted.note(Operator("aten.mm"), Tensor(10), Tensor)
    noted.note(Operator("aten.mm"), [Tensor(1), Tensor(2), None], Tensor)
    noted.note(Operator("aten.view", is_view=True), Tensor(10), Tensor)
    noted.note(Operator("aten.item"), 3.0, Tensor)
    assert {"aten.mm": 2, "aten.view": 1, "aten.item": 1} == dict(noted.counts)
    assert 4 * (10 + 1 + 2) == noted.new_bytes


def test_a_batch_is_counted_after_one_that_is_not(counts):
    """Once uncounted: what is done once does not count, nor does the collector run."""
    collecting = []

    def answer():
        collecting.append(gc.isenabled())
        helper()
        return {"steps": 2, "tokens": 4, "answers": ["a", "b"]}

    @contextlib.contextmanager
    def operators():
        noted = counts.Operators()
        noted.note(Operator("aten.mm"), Tensor(3), Tensor)
        yield noted

    found = counts.counted(answer, operators)

    assert [True, False, False, False, False] == collecting
    assert gc.isenabled()
    assert {"aten.mm": 1} == found["operators"]
    assert (12, 2, 4, ["a", "b"], True) == (
        found["new_tensor_bytes"],
        found["steps"],
        found["tokens"],
        found["answers"],
        found["repeats"],
    )
    # answer, helper
    assert found["python_calls"] >= 2


def test_what_is_done_by_the_clock_does_not_count(counts):
    """A log line in one of the batches, whichever: the others had none."""

    def counted(busy_batch):
        batches = iter(range(10))

        def answer():
            if next(batches) == busy_batch:
                helper()
            return {"steps": 1, "tokens": 1, "answers": ["a"]}

        found = counts.counted(
            answer, lambda: contextlib.nullcontext(counts.Operators())
        )
        return found["python_calls"], found["c_calls"]

    assert 1 == len({counted(busy_batch) for busy_batch in range(5)})


def test_answers_that_do_not_repeat_are_told(counts):
    """Another answer to the same batch is no count to compare."""
    answers = iter(["a", "a", "a", "a", "b"])

    def answer():
        return {"steps": 1, "tokens": 1, "answers": [next(answers)]}

    found = counts.counted(
        answer, lambda: contextlib.nullcontext(counts.Operators())
    )

    assert found["repeats"] is False
