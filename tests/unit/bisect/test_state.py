"""State of a bisection: written whole, read again, and refused for another question."""

from __future__ import annotations

import math

import msgspec
import pytest

from perfgate.bisect.state import STATE_FILE, BadBisection, opened, read, save
from tests.support.bisections import THROUGHPUT, row, session, state

STATE = state(3, session("b2", [0.1]))


def test_what_was_saved_is_read(tmp_path):
    """Every session, with its values."""
    save(tmp_path / "new", STATE)

    assert STATE == opened(tmp_path / "new", STATE.question)
    assert STATE == read(tmp_path / "new" / STATE_FILE)


def test_without_a_file_a_bisection_begins(tmp_path):
    """Nothing is written before something was measured."""
    found = opened(tmp_path / "none", STATE.question)

    assert (STATE.question, ()) == (found.question, found.sessions)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [
        ("engine", "sglang", "its engine were vllm, now they are sglang"),
        ("builds", ("b0", "b2"), "builds were b0 b1 b2, now they are b0 b2"),
        ("arguments", (), "arguments were -m h200, now they are (none)"),
    ],
)
def test_another_question_is_refused(tmp_path, field, value, text):
    """Pairs of one load say nothing about another."""
    save(tmp_path, STATE)
    other = msgspec.structs.replace(STATE.question, **{field: value})

    with pytest.raises(BadBisection) as caught:
        opened(tmp_path, other)

    assert text in caught.value.seen
    assert "--folder" in caught.value.remedy


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff", b'{"schema": 9}'])
def test_a_file_that_cannot_be_read_is_named(tmp_path, content):
    """With what to do."""
    (tmp_path / STATE_FILE).write_bytes(content)

    with pytest.raises(BadBisection) as caught:
        opened(tmp_path, STATE.question)

    assert STATE_FILE in caught.value.tried


def test_loss_is_a_logarithm_and_positive_where_worse():
    """Of a latency that grew, and of a throughput that fell."""
    assert [math.log(1.1)] == pytest.approx(row([0.1]).losses)
    assert [-math.log(0.9)] == pytest.approx(row([0.1], THROUGHPUT).losses)
    assert [math.log(0.8)] == pytest.approx(row([-0.2]).losses)
