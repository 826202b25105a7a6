"""Wrapped text: as wide as the terminal, and still to be read and copied."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfgate.wrapping import wrapped

WORDS = st.text(alphabet="abc+%.,0123456789", min_size=1, max_size=12)


def test_a_short_line_stays_as_it_is():
    """Whatever is in it."""
    assert "  a  b\n c" == wrapped("  a  b\n c", 6)


def test_it_goes_on_below_the_text_of_its_label():
    """So that labels stand alone at the left."""
    text = wrapped("  do:   find what changed", 20)

    assert "  do:   find what\n        changed" == text


@given(st.lists(WORDS, min_size=1), st.integers(16, 60))
def test_no_line_is_wider_and_no_word_is_lost(words, width):
    """Only a word that is too long for any line may be."""
    lines = wrapped(" ".join(words), width).split("\n")

    assert words == " ".join(lines).split()
    assert max(map(len, lines)) <= width


@pytest.mark.parametrize("width", range(13, 40))
def test_a_number_keeps_its_unit(width):
    """A number at the end of a line would be read without its per cent."""
    text = wrapped(
        "ITL +299.8 to +413.1 %, throughput 1,284 tok/s, 3.5 ms", width
    )

    assert not re.search(r"\d\n", text)


def test_a_command_stays_whole():
    """It moves to a line of its own before it is cut."""
    text = wrapped("If it is expected: `perfgate accept RUN`.", 30)

    assert "If it is expected:\n  `perfgate accept RUN`." == text


def test_a_long_command_goes_on_behind_a_backslash():
    """A shell reads it as one command; what is quoted stays together."""
    command = "`perfgate accept runs/a --only 'x y z' --reason 'WHY'`"
    text = wrapped(f"do: {command}", 34)

    assert max(map(len, text.split("\n"))) <= 34
    joined = re.sub(r" \\\n +", " ", text)
    assert command == joined.removeprefix("do:").strip()
    assert "'x y z'" in text
