"""How a server died in a run of schema 1: a text becomes fields."""

from pathlib import Path

import msgspec
import pytest

from perfgate.errors import Failure, FailureRow
from perfgate.results.failure_upgrade import failure_fields, upgrade_failures

TAIL = "its last 40 lines:\n    one\n    two: do:   nothing"


@pytest.mark.parametrize(
    "failure",
    [
        Failure("measured vllm-x", "killed by SIGKILL", "look at the log"),
        Failure("measured", "status 7; it logged: OOM", "less", Path("/a.log")),
        Failure("measured", "status 7", "smaller\nbatches", Path("/a"), TAIL),
        Failure("measured", "it still runs", "ask", None, TAIL),
    ],
    ids=["short", "log", "log-and-tail", "tail"],
)
def test_text_of_a_failure_is_read_back(failure):
    """Its text has every field."""
    fields = failure_fields(str(failure))

    assert failure.row() == msgspec.convert(fields, FailureRow)


def test_other_text_is_what_was_seen():
    """Nothing of it is lost."""
    row = msgspec.convert(failure_fields("the server died"), FailureRow)

    assert "the server died" == row.seen


def test_each_row_gets_a_failure_or_none():
    """Undecoded fields are decoded; `error: null` goes."""
    rows = [
        {"launch": 0, "error": msgspec.Raw(b"null")},
        {"launch": 1, "error": msgspec.Raw(b'"cut"')},
        {"launch": 2},
        3,
    ]

    whole, died, *others = upgrade_failures(rows)

    assert {"launch": 0} == whole
    assert "cut" == died["failure"]["seen"]
    assert rows[2:] == others
