"""Failures: what was tried, what was seen, and the remedy."""

from pathlib import Path

from perfgate.errors import Failure

FULL = Failure(
    "launching it", "exit 1", "look", Path("logs/x.log"), "last words"
)


def test_one_message():
    """Tried, seen with its detail, log, remedy; a line that is lacking is left out."""
    told = "launching it\n  seen: exit 1; last words\n  log:  logs/x.log\n  do:   look"

    assert told == str(FULL)
    assert "a\n  seen: b\n  do:   c" == str(Failure("a", "b", "c"))


def test_told_whole_only_once():
    """Where another test has told all of it, that test is named in place of the detail."""
    assert "exit 1; details in test_a" in FULL.brief("test_a")
    assert "last words" not in FULL.brief("test_a")
    assert str(Failure("a", "b", "c")) == Failure("a", "b", "c").brief("test_a")


def test_a_failure_is_stored_and_told_again():
    """By another process it reads the same."""
    again = Failure.from_row(FULL.row())

    assert (str(FULL), FULL.row()) == (str(again), again.row())
