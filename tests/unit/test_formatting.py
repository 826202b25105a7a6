"""Formatting: numbers, directions and differences as a person would say them."""

import pytest

from perfgate import formatting as wording


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [
        (12483.4, "tok/s", "12,483 tok/s"),
        (999.97, "tok/s", "1,000 tok/s"),
        (8.1234, "ms", "8.123 ms"),
        (3.6, "", "3.6"),
        (9999.6, "tok/s", "10,000 tok/s"),
        (2.6738, "x", "2.674x"),
        (262144.0, "tokens", "262,144 tokens"),
        (None, "ms", "-"),
        (46.7e9, "bytes", "46.7 GB"),
    ],
)
def test_numbers(value, unit, expected):
    """Four digits, thousands apart, bytes as GB, nothing after a ratio."""
    assert expected == wording.number(value, unit)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (0.121, "+12.1 %"),
        (-0.0021, "-0.21 %"),
        (0.00004, "unchanged"),
        (0.0, "unchanged"),
    ],
)
def test_directions(change, expected):
    """A sign, and a second digit where one says nothing; what prints as 0.00 % is unchanged."""
    assert expected == wording.change(change)


@pytest.mark.parametrize(
    ("number", "noun", "expected"),
    [
        (1, "launch", "1 launch"),
        (6, "launch", "6 launches"),
        (3, "run", "3 runs"),
    ],
)
def test_counts(number, noun, expected):
    """One is singular."""
    assert expected == wording.count(number, noun)


def test_differences_name_both_values():
    """A changed field, a new one and one that is gone; an empty value is visible."""
    now, then = (
        {"a": "1", "b": "2", "args": ""},
        {"a": "1", "b": "3", "args": "--x", "gone": "4"},
    )
    expected = [
        "args: (empty) now, --x in the baseline",
        "b: 2 now, 3 in the baseline",
        "gone: (none) now, 4 in the baseline",
    ]
    assert expected == wording.differences(now, then)


def test_long_lists_are_cut():
    """Six of eight items, and how many are left."""
    assert "a; b; c; d; e; f; and 2 more" == wording.listed(list("abcdefgh"))
