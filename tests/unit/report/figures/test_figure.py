"""A figure has a title, a text alternative and its numbers; or says why it is missing."""

import pytest

from perfgate.report.figures.figure import (
    Picture,
    describe_lines,
    left_out,
    number,
)


def test_a_figure_without_data_says_why():
    """It keeps its key and title, and nothing is drawn."""
    picture = left_out("rates", "Latency over rate", "no load has a rate")

    assert Picture(
        "rates", "Latency over rate", missing="no load has a rate"
    ) == (picture)
    assert picture.svg is None


def test_a_drawing_is_added_to_what_is_known():
    """Everything else stays; the drawing has the title and the text alternative."""
    picture = Picture("k", "Title & more", description="a line", rows=(("1",),))

    drawn = picture.with_drawing(
        lambda figure: figure.subplots().plot([1, 2], [3, 4])
    )

    assert picture.svg is None
    assert (picture.key, picture.title, picture.rows) == (
        drawn.key,
        drawn.title,
        drawn.rows,
    )
    assert drawn.svg.startswith("<svg")
    assert "Title &amp; more" in drawn.svg
    assert "a line" in drawn.svg


@pytest.mark.parametrize(
    ("value", "text"), [(1234.5, "1,234"), (8.1251, "8.125"), (0.5, "0.5")]
)
def test_numbers_have_no_unit(value, text):
    """It stands on the axis; digits are those of the table."""
    assert text == number(value)


def test_lines_are_described_by_their_ends():
    """For those who do not see them; a single point has no end."""
    series = [("vllm", [(1, 8.0), (4, 9.0), (16, 12.0)]), ("base", [(1, 7.5)])]

    assert (
        "ITL, ms. vllm: from 8 at batch 1 to 12 at batch 16; base: 7.5 at batch 1."
        == describe_lines(series, "batch", "ITL, ms")
    )
